"""Each limit, met by a real client: the code that protocol.md names, the count in the metrics, and others unharmed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from ngos.gateway.limits import Limit
from ngos.gateway.listener import TURNED_AWAY
from ngos.gateway.server import _Deadline
from tests.servers import Running, running_server
from tests.tokens import Mint
from tests.web.test_authentication import ask, greeted
from tests.web.test_routes import EVENT, assert_error
from tests.web.wire import ANSWER_S, PING, PONG, RawSocket, frame, knock, origin_of, raw_socket, request, upgrade

Scenario = Callable[[Running, Mint], Awaitable[None]]
SCENARIOS: dict[Limit, tuple[dict[str, Any], Scenario]] = {}
"""For each limit, the settings that make it small, and what meets it."""


def meets(limit: Limit, **settings: Any) -> Callable[[Scenario], Scenario]:
    def note(scenario: Scenario) -> Scenario:
        SCENARIOS[limit] = (settings, scenario)
        return scenario

    return note


async def until_refused(socket: RawSocket, payload: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask until there is an error, and return it; what was asked before is answered."""
    for n in range(1000):
        reply = await ask(socket, "ping" if payload is None else "publish", payload, id_=f"c{n}")
        if "code" in reply:
            assert f"c{n}" == reply["original_message_id"]
            return reply
    raise AssertionError("never refused")


