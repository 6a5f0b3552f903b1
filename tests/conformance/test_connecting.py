"""Connecting: the greeting, who we are, refusals, waits, and which close codes let a client come back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from tests.client.fakes import Peer
from tests.client.relay import Relay
from tests.conformance.actors import Actor, Failed
from tests.conformance.conftest import Relayed, Scripted
from tests.servers import Running

COMES_BACK = (1001, 1011, 1012, 1013, 4408, 4429)
STAYS_AWAY = (1000, 1002, 1003, 1007, 1008, 1009, 4401, 4403)


async def until_it_leaves(peer: Peer) -> None:
    """Answer pings."""
    while True:
        await peer.command()


async def test_greeting(actor: Actor, real: Running, scripted: Scripted) -> None:
    """Tries to lose the client's own id on its way to the server, or to be connected before the greeting."""
    client = await actor.connect(real.url, client_id="a:b")
    assert "a:b" == client.greeted["client_id"]
    (connected,) = await client.calls("connected")
    assert client.greeted["connection_id"] == connected["connection_id"]
    assert "connected" == await client.state()
    paths: list[str] = []

    async def script(peer: Peer) -> None:
        paths.append(peer.path)
        await until_it_leaves(peer)

    await actor.connect(await scripted(script), "b", client_id="a:b")
    assert ["a:b"] == parse_qs(urlsplit(paths[0]).query)["client_id"]


async def test_a_token_is_shown(actor: Actor, scripted: Scripted) -> None:
    """Tries to connect without showing the token: in the header, or where there is none, as the first command."""
    shown: list[str] = []

    async def script(peer: Peer) -> None:
        if actor.sets_headers:
            shown.append(peer.headers[b"authorization"].decode())
        else:
            command = await peer.command()
            shown.append(command["type"] + " " + command["payload"]["token"])
            await peer.reply(command, "authenticated", {"subject": "me", "expires_at": None})
        await until_it_leaves(peer)

    client = await actor.connect(await scripted(script), token="secret")
    await client.call("ping")
    assert ["Bearer secret" if actor.sets_headers else "authenticate secret"] == shown


@pytest.mark.parametrize("status", [401, 403, 404, 503])
async def test_refused_at_first(actor: Actor, scripted: Scripted, status: int) -> None:
    """Tries to connect where the first handshake is refused without the program hearing it."""
    attempts = 0

    async def script(peer: Peer) -> None:
        nonlocal attempts
        attempts += 1
        await peer.request.reject(status)

    url = await scripted(script, accept=False)
    with pytest.raises(Failed) as caught:
        await actor.connect(url)
    assert "ConnectFailed" == caught.value.kind
    assert (status if actor.tells_refusals else None) == caught.value.fields["status"]
    assert 1 == attempts


@pytest.mark.parametrize(("status", "code"), [(401, 4401), (403, 4403), (404, 1008)])
async def test_refused_on_return(actor: Actor, scripted: Scripted, status: int, code: int) -> None:
    """Tries to ask for ever where the client is not wanted any more; or to give up, where it can't know that."""

    async def first(peer: Peer) -> None:
        await peer.accept()
        await peer.command()
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        await peer.request.reject(status)

    async def third(peer: Peer) -> None:
        await peer.accept()
        await peer.reply(await peer.command(), "x.done", {})

    client = await actor.connect(await scripted(first, second, third, accept=False))
    if not actor.tells_refusals:
        assert "x.done" == (await client.request("x.do"))["type"]
        assert [(1012, 0.0), (1006, 0.0)] == [(call["code"], call["next_s"]) for call in client.called("disconnected")]
        return
    with pytest.raises(Failed) as caught:
        await client.request("token.get")
    assert ("ConnectionLost", code) == (caught.value.kind, caught.value.fields["code"])
    calls = await client.calls("disconnected", 2)
    assert [(1012, 0.0), (code, None)] == [(call["code"], call["next_s"]) for call in calls]


async def test_refused_for_now(actor: Actor, scripted: Scripted) -> None:
    """Tries to make a client give up on a server that refuses for now, or that is full."""

    async def first(peer: Peer) -> None:
        await peer.accept()
        await peer.command()
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        await peer.request.reject(503)

    async def third(peer: Peer) -> None:
        await (await peer.request.accept()).aclose(1013, "full")

    async def fourth(peer: Peer) -> None:
        await peer.accept()
        command = await peer.command()
        await peer.reply(command, "x.done", {})

    client = await actor.connect(await scripted(first, second, third, fourth, accept=False))
    assert "x.done" == (await client.request("x.do"))["type"]
    assert 3 == len(client.called("disconnected"))


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(actor: Actor, scripted: Scripted, status: int) -> None:
    """Tries to come back sooner than `Retry-After` has it; or later than else, where the platform does not tell it."""

    async def first(peer: Peer) -> None:
        await peer.accept()
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        await peer.request.reject(status, extra_headers=[(b"retry-after", b"7")])

    async def third(peer: Peer) -> None:
        await peer.accept()

    client = await actor.connect(await scripted(first, second, third, accept=False))
    calls = await client.calls("disconnected", 2)
    assert [0.0, 7.0 if actor.tells_refusals else 0.0] == [call["next_s"] for call in calls]


