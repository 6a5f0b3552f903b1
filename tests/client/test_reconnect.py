"""Coming back after a break: the Trio shell against a scripted server, on real sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed

from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectionLost, GapError
from ngos.client.session import State
from ngos.client.trio import Client, connect
from tests.client.fakes import Peer, pongs, serve, token
from tests.client.relay import Relay
from tests.client.shells import Told, pings_from_now_on


class Dice:
    """Rolls `value` always, and knows what it was asked for."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value
        self.asked: list[float] = []

    def __call__(self, _low: float, high: float) -> float:
        self.asked.append(high)
        return self.value


def scripts(*steps: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
    """One script for each connection, the last for all that follow."""
    left = list(steps)

    async def script(peer: Peer) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(peer)

    return script


async def until(client: Client, state: State) -> None:
    while client.state is not state:
        await client.changed()


@pytest.mark.parametrize("code", [1001, 1012, 1013, None])
async def test_an_unanswered_command_is_sent_again(nursery: trio.Nursery, code: int | None) -> None:
    """Tries to lose a command with its connection, or to send it again as another: id and client_id must stay."""
    seen: list[tuple[str, str]] = []

    async def first(peer: Peer) -> None:
        await remember(peer)
        if code is None:
            relay.cut()
        else:
            await peer.socket.aclose(code)

    async def remember(peer: Peer) -> dict[str, Any]:
        command = await peer.receive()
        seen.append((parse_qs(urlsplit(peer.path).query)["client_id"][0], command["id"]))
        return command

    async def second(peer: Peer) -> None:
        await peer.reply(await remember(peer), "token.created", token(type="once"))

    dice = Dice()
    relay = Relay(int((await serve(nursery, scripts(first, second))).split(":")[2].split("/")[0]))
    url = await nursery.start(relay.run)
    async with connect(url, backoff=Backoff(dice)) as client:
        before = client.established
        with trio.fail_after(5):
            assert "once" == (await client.create_token(type="once")).type
        assert before != client.established
        assert (State.CONNECTED, None) == (client.state, client.lost)
    assert [0.5] == dice.asked  # full jitter the first time too
    assert 2 == len(seen)
    assert seen[0] == seen[1]
    assert seen[0][0].startswith("client_")
    nursery.cancel_scope.cancel()


async def test_it_waits_as_long_as_the_dice_say(nursery: trio.Nursery) -> None:
    """Tries to come back sooner than jitter and system.draining have it, or to wait where the program leaves."""

    times_s: list[float] = []

    async def first(peer: Peer) -> None:
        await peer.event("system", "system.draining", None, reconnect_after_ms=60)
        times_s.append(trio.current_time())
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        times_s.append(trio.current_time())
        await pongs(peer)

    url = await serve(nursery, scripts(first, second))
    async with connect(url, backoff=Backoff(Dice(0.05))) as client:
        with trio.fail_after(5):
            while len(times_s) < 2:
                await client.ping()
    assert times_s[1] - times_s[0] >= 0.11
    url = await serve(nursery, scripts(first, pongs))
    with trio.fail_after(5):
        async with connect(url, backoff=Backoff(Dice(1000.0))) as client:
            await until(client, State.RECONNECTING)
    assert State.ENDED is client.state
    nursery.cancel_scope.cancel()


async def test_a_server_that_is_away_for_a_while(nursery: trio.Nursery) -> None:
    """Tries to give up, or to stop growing the waits, while nothing listens, or what listens refuses for now."""
    dice = Dice()
    attempts = 0

    async def script(peer: Peer) -> None:
        nonlocal attempts
        attempts += 1
        match attempts:
            case 1:
                await peer.accept()
                await peer.socket.aclose(1012)
            case 2:
                await peer.request.reject(503, extra_headers=[(b"retry-after", b"0")])
            case 3:
                await peer.request.reject(502)
            case 4:
                socket = await peer.request.accept()
                await socket.aclose(1013, "full")
            case _:
                await peer.accept()
                await pongs(peer)

    url = await serve(nursery, script, accept=False)
    async with connect(url, backoff=Backoff(dice)) as client:
        with trio.fail_after(5):
            await client.ping()
    assert [0.5, 1.0, 2.0, 4.0] == dice.asked
    assert 5 == attempts
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("status", "code"), [(401, 4401), (403, 4403), (404, 1008)])
async def test_refused_when_it_comes_back(nursery: trio.Nursery, status: int, code: int) -> None:
    """Tries to have a client ask for ever where it is not wanted, or leave somebody waiting."""
    attempts = 0

    async def script(peer: Peer) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            await peer.request.reject(status)
            return
        await peer.accept()
        await peer.agree(await peer.receive())
        await peer.receive()
        await peer.socket.aclose(1012)

    url = await serve(nursery, script, accept=False)
    async with connect(url, backoff=Backoff(Dice())) as client, client.subscribe("tokens") as events:
        for call in (client.ping, events.__anext__, client.ping):
            with pytest.raises(ConnectionLost, match=str(status)) as caught, trio.fail_after(5):
                await call()
            assert code == caught.value.code
        assert State.ENDED is await client.changed()
        assert client.lost is not None
    assert 2 == attempts
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("state", [State.RECONNECTING, State.ENDED])
async def test_a_change_while_others_have_their_turn(state: State) -> None:
    """Tries to have who waits for a change wait for the next one, because it comes before he waits."""

    class Session:
        state = State.CONNECTED

    class Loop:
        async def checkpoint(self) -> None:
            session.state = state

    class Lot:
        async def park(self) -> None:
            raise AssertionError("nobody tells of it again")

    session = Session()
    client = Client(cast("Any", Loop()), cast("Any", session), cast("Any", Lot()), 1.0)
    with trio.fail_after(5):
        assert state is await client.changed()


