"""Who somebody is, over the life of a connection: shown at the upgrade or in-band, renewed, changed, expired."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from ngos.auth.grants import EVERYTHING
from ngos.client.trio import connect
from tests.databases import TestServer
from tests.servers import Running, running_server, shared_server
from tests.tokens import Mint, grant
from tests.web.test_routes import EVENT, assert_error
from tests.web.wire import RawSocket, knock, raw_socket, request

BAD = {"garbage": "garbage", "empty": "", "dots": "..", "long": "a" * 9000, "half": "eyJhbGciOiJIUzI1NiJ9.e30"}


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory) -> Mint:
    return Mint(tmp_path_factory.mktemp("mint"))


@pytest.fixture(scope="module")
def guarded(postgres_server: TestServer, mint: Mint) -> Iterator[Running]:
    with shared_server(postgres_server, **mint.settings) as running:
        yield running


@asynccontextmanager
async def greeted(
    server: Running, target: str = "/ws", headers: dict[str, str] | None = None
) -> AsyncIterator[RawSocket]:
    async with raw_socket(server.http, target, headers) as socket:
        assert "connection.established" == (await socket.message())["type"]
        yield socket


async def ask(socket: RawSocket, type_: str, payload: dict[str, Any] | None = None, id_: str = "1") -> dict[str, Any]:
    """The reply's payload, with its type or its error's code as `is`."""
    await socket.command(type_, payload, id=id_)
    while (reply := await socket.message()).get("reply_to") != id_:
        pass
    name = reply["payload"]["code"] if reply["type"] == "error" else reply["type"]
    return {**reply["payload"], "is": name}


async def test_in_band(guarded: Running, mint: Mint) -> None:
    """A browser shows its token by the first command, and from then on may do what it allows."""
    async with greeted(guarded) as socket:
        assert "unauthenticated" == (await ask(socket, "ping"))["is"]
        reply = await ask(socket, "authenticate", {"token": mint.token("bob", grant("read"))})
        assert ("authenticated", "bob") == (reply["is"], reply["subject"])
        assert reply["expires_at"].endswith("Z")
        assert "token.list" == (await ask(socket, "token.list"))["is"]
        assert "forbidden" == (await ask(socket, "token.create"))["is"]


@pytest.mark.parametrize("bad", BAD)
async def test_bad_tokens(guarded: Running, bad: str) -> None:
    """What is no token is 401 at the upgrade and over HTTP, and `unauthenticated` in-band; a next try may be good."""
    headers = {"Authorization": f"Bearer {BAD[bad]}" if BAD[bad] else "Bearer x"}
    answer = await knock(guarded.http, headers=headers)
    assert_error(answer, 401, "unauthenticated")
    assert 'Bearer realm="ngos", error="invalid_token"' == answer.headers["www-authenticate"]
    assert_error(await request(guarded.http, "GET", "/ws/stats", headers=headers), 401, "unauthenticated")
    async with greeted(guarded) as socket:
        reply = await ask(socket, "authenticate", {"token": BAD[bad]})
        assert reply["is"] == ("unauthenticated" if BAD[bad] else "invalid_payload")
        assert BAD[bad] not in reply["message"] or not BAD[bad]


@pytest.mark.parametrize(
    "value", ["Basic YTpi", "Bearer", "bearer ", "Token x", "Bearer a b", "Bearer a, Bearer b", "é"]
)
async def test_other_authorizations(guarded: Running, value: str) -> None:
    """Another scheme, half a header or two in one is 401, never let in as if there had been none."""
    assert_error(await knock(guarded.http, headers={"Authorization": value}), 401)


async def test_two_authorizations(guarded: Running, mint: Mint) -> None:
    """Two headers, of which a proxy may have looked at the other one, are 401."""
    headers = {"Authorization": f"Bearer x\r\nAuthorization: Bearer {mint.token()}"}
    assert_error(await knock(guarded.http, headers=headers), 401)


async def test_the_scheme_has_no_case(guarded: Running, mint: Mint) -> None:
    """`bearer` is `Bearer` (RFC 9110 section 11.1)."""
    async with greeted(guarded, headers={"Authorization": f"bearer {mint.token()}"}) as socket:
        assert "pong" == (await ask(socket, "ping"))["is"]


async def test_who_does_not_say_who_he_is(database_url: str, mint: Mint) -> None:
    """Tries to stay without a token by sending other commands, and bad tokens: it ends with 4401 all the same."""
    async with running_server(database_url, **mint.settings) as server, greeted(server) as known:
        assert "authenticated" == (await ask(known, "authenticate", {"token": mint.token(lifetime_s=3600)}))["is"]
        (connection,) = server.app.connections.open.values()
        assert connection._scope.deadline > trio.current_time() + 3000, "it ends with its token"
        # Not before, or who is known would have had to say so in as little time.
        server.app.apply(attrs.evolve(server.app.settings, auth_timeout_s=0.7))
        async with greeted(server) as silent, greeted(server) as busy:
            for _ in range(20):
                await busy.command("ping")
            await busy.command("authenticate", {"token": "x"})
            assert 4401 == await silent.closed()
            assert 4401 == await busy.closed()
            assert "pong" == (await ask(known, "ping"))["is"]
        assert server.app.connections.refusals.counts["auth_timeout_s"] == 2


async def test_a_stranger_that_does_not_stop(guarded: Running) -> None:
    """Tries to keep the server reading without ever saying who one is: 4401, long before the time is over."""
    async with greeted(guarded) as socket:
        for n in range(65):
            await socket.command("token.list", {"limit": "all"}, id=str(n))
        replies = [(await socket.message())["payload"]["code"] for _ in range(65)]
        assert ["invalid_payload"] * 65 == replies
        assert 4401 == await socket.closed()


def bearer_for_2_s(mint: Mint) -> dict[str, str]:
    """Tokens are good from the full second before: as much more as is gone of that."""
    return mint.bearer(lifetime_s=2 + time.time() % 1)


async def test_expiry(guarded: Running, mint: Mint) -> None:
    """Tries to go on with a token that is over: 4401, for the writer and for the mere listener."""
    headers = bearer_for_2_s(mint)
    async with greeted(guarded, headers=headers) as writer, greeted(guarded, headers=headers) as listener:
        assert "subscribed" == (await ask(listener, "subscribe", {"topic": "tokens"}))["is"]
        assert "token.created" == (await ask(writer, "token.create"))["is"]
        assert 4401 == await writer.closed()
        assert 4401 == await listener.closed()
    assert_error(await knock(guarded.http, headers=headers), 401)


async def test_renewal(guarded: Running, mint: Mint) -> None:
    """A renewed token carries the connection, and its subscription, past the end of the first one."""
    headers = bearer_for_2_s(mint)
    async with greeted(guarded, headers=headers) as short, greeted(guarded, headers=headers) as renewed:
        await ask(renewed, "subscribe", {"topic": "tokens"})
        assert "authenticated" == (await ask(renewed, "authenticate", {"token": mint.token(lifetime_s=60)}))["is"]
        assert 4401 == await short.closed()
        assert "pong" == (await ask(renewed, "ping"))["is"]


async def test_another_subject(guarded: Running, mint: Mint) -> None:
    """Tries to become somebody else on the way: forbidden, and the connection stays who it was."""
    async with greeted(guarded, headers=mint.bearer("alice")) as socket:
        assert "forbidden" == (await ask(socket, "authenticate", {"token": mint.token("bob")}))["is"]
        assert "unauthenticated" == (await ask(socket, "authenticate", {"token": "x"}))["is"]
        assert "token.created" == (await ask(socket, "token.create"))["is"]


async def test_a_token_that_allows_less(guarded: Running, mint: Mint) -> None:
    """Tries to keep what a new token does not allow: commands end at once, topics that are followed are asked back."""
    async with greeted(guarded, headers=mint.bearer("alice")) as socket:
        await ask(socket, "subscribe", {"topic": "tokens"})
        less = mint.token("alice", grant("read", subscribe=("graph",)))
        reply = await ask(socket, "authenticate", {"token": less})
        assert ("forbidden", {"topics": ["tokens"]}) == (reply["is"], reply["details"])
        assert "token.created" == (await ask(socket, "token.create"))["is"], "all stays as it was"
        await ask(socket, "unsubscribe", {"topic": "tokens"})
        assert "authenticated" == (await ask(socket, "authenticate", {"token": less}))["is"]
        assert "forbidden" == (await ask(socket, "token.create", id_="2"))["is"]
        assert "forbidden" == (await ask(socket, "subscribe", {"topic": "tokens"}))["is"]
        assert "subscribed" == (await ask(socket, "subscribe", {"topic": "graph"}))["is"]


async def test_idempotency_is_the_subjects(guarded: Running, mint: Mint) -> None:
    """Tries to get another's reply, or to have his command taken for done, by using his client_id and his id."""
    command = ("token.create", {"type": "once"}, "same-id")
    async with greeted(guarded, "/ws?client_id=alice", mint.bearer("alice")) as first:
        mine = await ask(first, *command)
    async with greeted(guarded, "/ws?client_id=elsewhere", mint.bearer("alice")) as again:
        assert mine["token_id"] == (await ask(again, *command))["token_id"]
    async with greeted(guarded, "/ws?client_id=alice", mint.bearer("mallory")) as other:
        assert mine["token_id"] != (await ask(other, *command))["token_id"]
    async with greeted(guarded, "/ws?client_id=subject:alice", mint.bearer("mallory")) as other:
        assert mine["token_id"] != (await ask(other, *command))["token_id"]


