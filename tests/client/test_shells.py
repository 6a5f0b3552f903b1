"""Both shells, each test on each of them: the same names, and the same when things go wrong."""

from __future__ import annotations

import inspect
import queue
import socket
import subprocess
import sys

import pytest
import trio
from trio_websocket import ConnectionClosed

import ngos.client.asyncio
import ngos.client.trio
from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectionLost, QueueFull, RequestTimeout
from ngos.client.session import State
from tests.client.beside import relayed, scripted
from tests.client.fakes import Peer, idle, pongs
from tests.client.shells import LIMIT_S, Shell, Told, on_each_shell, pings_from_now_on

NOT_OF_CLIENTS = {"psycopg", "quart", "quart_trio", "hypercorn", "structlog", "typed_settings", "rich", "click"}


def at_once() -> Backoff:
    return Backoff(lambda _low, _high: 0.0)


@pytest.mark.parametrize(
    ("module", "others"),
    [("trio", {"websockets"}), ("asyncio", {"trio", "trio_websocket", "h11"}), ("websocket", {"trio", "h11"})],
)
def test_a_shell_brings_nothing_of_the_server_or_the_other(module: str, others: set[str]) -> None:
    """Tries to load the server, or the other shell's libraries, with a client: they may not be installed."""
    code = f"import sys, ngos.client.{module}; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not {name.split(".")[0] for name in loaded} & (NOT_OF_CLIENTS | others)
    assert not [
        name
        for name in loaded
        if name.startswith("ngos.") and name.split(".")[1] not in ("client", "protocol", "errors")
    ]
    assert f"ngos.client.{'asyncio' if module == 'trio' else 'trio'}" not in loaded


def test_the_same_names() -> None:
    """Tries to give one shell a name, an argument, a default or a class that the other does not have."""
    assert ngos.client.trio.__all__ == ngos.client.asyncio.__all__
    assert inspect.signature(ngos.client.trio.connect) == inspect.signature(ngos.client.asyncio.connect)
    assert ngos.client.trio.Client is ngos.client.asyncio.Client
    assert ngos.client.trio.Subscription is ngos.client.asyncio.Subscription


@on_each_shell
def test_the_block_raises_what_it_raises(shell: Shell) -> None:
    """Tries to wrap the block's own exception, or to let a task live on after it."""

    async def main() -> None:
        with pytest.raises(LookupError):
            async with shell.connect(url):
                raise LookupError

    with scripted(idle) as url:
        shell.run(main)


@on_each_shell
def test_cancelled_it_says_goodbye(shell: Shell) -> None:
    """Tries to leave without a close frame, or a task or an exception behind, when the block is cancelled."""
    codes: queue.Queue[int] = queue.Queue()

    async def script(peer: Peer) -> None:
        await peer.accept()
        try:
            await pongs(peer)
        except ConnectionClosed as exc:
            assert exc.reason is not None
            codes.put(exc.reason.code)

    subscribing = Told()

    async def main() -> None:
        async def work() -> None:
            async with shell.connect(url, client_id="a") as client:
                subscribing(client)
                await client.request("x", {}, id="never")
                await client.changed()

        async def when() -> None:
            async with shell.connect(url) as other:
                await subscribing.wait(other)

        await shell.cancelled(work, when)

    with scripted(script, accept=False) as url:
        shell.run(main)
        assert [1000, 1000] == [codes.get(timeout=LIMIT_S) for _ in range(2)]


@on_each_shell
def test_cancelled_while_it_connects(shell: Shell) -> None:
    """Tries to hold up who cancels `connect`, or to leave a socket or a task behind."""

    async def main() -> None:
        tried = Told()

        async def work() -> None:
            tried()
            async with shell.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}/"):
                pass

        async def when() -> None:
            async with shell.connect(url) as other:
                await tried.wait(other)
                await other.ping()

        await shell.cancelled(work, when)

    with socket.create_server(("127.0.0.1", 0)) as silent, scripted(pongs) as url:
        shell.run(main)


@on_each_shell
def test_a_silent_server_is_left(shell: Shell) -> None:
    """Tries to keep a client where nothing comes any more, or to make it wait for an answer to its goodbye."""
    told = Told()
    came = 0

    async def script(peer: Peer) -> None:
        nonlocal came
        came += 1
        if came == 1:
            await peer.accept(heartbeat={"interval_ms": 50, "timeout_ms": 150})
            await peer.receive()
            relay.freeze(1)
        else:
            await peer.accept()  # with terms so long that no stall makes the client leave this one, too
            await pongs(peer)

    async def main() -> None:
        callbacks = Callbacks(disconnected=told)
        async with shell.connect(url, backoff=at_once(), callbacks=callbacks) as client:
            await client.ping()
            ((lost, next_s),) = told.what
            assert (4408, 0.0) == (lost.code, next_s)
        assert 2 == relay.connections

    with relayed(script, accept=False) as (relay, url):
        shell.run(main)