async def test_a_silent_server_is_left(nursery: trio.Nursery) -> None:
    """Tries to keep a client at a connection on which nothing comes any more, though nobody ended it."""

    told = Told()

    async def first(peer: Peer) -> None:
        await peer.accept(heartbeat={"interval_ms": 50, "timeout_ms": 50})
        await peer.receive()
        relay.freeze(1)

    async def second(peer: Peer) -> None:
        await peer.accept()  # with terms so long that no stall makes the client leave this one, too
        await pongs(peer)

    url = await serve(nursery, scripts(first, second), accept=False)
    relay = Relay(int(url.split(":")[2].split("/")[0]))
    url = await nursery.start(relay.run)
    async with connect(url, backoff=Backoff(Dice()), callbacks=Callbacks(disconnected=told)) as client:
        with trio.fail_after(5):
            await client.ping()
        ((lost, _),) = told.what
        assert 4408 == lost.code
        assert 2 == relay.connections
    nursery.cancel_scope.cancel()


async def test_a_quiet_server_is_not_left(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a client leave a server that has nothing to say, but answers Pings."""

    pings, told = pings_from_now_on(monkeypatch), Told()

    async def script(peer: Peer) -> None:
        await peer.accept(heartbeat={"interval_ms": 20, "timeout_ms": 20_000})
        await pongs(peer)

    url = await serve(nursery, script, accept=False)
    async with connect(url, backoff=Backoff(Dice()), callbacks=Callbacks(disconnected=told)) as client:
        with trio.fail_after(10):
            while len(pings) < 10:  # noqa: ASYNC110 - it is the client's own business, which tells nobody
                await trio.sleep(0.01)
        assert [] == told.what
        await client.ping()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["leave", "cancel"])
@pytest.mark.parametrize("there", ["nothing", "silence"])
async def test_leaving_while_it_is_away(nursery: trio.Nursery, how: str, there: str) -> None:
    """Tries to hold up the end of the block by waiting for, or talking to, a server that is not there."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    came = trio.Event()
    silent: list[trio.SocketStream] = []

    async def first(peer: Peer) -> None:
        await peer.socket.aclose(1012)

    target = int((await serve(nursery, first)).split(":")[2].split("/")[0])
    relay = Relay(target)
    url = await nursery.start(relay.run)
    if there == "nothing":
        await listener.aclose()

    async def leave() -> None:
        async with connect(url, backoff=Backoff(Dice(0.01))) as client:
            relay.port = port
            await until(client, State.RECONNECTING)
            if there == "silence":
                silent.append(await listener.accept())
            came.set()
            if how == "cancel":
                await client.ping()

    with trio.fail_after(5):
        async with trio.open_nursery() as tasks:
            tasks.start_soon(leave)
            await came.wait()
            if how == "cancel":
                await trio.testing.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
    for stream in (*silent, listener):
        await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_a_subscription_over_a_break(nursery: trio.Nursery) -> None:
    """Tries to lose or repeat an event for a consumer that waits while the connection breaks, and to hide a hole."""
    asked: list[dict[str, Any]] = []

    async def first(peer: Peer) -> None:
        await peer.agree(await peer.receive(), seq=3)
        await peer.event("tokens", "x", 4)
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        command = await peer.receive()
        asked.append(command["payload"])
        await peer.agree(command, seq=6, recovered=True, replay=2)
        for seq in (5, 6, 7):
            await peer.event("tokens", "x", seq)
        await peer.socket.aclose(1012)

    async def third(peer: Peer) -> None:
        await peer.agree(await peer.receive(), seq=9)

    url = await serve(nursery, scripts(first, second, third))
    with trio.fail_after(5):
        async with connect(url, backoff=Backoff(Dice())) as client, client.subscribe("tokens") as events:
            assert [4, 5, 6, 7] == [(await anext(events)).seq for _ in range(4)]
            with pytest.raises(GapError) as caught:
                await anext(events)
            assert (7, ("0000000a", 9)) == (caught.value.seq, caught.value.now)
            assert (7, "0000000a") == (events.seq, events.epoch)
    assert [{"topic": "tokens", "since": 4, "epoch": "0000000a"}] == asked
    nursery.cancel_scope.cancel()


async def test_goodbye_to_a_server_that_does_not_answer_us(nursery: trio.Nursery) -> None:
    """Tries to leave a connection without a close frame after a fault that only another connection can mend."""
    codes: list[int] = []

    async def first(peer: Peer) -> None:
        await peer.agree(await peer.receive())
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        await peer.fail(await peer.receive(), "unavailable", retryable=True)
        try:
            await peer.receive()
        except ConnectionClosed as exc:
            assert exc.reason is not None
            codes.append(exc.reason.code)

    async def third(peer: Peer) -> None:
        await peer.agree(await peer.receive(), recovered=True)
        await peer.event("tokens", "x", 1)

    url = await serve(nursery, scripts(first, second, third))
    with trio.fail_after(5):
        async with connect(url, backoff=Backoff(Dice())) as client, client.subscribe("tokens") as events:
            assert 1 == (await anext(events)).seq
    assert [1000] == codes
    nursery.cancel_scope.cancel()
