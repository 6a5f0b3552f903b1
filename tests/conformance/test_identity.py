"""Who a client is, to a real server that asks for tokens: shown, refused, expired, renewed, and what they allow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ngos.auth.grants import Family, Grant
from tests.asking import LONG_S, Asking, asking_server, make_secret
from tests.client.fakes import Peer
from tests.conformance.actors import Actor, Failed, Remote
from tests.conformance.conftest import Scripted
from tests.servers import running_server

READ = Grant(frozenset({Family.READ}), ("tokens",), ())
SHORT_S = 3.0
"""For tokens whose end is waited for; what is done before it takes less."""


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    return make_secret(tmp_path)


@pytest.fixture
async def asking(database_url: str, secret_file: Path) -> AsyncIterator[Asking]:
    """A server that asks."""
    async with asking_server(database_url, secret_file) as asking:
        yield asking


async def connected(actor: Actor, url: str, name: str = "a", **fields: Any) -> Remote:
    """Connect, and wait for what the server says to who this is: only headers are answered before the greeting."""
    client = await actor.connect(url, name, **fields)
    await client.call("ping")
    return client


async def ended(client: Remote) -> int:
    """Wait for the end of a client, and return the code that it is told with."""
    await client.actor.until(lambda: any(call["next_s"] is None for call in client.called("disconnected")), "end")
    with pytest.raises(Failed) as caught:
        await client.call("ping")
    assert "ConnectionLost" == caught.value.kind
    assert "ended" == await client.state()
    return int(caught.value.fields["code"])


async def test_known(actor: Actor, asking: Asking) -> None:
    """Tries to have a client with a token be somebody else, or nobody."""
    client = await connected(actor, asking.url, token=asking.token())
    await client.subscribe("tokens")
    made = await client.call("create_token", type="mine")
    (event,) = await client.events(1)
    assert made["token_id"] == event["payload"]["token_id"]
    (connection,) = asking.running.app.connections.open.values()
    assert connection.identity is not None
    assert "me" == connection.identity.subject


async def test_a_function_is_asked(actor: Actor, asking: Asking) -> None:
    """Tries to connect without asking the program's function, or to ask it more often than it connects."""
    client = await connected(actor, asking.url, tokens=[asking.token()])
    await client.call("create_token")
    assert 1 == len(client.called("asked"))


async def test_nobody(actor: Actor, asking: Asking) -> None:
    """Tries to give commands, or to follow a topic, without saying who one is."""
    client = await actor.connect(asking.url)
    for try_it in (client.call("create_token"), client.subscribe("tokens")):
        with pytest.raises(Failed) as caught:
            await try_it
        assert ("CommandError", "unauthenticated") == (caught.value.kind, caught.value.fields["code"])
    answer = await client.call("authenticate", token=asking.token())
    assert "me" == answer["subject"]
    await client.call("create_token")


async def test_refused(actor: Actor, asking: Asking) -> None:
    """Tries to knock again and again with a token that was refused."""
    if actor.sets_headers:
        with pytest.raises(Failed) as caught:
            await actor.connect(asking.url, token="no.token.atall")
        assert ("ConnectFailed", 401) == (caught.value.kind, caught.value.fields["status"])
        return
    client = await actor.connect(asking.url, token="no.token.atall")
    assert 4401 == await ended(client)
    (call,) = client.called("disconnected")
    assert (4401, None) == (call["code"], call["next_s"])


async def test_expired_with_no_other(actor: Actor, asking: Asking) -> None:
    """Tries to come back with the token that has expired, or to ask the program for ever."""
    fixed = await connected(actor, asking.url, "fixed", token=asking.token(SHORT_S))
    asked = await connected(actor, asking.url, "asked", tokens=[asking.token(SHORT_S)])
    for client, asked_most in ((fixed, 0), (asked, 2)):
        assert 4401 == await ended(client)
        calls = client.called("disconnected")
        assert (4401, None) == (calls[-1]["code"], calls[-1]["next_s"])
        assert len(calls) <= 2
        assert asked_most == len(client.called("asked"))
    # Nobody has knocked again.
    assert 1 == len(asked.called("connected"))


async def test_expired_and_back(actor: Actor, asking: Asking) -> None:
    """Tries to lose or repeat an event over the end of a token, where there is another one."""
    client = await connected(actor, asking.url, tokens=[asking.token(SHORT_S), asking.token()])
    other = await connected(actor, asking.url, "b", token=asking.token(subject="other"))
    await client.subscribe("tokens")
    made = 0
    while len(client.called("connected")) < 2:
        await other.call("create_token", type=f"t{made}")
        made += 1
    await other.call("create_token", type=f"t{made}")
    events = await client.events(made + 1)
    assert [f"t{n}" for n in range(made + 1)] == [event["payload"]["type"] for event in events]
    assert [4401] == [call["code"] for call in client.called("disconnected")]
    assert 2 == len(client.called("asked"))


async def test_renewed(actor: Actor, asking: Asking) -> None:
    """Tries to end a connection at its first token's expiry, though it was given another one in time."""
    client = await connected(actor, asking.url, token=asking.token(SHORT_S))
    witness = await connected(actor, asking.url, "b", token=asking.token(SHORT_S, subject="witness"))
    await client.subscribe("tokens")
    await client.call("authenticate", token=asking.token())
    assert 4401 == await ended(witness)  # whose token was made after the client's first
    await client.call("create_token")
    assert 1 == len(await client.events(1))
    assert [] == client.called("disconnected")


