"""Both shells, each test on each of them: the same names, and the same when things go wrong."""

from __future__ import annotations

import inspect
import queue
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed

import ngos.client.asyncio
import ngos.client.trio
from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectFailed, ConnectionLost, QueueFull, RequestTimeout
from ngos.client.session import State
from tests.client.beside import beside, relayed, scripted
from tests.client.fakes import Peer, idle, pongs
from tests.client.shells import LIMIT_S, Shell, Told, on_each_shell

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


def speaking(answer: bytes) -> Callable[[trio.Nursery], Awaitable[str]]:
    """A server that is none: it says this to whatever it hears, and then sits there; or it hangs up."""

    async def talk(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await stream.receive_some()
                await stream.send_all(answer)
                if answer:
                    await trio.sleep_forever()
            except trio.BrokenResourceError:
                pass  # it left first

    async def start(nursery: trio.Nursery) -> str:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, talk, [listener])
        return f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"

    return start


def fails(shell: Shell, url: str, **arguments: Any) -> ConnectFailed:
    """Connect in vain."""
    caught: list[ConnectFailed] = []

    async def main() -> None:
        with pytest.raises(ConnectFailed) as info:
            async with shell.connect(url, **arguments):
                raise AssertionError("connected")
        caught.append(info.value)

    shell.run(main)
    assert "\n" not in str(caught[0])
    return caught[0]


@on_each_shell
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "401 Unauthorized"),
        (b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", "503 Service Unavailable; retry after 7 s"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\norigin", "403 Forbidden: origin"),
        (b"HTTP/1.1 301 Go\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "301 Moved Permanently"),
        (b"\x00\xff garbage\r\n\r\n", "what it answered is no handshake: not a WebSocket server?"),
        (
            b"HTTP/1.1 101 Go\r\n" + b"X-Long: x\r\n" * 40_000,
            "what it answered is no handshake: not a WebSocket server?",
        ),
        (
            b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
            "what it answered is no handshake: not a WebSocket server?",
        ),
        (b"", "it hung up before it answered: not a WebSocket server?"),
    ],
    ids=["401", "503", "body", "redirect", "garbage", "endless", "accept", "hangs up"],
)
def test_what_answers_is_no_server_of_ours(shell: Shell, answer: bytes, reason: str) -> None:
    """Tries to get anything but one line out of a first connection that can't be: a group, a library's own error."""
    with beside(speaking(answer)) as url:
        failed = fails(shell, url)
    assert reason == failed.reason
    assert (int(reason[:3]) if reason[0].isdigit() else None) == failed.status
    assert (7.0 if "7 s" in reason else None) == failed.retry_after_s


@on_each_shell
def test_nobody_answers(shell: Shell) -> None:
    """Tries to hang, or to be unclear, where there is no server, no host, no answer, or no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "no answer within 0.05 s" == fails(shell, f"ws://127.0.0.1:{port}/", connect_s=0.05).reason
    assert "connection refused: is the server running?" == fails(shell, f"ws://127.0.0.1:{port}/").reason
    assert "connection refused: is the server running?" == fails(shell, f"ws://localhost:{port}/").reason
    assert "known" in fails(shell, f"ws://nowhere.invalid:{port}/").reason
    for url in ("http://127.0.0.1/", "nonsense", "ws://", "ws://[", "ws://h:99999/", "ws://h/a b", "ws://\u2024/"):
        assert fails(shell, url).reason
    with beside(speaking(b"HTTP/1.1 400 No\r\n\r\n")) as url:
        assert "TLS: WRONG_VERSION_NUMBER" == fails(shell, url.replace("ws:", "wss:")).reason


@on_each_shell
def test_who_is_not_known_to_us(shell: Shell) -> None:
    """Tries to talk to a server whose certificate nobody vouches for."""
    context = trustme.CA().issue_cert("127.0.0.1")

    async def start(nursery: trio.Nursery) -> str:
        from ssl import Purpose, create_default_context

        ssl_context = create_default_context(Purpose.CLIENT_AUTH)
        context.configure_cert(ssl_context)
        (listener,) = await trio.open_ssl_over_tcp_listeners(0, ssl_context, host="127.0.0.1")

        async def talk(stream: Any) -> None:
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError:
                pass
            await trio.aclose_forcefully(stream)

        nursery.start_soon(trio.serve_listeners, talk, [listener])
        return f"wss://127.0.0.1:{listener.transport_listener.socket.getsockname()[1]}/"

    with beside(start) as url:
        assert "TLS: CERTIFICATE_VERIFY_FAILED" == fails(shell, url).reason


@on_each_shell
def test_closed_or_wrong_before_the_greeting(shell: Shell) -> None:
    """Tries to keep from the program what came instead of the greeting: a close code, another version, nonsense."""

    async def close(peer: Peer) -> None:
        await (await peer.request.accept()).aclose(4401, "not authenticated")

    async def version(peer: Peer) -> None:
        await peer.accept(server={"name": "ngos", "version": "9", "protocol": 2})

    async def binary(peer: Peer) -> None:
        await (await peer.request.accept()).send_message(b"{}")

    for script, expected in ((close, "4401"), (version, "speaks protocol 2"), (binary, "binary")):
        with scripted(script, accept=False) as url:
            assert expected in fails(shell, url).reason


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
    """Tries to keep a client where nothing comes any more, to make it wait for an answer to its goodbye, or to
    leave one that answers Pings alone."""
    told = Told()

    async def main() -> None:
        callbacks = Callbacks(disconnected=told)
        async with shell.connect(url, backoff=at_once(), callbacks=callbacks, request_s=0.5) as client:
            with pytest.raises(RequestTimeout):
                await client.request("quiet")
            assert State.CONNECTED is client.state
            relay.freeze()
            await client.ping()
            ((lost, next_s),) = told.what
            assert (4408, 0.0) == (lost.code, next_s)
        assert 2 == relay.connections

    async def quiet(peer: Peer) -> None:
        await peer.accept(heartbeat={"interval_ms": 50, "timeout_ms": 150})
        while True:
            command = await peer.receive()
            if command["type"] == "ping":
                await peer.reply(command, "pong", {})

    with relayed(quiet, accept=False) as (relay, url):
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
            with pytest.raises(RequestTimeout):
                await client.request("ping", id="one")
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