async def test_the_servers_own_wish(actor: Actor, scripted: Scripted) -> None:
    """Tries to come back sooner than `system.draining` has it, or at once after 4429."""

    async def draining(peer: Peer) -> None:
        await peer.command()
        await peer.event("system", "system.draining", None, reconnect_after_ms=120)
        await peer.socket.aclose(1012)

    async def limited(peer: Peer) -> None:
        await peer.reply(await peer.command(), "x.done", {})
        await peer.socket.aclose(4429)

    client = await actor.connect(await scripted(draining, limited))
    await client.request("x.do")
    waits = [call["next_s"] for call in await client.calls("disconnected", 2)]
    assert waits[0] >= 0.12
    assert waits[1] >= 1.0


async def test_backoff(actor: Actor, relayed: Relayed) -> None:
    """Tries to have waits that do not double from half a second, or go on growing after a connection that was good."""
    client = await actor.connect(relayed.url, dice=0.02)
    for _ in range(2):
        before = len(client.called("disconnected"))
        await client.call("ping")
        relayed.relay.refusing = True
        relayed.relay.cut()
        waits = [call["next_s"] for call in (await client.calls("disconnected", before + 3))[before : before + 3]]
        assert [0.01, 0.02, 0.04] == pytest.approx(waits)
        relayed.relay.refusing = False


@pytest.mark.parametrize("code", [*COMES_BACK, *STAYS_AWAY])
async def test_close_codes(actor: Actor, scripted: Scripted, code: int) -> None:
    """Tries to come back after a close code that forbids it, or to stay away after one that does not."""
    attempts = 0

    async def script(peer: Peer) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await peer.command()
            await peer.socket.aclose(code)
        else:
            await peer.reply(await peer.command(), "x.done", {})

    client = await actor.connect(await scripted(script))
    if code in COMES_BACK:
        if code != 4429:  # which pauses
            assert "x.done" == (await client.request("x.do"))["type"]
        else:
            client.given("request", type="x.do")
        ((told, next_s),) = [(call["code"], call["next_s"]) for call in await client.calls("disconnected")]
        assert (code, True) == (told, next_s is not None)
        return
    with pytest.raises(Failed) as caught:
        await client.request("x.do")
    assert ("ConnectionLost", code) == (caught.value.kind, caught.value.fields["code"])
    (call,) = await client.calls("disconnected")
    assert (code, None) == (call["code"], call["next_s"])
    assert ("ended", 1) == (await client.state(), attempts)


async def test_no_reconnect(actor: Actor, scripted: Scripted) -> None:
    """Tries to come back though the program has forbidden it."""

    async def script(peer: Peer) -> None:
        await peer.command()
        await peer.socket.aclose(1012)

    client = await actor.connect(await scripted(script), reconnect=False)
    with pytest.raises(Failed) as caught:
        await client.request("x.do")
    assert ("ConnectionLost", 1012) == (caught.value.kind, caught.value.fields["code"])
    assert "ended" == await client.state()


async def test_leaving(actor: Actor, scripted: Scripted) -> None:
    """Tries to leave somebody waiting, to come back, or to go without a goodbye, when the program disconnects."""
    codes: list[int] = []
    asked, gone = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        try:
            while True:
                await peer.command()
                asked.set()
        finally:
            reason = peer.socket.closed
            codes.append(getattr(reason, "code", 0))
            gone.set()

    client = await actor.connect(await scripted(script))
    pending = client.given("request", type="x.do")
    await asked.wait()
    await client.disconnect()
    with pytest.raises(Failed) as caught:
        await pending()
    assert "ConnectionLost" == caught.value.kind
    with trio.fail_after(5):
        await gone.wait()
    assert [1000] == codes


async def test_a_silent_server_is_left(actor: Actor, scripted: Scripted, nursery: trio.Nursery) -> None:
    """Tries to keep a command waiting for a server that the network has lost without a word."""

    async def first(peer: Peer) -> None:
        await peer.accept(heartbeat={"interval_ms": 100, "timeout_ms": 200})
        await peer.command()

    async def second(peer: Peer) -> None:
        await peer.accept()  # with terms so long that no stall makes the client leave this one, too
        await peer.reply(await peer.command(), "x.done", {})

    relay = Relay(int((await scripted(first, second, accept=False)).split(":")[2].split("/")[0]))
    client = await actor.connect(await nursery.start(relay.run))
    relay.freeze(1)
    assert "x.done" == (await client.request("x.do"))["type"]
    (call,) = client.called("disconnected")
    assert 4408 == call["code"]


async def test_no_server(actor: Actor) -> None:
    """Tries to connect where nothing listens without the program hearing it."""
    with pytest.raises(Failed) as caught:
        await actor.connect("ws://127.0.0.1:1/ws")
    assert ("ConnectFailed", None) == (caught.value.kind, caught.value.fields["status"])