@meets(Limit.MESSAGE_BYTES, message_bytes=2048)
async def too_large(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        await socket.text(b"[" + b" " * 2048)
        assert 1009 == await socket.closed()
    body = {"type": "x", "payload": {"text": "x" * 2048}}
    assert 413 == (await request(server.http, "POST", "/ws/publish/x", body=body)).status


@meets(Limit.MESSAGE_DEPTH, message_depth=8)
async def too_deep(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        await socket.text(b'{"id": "deep", "type": "ping", "x": ' + b"[" * 40 + b"]" * 40 + b"}")
        error = await socket.message()
        assert ("deep", "invalid_json") == (error["reply_to"], error["payload"]["code"])
        assert "deeper than 8" in error["payload"]["message"]


@meets(Limit.SUBSCRIPTIONS, subscriptions=2)
async def too_many_topics(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        assert "subscribed" == (await ask(socket, "subscribe", {"topic": "tokens"}))["is"]
        assert "subscribed" == (await ask(socket, "subscribe", {"topic": "a"}))["is"]
        assert "too_many_subscriptions" == (await ask(socket, "subscribe", {"topic": "graph"}))["is"]
        assert "subscribed" == (await ask(socket, "subscribe", {"topic": "a"}))["is"], "again is not one more"
        await ask(socket, "unsubscribe", {"topic": "a"})
        assert "subscribed" == (await ask(socket, "subscribe", {"topic": "graph"}))["is"]


@meets(Limit.CUSTOM_TOPICS, custom_topics=1)
async def too_many_custom_topics(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        assert "subscribed" == (await ask(socket, "subscribe", {"topic": "a"}))["is"]
        assert "too_many_subscriptions" == (await ask(socket, "subscribe", {"topic": "b"}))["is"]
        for own in ("tokens", "graph", "experience", "system"):
            assert "subscribed" == (await ask(socket, "subscribe", {"topic": own}))["is"]


@meets(Limit.DURABLE_TOPIC_NAMES, durable_topic_names=5, durable_topics=("*",))
async def too_many_durable_topics(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        assert "published" == (await ask(socket, "publish", {"topic": "a", "type": "x"}))["is"]
        assert "subscribed" == (await ask(socket, "subscribe", {"topic": "b"}))["is"]
        assert "forbidden" == (await ask(socket, "publish", {"topic": "c", "type": "x"}))["is"]
        assert "forbidden" == (await ask(socket, "subscribe", {"topic": "d"}))["is"]
        assert "published" == (await ask(socket, "publish", {"topic": "b", "type": "x"}))["is"]
    assert_error(await request(server.http, "POST", "/ws/publish/e", body=EVENT), 403, "forbidden")


@meets(Limit.IN_FLIGHT, in_flight=1)
async def too_many_at_once(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        for n in range(50):
            await socket.command("token.create", id=str(n))
        assert [str(n) for n in range(50)] == [(await socket.message())["reply_to"] for _ in range(50)]


@meets(Limit.CONNECTIONS, connections=2)
async def too_many_connections(server: Running, _mint: Mint) -> None:
    async with greeted(server), greeted(server) as second:
        answer = await knock(server.http)
        assert_error(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
        assert 200 == (await request(server.http, "GET", "/readyz")).status, "probes come in"
        assert "pong" == (await ask(second, "ping"))["is"]


@meets(Limit.CONNECTIONS_PER_ADDRESS, connections_per_address=3)
async def too_many_of_an_address(server: Running, _mint: Mint) -> None:
    async with greeted(server), greeted(server) as second, greeted(server):
        answer = await knock(server.http)
        assert (429, "1") == (answer.status, answer.headers["retry-after"])
        assert "pong" == (await ask(second, "ping"))["is"]
        async with await from_address(server, "127.0.0.2") as stream:
            await stream.send_all(upgrade(*origin_of(server.http)))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")


async def from_address(server: Running, address: str) -> trio.SocketStream:
    host, port = origin_of(server.http)
    return await trio.open_tcp_stream(host, port, local_address=address)


@meets(Limit.CONNECTIONS_PER_SUBJECT, connections_per_subject=1)
async def too_many_of_a_subject(server: Running, mint: Mint) -> None:
    async with greeted(server, headers=mint.bearer()):
        assert_error(await knock(server.http, headers=mint.bearer()), 429, "rate_limited")


@meets(Limit.ARRIVALS_PER_S, arrivals_at_once=20, arrivals_per_s=0.1)
async def too_many_arrivals(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        statuses = [(await request(server.http, "GET", "/livez")).status for _ in range(15)]
        assert {200, 429} == set(statuses)
        assert sorted(statuses) == statuses, "from then on"
        assert "pong" == (await ask(socket, "ping"))["is"], "who is in stays"
        async with await from_address(server, "127.0.0.2") as stream:
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


@meets(Limit.COMMANDS_PER_S, commands_per_s=1.0, burst_s=10.0)
async def too_many_commands(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket, greeted(server) as other:
        error = await until_refused(socket)
        assert ("rate_limited", True) == (error["code"], error["retryable"])
        assert error["details"]["retry_after_ms"] >= 1000
        assert "pong" == (await ask(other, "ping"))["is"]


@meets(Limit.BYTES_PER_S, bytes_per_s=2000.0)
async def too_many_bytes(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        error = await until_refused(socket, {"topic": "x", "type": "x", "payload": {"text": "x" * 1000}})
        assert "rate_limited" == error["code"]


@meets(Limit.SUBJECT_COMMANDS_PER_S, subject_commands_per_s=0.1, burst_s=100.0)
async def too_many_commands_of_a_subject(server: Running, mint: Mint) -> None:
    async with greeted(server, headers=mint.bearer()) as one, greeted(server, headers=mint.bearer()) as two:
        assert "rate_limited" == (await until_refused(one))["code"]
        assert "rate_limited" == (await ask(two, "ping"))["is"], "all of its connections together"
        async with greeted(server, headers=mint.bearer("bob")) as other:
            assert "pong" == (await ask(other, "ping"))["is"]
    async with greeted(server, headers=mint.bearer()) as back:
        assert "rate_limited" == (await ask(back, "ping"))["is"], "coming back does not wipe the slate"


@meets(Limit.SUBJECT_BYTES_PER_S, subject_bytes_per_s=2000.0)
async def too_many_bytes_of_a_subject(server: Running, mint: Mint) -> None:
    async with greeted(server, headers=mint.bearer()) as socket:
        error = await until_refused(socket, {"topic": "x", "type": "x", "payload": {"text": "x" * 1000}})
        assert "rate_limited" == error["code"]


@meets(Limit.OVER_LIMIT_S, commands_per_s=5.0, burst_s=1.0, over_limit_s=2.0)
async def too_much_for_too_long(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket, greeted(server) as pinger, greeted(server) as fragmenter:
        await socket.stream.send_all(frame(1, b'{"type": "no.such.command"}') * 100)
        assert 4429 == await socket.closed()
        await fragmenter.frame(1, b"x", fin=False)
        for flooder, frames in ((pinger, frame(PING) * 100), (fragmenter, frame(0, b"x", fin=False) * 100)):
            await flooder.stream.send_all(frames + frame(PING, b"last"))
            while (PONG, b"last") != await flooder.next_frame():
                pass
            with suppress(trio.BrokenResourceError):  # it was closed, and cut, before
                await flooder.stream.send_all(frames)
            assert 4429 == await flooder.closed()


@meets(Limit.HANDSHAKE_S, handshake_s=0.2)
async def too_slow_a_handshake(server: Running, _mint: Mint) -> None:
    async with await from_address(server, "127.0.0.1") as stream:
        await stream.send_all(b"GET /ws HTTP/1.1\r\nHost: a\r\nX: ")
        with trio.fail_after(ANSWER_S):
            assert b"" == await stream.receive_some()


@meets(Limit.HEADER_BYTES, header_bytes=1024)
async def too_long_a_header(server: Running, _mint: Mint) -> None:
    assert 431 == (await knock(server.http, headers={"X": "x" * 6000})).status


@meets(Limit.AUTH_TIMEOUT_S, auth_timeout_s=0.2)
async def too_late_a_token(server: Running, _mint: Mint) -> None:
    async with greeted(server) as socket:
        assert 4401 == await socket.closed()


OF_SUBJECTS: Final = frozenset(
    {Limit.CONNECTIONS_PER_SUBJECT, Limit.SUBJECT_COMMANDS_PER_S, Limit.SUBJECT_BYTES_PER_S, Limit.AUTH_TIMEOUT_S}
)


@pytest.mark.parametrize("limit", Limit)
async def test_each_limit(database_url: str, tmp_path: Path, limit: Limit) -> None:
    """Tries to go over each limit: the client is told by the right code, and an operator sees it in the metrics."""
    settings, scenario = SCENARIOS[limit]
    mint = Mint(tmp_path)
    tokens = mint.settings if limit in OF_SUBJECTS else {}
    async with running_server(database_url, **settings, **tokens) as server:
        with pytest.MonkeyPatch.context() as patch:
            # Who asks first is none of those who meet the limit of the handshake.
            patch.setattr("ngos.gateway.server._Deadline", lambda *_: _Deadline(ANSWER_S, ANSWER_S))
            before = await refused(server, mint, limit)
        await scenario(server, mint)
        assert server.app.connections.refusals.counts[limit] > before
        others = {name: n for name, n in server.app.connections.refusals.counts.items() if n and name != limit}
        assert others.keys() <= {Limit.COMMANDS_PER_S, Limit.ARRIVALS_PER_S}


async def refused(server: Running, mint: Mint, limit: Limit) -> int:
    """What the metrics tell of a limit."""
    text = (await request(server.http, "GET", "/metrics", headers=mint.bearer())).body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f'ngos_refused_total{{limit="{limit}"}}')]
    return int(float(line.split()[1]))


async def test_who_comes_by_a_proxy_is_counted_by_himself(database_url: str) -> None:
    """Tries to have more WebSockets behind a proxy than an address may, and to lock out others there."""
    async with running_server(database_url, proxies=("127.0.0.1",), connections_per_address=2) as server:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(greeted(server, headers={"X-Forwarded-For": "1.2.3.4"}))
            assert_error(await knock(server.http, headers={"X-Forwarded-For": "9.9.9.9, 1.2.3.4"}), 429)
            async with greeted(server, headers={"X-Forwarded-For": "1.2.3.5"}) as other:
                assert "pong" == (await ask(other, "ping"))["is"]
        while server.app.connections.open:  # noqa: ASYNC110 - nobody could set an Event
            await trio.sleep(0.01)
        async with greeted(server, headers={"X-Forwarded-For": "1.2.3.4"}) as back:
            assert "pong" == (await ask(back, "ping"))["is"]


async def test_many_who_are_turned_away(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to keep the server busy with those for whom there is no room: some are told so, all are soon gone."""
    monkeypatch.setattr("ngos.gateway.listener.TURN_AWAY_S", ANSWER_S)  # else who came first may be gone untold
    async with running_server(database_url, connections_per_address=1) as server:
        async with raw_socket(server.http) as inside, AsyncExitStack() as stack:
            await inside.message()
            told = []
            with trio.fail_after(ANSWER_S):
                streams = []
                for _ in range(200):
                    with suppress(OSError):  # cut in the midst of its handshake
                        streams.append(await stack.enter_async_context(await from_address(server, "127.0.0.1")))
                for stream in streams:
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(upgrade(*origin_of(server.http)))
                        told.append((await stream.receive_some())[:12])
            assert {b"HTTP/1.1 429"} >= set(told)
            assert 1 <= len(told) <= TURNED_AWAY
            await inside.command("ping", id="1")
            assert "pong" == (await inside.message())["type"]
        assert 1 >= server.app.connections.door.open


async def test_what_many_listen_to_is_dearer(database_url: str) -> None:
    """Tries to send as much to a topic that many follow as to one that nobody does."""
    async with running_server(database_url, commands_per_s=1.0, burst_s=60.0) as server, AsyncExitStack() as stack:
        for _ in range(50):
            listener = await stack.enter_async_context(greeted(server))
            await ask(listener, "subscribe", {"topic": "many"})
        published = {}
        for topic in ("many", "none"):
            socket = await stack.enter_async_context(greeted(server))
            count = 0
            while (await ask(socket, "publish", {"topic": topic, "type": "x"}))["is"] == "published":
                count += 1
            published[topic] = count
    assert published["many"] * 2 < published["none"]