async def test_too_many_of_one_subject(database_url: str, mint: Mint) -> None:
    """Tries to open more connections than a subject may have: 429 at the upgrade, 4429 in-band; others come in."""
    async with running_server(database_url, **mint.settings, connections_per_subject=2) as server:
        async with greeted(server, headers=mint.bearer("alice")) as socket, greeted(server) as second:
            assert "authenticated" == (await ask(second, "authenticate", {"token": mint.token("alice")}))["is"]
            assert "authenticated" == (await ask(second, "authenticate", {"token": mint.token("alice")}))["is"]
            answer = await knock(server.http, headers=mint.bearer("alice"))
            assert_error(answer, 429, "rate_limited")
            assert int(answer.headers["retry-after"]) > 0
            async with greeted(server) as third:
                reply = await ask(third, "authenticate", {"token": mint.token("alice")})
                assert "rate_limited" == reply["is"]
                assert reply["details"]["retry_after_ms"] > 0
                assert 4429 == await third.closed()
            async with greeted(server, headers=mint.bearer("bob")) as other:
                assert "pong" == (await ask(other, "ping"))["is"]
            assert "pong" == (await ask(socket, "ping"))["is"]
        while server.app.connections.open:  # noqa: ASYNC110 - nobody could set an Event
            await trio.sleep(0.01)
        async with greeted(server, headers=mint.bearer("alice")) as back:
            assert "pong" == (await ask(back, "ping"))["is"]