async def test_renewed_and_broken(actor: Actor, asking: Asking) -> None:
    """Tries to come back with the first token, which has expired, though another was accepted meanwhile."""
    client = await connected(actor, asking.url, tokens=[asking.token(SHORT_S), "not.asked.for"])
    witness = await connected(actor, asking.url, "b", token=asking.token(SHORT_S, subject="witness"))
    await client.call("authenticate", token=asking.token())
    assert 4401 == await ended(witness)
    for connection in tuple(asking.running.app.connections.open.values()):
        connection.cut()
    await client.calls("disconnected")
    await client.call("create_token")
    assert 2 == len(client.called("connected"))


async def test_accepted_expires(actor: Actor, asking: Asking) -> None:
    """Tries to be stuck with a token that came by `authenticate` and has expired, though the function has another."""
    client = await connected(actor, asking.url, tokens=[asking.token(), asking.token(LONG_S + 1)])
    await client.call("authenticate", token=asking.token(SHORT_S))
    await client.calls("connected", 2)
    await client.call("create_token")
    assert "connected" == await client.state()


async def test_forbidden(actor: Actor, asking: Asking) -> None:
    """Tries to do what a token does not allow, or to lose the connection, or what it does allow, by trying."""
    client = await connected(actor, asking.url, token=asking.token(grant=READ))
    await client.subscribe("tokens")
    for try_it in (client.call("create_token"), client.subscribe("graph", "g")):
        with pytest.raises(Failed) as caught:
            await try_it
        fields = caught.value.fields
        assert ("CommandError", "forbidden", False) == (caught.value.kind, fields["code"], fields["retryable"])
    assert [] == (await client.call("list_tokens"))["tokens"]
    with pytest.raises(Failed, match="subject"):
        await client.call("authenticate", token=asking.token(subject="another"))
    with pytest.raises(Failed, match="topics"):
        await client.call("authenticate", token=asking.token(grant=Grant(frozenset(), (), ())))
    assert [] == (await client.call("list_tokens"))["tokens"]
    assert [] == client.called("disconnected")


async def test_limited(actor: Actor, database_url: str) -> None:
    """Tries to have a client that asks too much not hear for how long to wait, or lose its connection for one slip."""
    async with running_server(database_url, commands_per_s=5.0, burst_s=1.0) as running:
        client = await actor.connect(running.url)
        answers = [client.given("call", method="ping", args={}) for _ in range(10)]
        limited = []
        for answer in answers:
            try:
                await answer()
            except Failed as exc:
                limited.append(exc.fields)
        assert limited
        assert {("rate_limited", True)} == {(fields["code"], fields["retryable"]) for fields in limited}
        assert all(fields["retry_after_s"] > 0 for fields in limited)
        assert "connected" == await client.state()


async def test_limited_for_too_long(actor: Actor, database_url: str) -> None:
    """Tries to come back at once to a server that has closed because of too much, or to stay away for good."""
    async with running_server(database_url, commands_per_s=5.0, burst_s=1.0, over_limit_s=0.5) as running:
        client = await actor.connect(running.url)
        for _ in range(12):
            client.given("call", method="ping", args={})
        call = (await client.calls("disconnected"))[0]
        assert (4429, True) == (call["code"], call["next_s"] >= 1.0)
        await client.calls("connected", 2)


async def test_too_many_of_a_subject(actor: Actor, database_url: str, secret_file: Path) -> None:
    """Tries to come in, or to knock at once again, where the subject has as many connections as it may."""
    async with asking_server(database_url, secret_file, connections_per_subject=1) as asking:
        first = await connected(actor, asking.url, token=asking.token())
        if actor.sets_headers:
            with pytest.raises(Failed) as caught:
                await actor.connect(asking.url, "b", token=asking.token())
            assert ("ConnectFailed", 429) == (caught.value.kind, caught.value.fields["status"])
            return
        client = await actor.connect(asking.url, "b", token=asking.token())
        call = (await client.calls("disconnected"))[0]
        assert call["next_s"] >= 1.0
        await first.disconnect()
        await client.call("create_token")
        assert "connected" == await client.state()


async def test_the_proof_is_limited(actor: Actor, scripted: Scripted) -> None:
    """Tries to come back sooner than the server has it, which had no room for this subject."""

    async def first(peer: Peer) -> None:
        command = await peer.command()
        await peer.reply(command, "authenticated", {"subject": "me", "expires_at": None})
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        error = {"code": "rate_limited", "message": "too many", "retryable": True, "details": {"retry_after_ms": 200}}
        await peer.reply(await peer.command(), "error", error)
        await trio.sleep_forever()

    async def third(peer: Peer) -> None:
        await peer.reply(await peer.command(), "authenticated", {"subject": "me", "expires_at": None})
        await trio.sleep_forever()

    client = await actor.connect(await scripted(first, second, third))
    await client.call("authenticate", token="secret")
    first_s, second_s = [call["next_s"] for call in await client.calls("disconnected", 2)]
    assert (0.0, True) == (first_s, second_s >= 0.2)
    await client.calls("connected", 3)