@on_each_shell
def test_a_quiet_server_is_not_left(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a client leave a server that has nothing to say, but answers Pings."""
    pings, told = pings_from_now_on(monkeypatch), Told()

    async def script(peer: Peer) -> None:
        await peer.accept(heartbeat={"interval_ms": 20, "timeout_ms": 20_000})
        await pongs(peer)

    async def main() -> None:
        async with shell.connect(url, callbacks=Callbacks(disconnected=told)) as client:
            while len(pings) < 5:
                await client._loop.within(0.01, client._loop.lot().park)
            assert State.CONNECTED is client.state
            await client.ping()
            assert [] == told.what

    with scripted(script, accept=False) as url:
        shell.run(main)


@on_each_shell
@pytest.mark.parametrize("which", ["connected", "again", "disconnected"])
def test_a_callback_that_raises_ends_the_block(shell: Shell, which: str) -> None:
    """Tries to swallow what a callback raises, to wrap it, or to go on as if it had not."""

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.aclose(1012)

    calls = Told()

    def callback(*_: object) -> None:
        calls()
        if which != "again" or len(calls.what) == 2:
            raise LookupError(which)

    callbacks = Callbacks(disconnected=callback) if which == "disconnected" else Callbacks(connected=callback)

    async def main() -> None:
        with pytest.raises(LookupError, match=which):
            async with shell.connect(url, backoff=at_once(), callbacks=callbacks) as client:
                while True:
                    try:
                        await client.ping()
                    except ConnectionLost:
                        await client.changed()

    with scripted(script) as url:
        shell.run(main)


@on_each_shell
def test_a_cancelled_wait_loses_no_event(shell: Shell) -> None:
    """Tries to lose or repeat an event by cancelling who waits for it, at each moment."""

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.receive())
        seq = 0
        while True:
            command = await peer.receive()
            seq += 1
            await peer.event("tokens", "x", seq)
            await peer.reply(command, "pong", {})

    async def main() -> None:
        got: list[int | None] = []
        async with shell.connect(url) as client, client.subscribe("tokens") as events:

            async def take() -> None:
                while True:
                    got.append((await anext(events)).seq)

            for _ in range(50):
                await shell.cancelled(take, lambda: client.request("ping"))  # type: ignore[arg-type, return-value]
            while len(got) < 50:
                got.append((await anext(events)).seq)
        assert list(range(1, 51)) == got

    with scripted(script) as url:
        shell.run(main)


@on_each_shell
@pytest.mark.parametrize("there", ["nothing", "silence"])
def test_leaving_while_it_is_away(shell: Shell, there: str) -> None:
    """Tries to hold up the end of the block by waiting for, or talking to, a server that is not there."""
    told = Told()

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.aclose(1012)

    async def main() -> None:
        backoff = Backoff(lambda _low, _high: 1000.0 if there == "nothing" else 0.0)
        async with shell.connect(url, backoff=backoff, callbacks=Callbacks(disconnected=told), request_s=0.1) as client:
            relay.port = silent.getsockname()[1]
            command = client.queue("ping", id="one")
            while client.state is not State.RECONNECTING:
                await client.changed()
            with pytest.raises(RequestTimeout):  # `request_s` is from here on: the way to the server has all the time
                await command.reply()
            assert State.RECONNECTING is client.state
        assert State.ENDED is client.state
        assert 1 == len(told.what)

    with socket.create_server(("127.0.0.1", 0)) as silent, relayed(script) as (relay, url):
        shell.run(main)


@on_each_shell
def test_no_goodbye_from_the_server(shell: Shell) -> None:
    """Tries to hold up who leaves, by a server that does not answer a close frame."""

    async def script(peer: Peer) -> None:
        await peer.receive()
        relay.freeze()
        await trio.sleep_forever()

    async def main() -> None:
        async with shell.connect(url, request_s=0.05) as client:
            with pytest.raises(RequestTimeout):
                await client.ping()
        assert State.ENDED is client.state

    with relayed(script) as (relay, url):
        shell.run(main)


@on_each_shell
def test_no_room_for_a_goodbye(shell: Shell) -> None:
    """Tries to hold up who leaves, by a server that reads nothing: the close frame has to wait behind what waits."""

    async def script(_peer: Peer) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with shell.connect(url, request_s=0.2) as client:
            for _ in range(200):
                client.queue("publish", {"text": "x" * 60_000})
            with pytest.raises(RequestTimeout):
                await client.ping()

    with scripted(script) as url:
        shell.run(main)


@on_each_shell
def test_the_queue_is_bounded(shell: Shell) -> None:
    """Tries to queue more than `queue_bytes` by way of a shell."""
    received: list[object] = []

    async def script(peer: Peer) -> None:
        received.append(await peer.receive())

    async def main() -> None:
        async with shell.connect(url, queue_bytes=10) as client:

            async def first() -> None:
                await client.request("ping")

            async def second() -> None:
                while not received:
                    await client._loop.checkpoint()
                    await client._loop.within(0.01, client._loop.lot().park)
                with pytest.raises(QueueFull):
                    await client.request("ping")

            await shell.cancelled(first, second)

    with scripted(script) as url:
        shell.run(main)


@on_each_shell
def test_a_defect_of_ours(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a defect inside the client taken for a lost connection, wrapped, or kept from the program."""

    def broken(*_: object) -> None:
        raise LookupError("ours")

    async def main() -> None:
        with pytest.raises(LookupError, match="ours"):
            async with shell.connect(url, request_s=2.0) as client:
                await client.request("never")

    monkeypatch.setattr("ngos.client.heartbeat.Heartbeat.look", broken)
    with scripted(idle) as url:
        shell.run(main)


@on_each_shell
@pytest.mark.parametrize("bound", ["buffer_events", "buffer_bytes"])
def test_a_buffer_of_less_than_nothing(shell: Shell, bound: str) -> None:
    """Tries to wait for the agreement to a subscription that can never have room."""

    async def main() -> None:
        async with shell.connect(url) as client:
            with pytest.raises(ValueError, match="-1"):
                client.subscribe("tokens", **{bound: -1})  # type: ignore[arg-type]

    with scripted(idle) as url:
        shell.run(main)