async def test_a_subject_over_http(database_url: str, mint: Mint) -> None:
    """Tries to publish more over HTTP than a subject may: 429 with Retry-After, and others go on."""
    limits = {"subject_commands_per_s": 1.0, "burst_s": 2.0}
    async with running_server(database_url, **mint.settings, **limits) as server:
        statuses = [
            (await request(server.http, "POST", "/ws/publish/x", body=EVENT, headers=mint.bearer("alice"))).status
            for _ in range(8)
        ]
        assert {200, 429} == set(statuses)
        answer = await request(server.http, "POST", "/ws/publish/x", body=EVENT, headers=mint.bearer("bob"))
        assert 200 == answer.status


async def test_nothing_of_a_token_is_logged(database_url: str, mint: Mint) -> None:
    """Tries to find a token, good or bad, in the log, in the metrics or in /ws/connections."""
    secret_bits = "verysecretgarbage"
    with capture_logs() as logs:
        async with running_server(database_url, **mint.settings) as server:
            good = mint.token("alice")
            headers = {"Authorization": f"Bearer {good}"}
            async with connect(server.url, token=good) as client, greeted(server) as socket:
                await client.authenticate(good)
                await ask(socket, "authenticate", {"token": secret_bits})
                await ask(socket, "authenticate", {"token": secret_bits, "more": 1})
                assert 401 == (await knock(server.http, headers={"Authorization": f"Bearer {secret_bits}"})).status
                shown = (await request(server.http, "GET", "/ws/connections", headers=headers)).body.decode()
                shown += (await request(server.http, "GET", "/metrics", headers=headers)).body.decode()
    said = repr(logs) + shown
    assert secret_bits not in said
    assert good not in said
    assert good.rpartition(".")[2] not in said
    assert '"subject":"alice"' in shown
    assert 'ngos_tokens_refused_total{reason="malformed"} 2.0' in shown


async def test_without_authentication_tokens_mean_nothing(database_url: str) -> None:
    """In mode `none` any token is taken, at the upgrade and in-band, and nobody becomes a subject by it."""
    async with running_server(database_url) as server, greeted(server, headers={"Authorization": "Bearer x"}) as socket:
        reply = await ask(socket, "authenticate", {"token": "x"})
        assert ("authenticated", None) == (reply["is"], reply["expires_at"])
        assert [None] == [connection.identity for connection in server.app.connections.open.values()]


async def test_keys_that_never_came(database_url: str) -> None:
    """A server whose keys can't be fetched lets nobody in, and says in /readyz that it can't."""
    settings = {
        "auth_mode": "jwt",
        "auth_jwks_url": "http://127.0.0.1:1/keys",
        "auth_issuer": "https://issuer.example",
        "auth_audience": "ngos",
    }
    async with running_server(database_url, **settings) as server:
        ready = await request(server.http, "GET", "/readyz")
        assert 503 == ready.status
        assert 1 == len(ready.json["reasons"])
        assert 401 == (await knock(server.http, headers={"Authorization": "Bearer e30.e30.e30"})).status


async def test_a_grant_that_is_everything(guarded: Running, mint: Mint) -> None:
    """A token that allows everything still can't publish to the server's own topics."""
    async with greeted(guarded, headers=mint.bearer("alice", EVERYTHING)) as socket:
        for topic in ("tokens", "system"):
            assert "forbidden" == (await ask(socket, "publish", {"topic": topic, "type": "x"}))["is"]
