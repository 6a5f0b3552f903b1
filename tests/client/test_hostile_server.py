"""Servers that break the protocol, or off in the midst of it: both shells, on real sockets."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectFailed, ConnectionLost, RequestTooBig
from ngos.client.session import State
from tests.client.beside import beside, scripted
from tests.client.fakes import LIMITS, Peer, envelope, greeting, pongs
from tests.client.shells import LIMIT_S, Shell, Told, on_each_shell

Serve = Callable[[trio.SocketStream], Awaitable[None]]


def at_once() -> Backoff:
    return Backoff(lambda _low, _high: 0.0)


async def raw(nursery: trio.Nursery, *, serve: Serve) -> str:
    """A server of bytes, which has read a request's head when `serve` begins."""

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except trio.BrokenResourceError:
            pass

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handle, [listener])
    return f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"


async def head(stream: trio.SocketStream) -> bytes:
    """Read a request's head."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += await stream.receive_some()
    return data


async def upgraded(stream: trio.SocketStream) -> None:
    """Shake hands, and greet."""
    lines = (await head(stream)).split(b"\r\n")
    (key,) = [line[19:] for line in lines if line.lower().startswith(b"sec-websocket-key: ")]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    answer = b"HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    await stream.send_all(answer + accept + b"\r\n\r\n" + text(greeting()))


def text(message: dict[str, object]) -> bytes:
    """A text frame of a server, of less than 64 KiB."""
    data = json.dumps(message).encode()
    return bytes((0x81, 126)) + len(data).to_bytes(2) + data


async def drained(stream: trio.SocketStream) -> None:
    """Read until the client hangs up."""
    while await stream.receive_some():
        pass


@on_each_shell
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 503 No\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
    ids=["chunks", "two-lengths"],
)
def test_a_refusal_that_is_no_http(shell: Shell, answer: bytes) -> None:
    """Tries to let a library's exception, or a group, through by a refusal that breaks HTTP in its body."""

    async def serve(stream: trio.SocketStream) -> None:
        await head(stream)
        await stream.send_all(answer)
        await drained(stream)

    async def main() -> None:
        with pytest.raises(ConnectFailed):
            async with shell.connect(url, connect_s=5.0):
                pass

    with beside(partial(raw, serve=serve)) as url:
        shell.run(main)


@on_each_shell
def test_a_broken_frame_on_a_line_that_stays(shell: Shell) -> None:
    """Tries to keep a client on a connection that it has given up, by staying, and saying more and more."""

    async def serve(stream: trio.SocketStream) -> None:
        await upgraded(stream)
        await stream.send_all(b"\xff\xff")
        while True:
            await stream.send_all(b"\x81\x00" * 1000)

    async def main() -> None:
        async with shell.connect(url, request_s=5.0) as client:
            with pytest.raises(ConnectionLost) as caught:
                await client.ping()
            assert 1002 == caught.value.code
            assert State.ENDED is client.state

    with beside(partial(raw, serve=serve)) as url:
        shell.run(main)


@on_each_shell
def test_what_still_comes_while_we_say_goodbye(shell: Shell) -> None:
    """Tries to have the tail of a connection that is being left taken for the next one's greeting."""
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        command = await peer.command()
        if connections == 1:
            await peer.agree(command)
            await peer.socket.aclose(1012)
        elif connections == 2:
            await peer.fail(command, "unavailable", retryable=True)
            for _ in range(1000):
                await peer.event("tokens", "x", 1)
        else:
            await peer.agree(command, recovered=True, replay=1)
            await peer.event("tokens", "x", 1)

    async def main() -> None:
        async with shell.connect(url, backoff=at_once()) as client, client.subscribe("tokens") as events:
            assert 1 == (await anext(events)).seq
            assert State.CONNECTED is client.state

    with scripted(script) as url:
        shell.run(main)
    assert 3 == connections


@on_each_shell
def test_a_server_that_takes_less_than_the_one_before(shell: Shell) -> None:
    """Tries to crash a client by limits under which its topics can't be asked for, nor its proof shown."""
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.accept(limits={**LIMITS, "message_bytes": 65536 if connections == 1 else 10})
        if connections == 1:
            await peer.agree(await peer.command())
            await peer.socket.aclose(1012)

    async def main() -> None:
        async with shell.connect(url, backoff=at_once()) as client, client.subscribe("tokens") as events:
            with pytest.raises(RequestTooBig):
                await anext(events)
            assert State.CONNECTED is client.state

    with scripted(script, accept=False) as url:
        shell.run(main)


@on_each_shell
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_the_block_is_interrupted(shell: Shell, exception: type[BaseException]) -> None:
    """Tries to wrap what ends a program, so that its exit status is another."""

    async def main() -> None:
        with pytest.raises(exception):
            async with shell.connect(url):
                raise exception

    async def script(peer: Peer) -> None:
        await peer.receive()

    with scripted(script) as url:
        shell.run(main)


@on_each_shell
def test_greeted_twice(shell: Shell) -> None:
    """Tries to confuse a client by a second greeting on one connection, or a reply that comes twice."""
    connected = Told()

    async def script(peer: Peer) -> None:
        first = True
        while True:
            command = await peer.receive()
            if first:
                await peer.send(greeting(client_id="another"))
                await peer.send(envelope("pong", {"message_id": "x"}, reply_to="nobody"))
                first = False
            for _ in range(2):
                await peer.reply(command, "pong", {"message_id": command["id"]})

    async def main() -> None:
        async with shell.connect(url, callbacks=Callbacks(connected=connected)) as client:
            await client.ping()
            await client.ping()
            assert "me" == client.client_id
            assert 1 == len(connected.what)

    with scripted(script) as url:
        shell.run(main)


@on_each_shell
def test_a_ping_that_crosses_the_goodbye(shell: Shell) -> None:
    """Tries to make an ordinary end of the block raise, by a Ping that comes when Close is sent already."""

    async def serve(stream: trio.SocketStream) -> None:
        await upgraded(stream)
        await stream.receive_some()  # Close
        await stream.send_all(b"\x89\x00" + b"\x88\x02\x03\xe8")

    async def main() -> None:
        async with shell.connect(url):
            pass

    with beside(partial(raw, serve=serve)) as url:
        shell.run(main)


@on_each_shell
def test_used_from_another_loop(shell: Shell) -> None:
    """Tries to ask and to listen from another thread's loop, where nobody would ever be woken."""

    async def main() -> None:
        async with shell.connect(url, request_s=1.0) as client, client.subscribe("here") as events:

            async def elsewhere() -> None:
                for use in (client.ping, client.changed, events.__anext__):
                    with pytest.raises(RuntimeError, match="another event loop"):
                        await use()
                with pytest.raises(RuntimeError, match="another event loop"):
                    client.subscribe("there")

            thread = threading.Thread(target=shell.run, args=(elsewhere,))
            thread.start()
            thread.join()
            await client.ping()

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.command())
        await pongs(peer)

    with scripted(script) as url:
        shell.run(main)


@on_each_shell
@pytest.mark.parametrize("last", [b"\x89\x00\x88\x02\x03\xe8", b"\x88\x02\x03\xe8"], ids=["ping", "close"])
def test_who_answers_the_goodbye_and_stays(shell: Shell, monkeypatch: pytest.MonkeyPatch, last: bytes) -> None:
    """Tries to hold up who leaves, when all is said, by not hanging up."""
    for module in ("trio_connection", "asyncio_connection", "asyncio_socket"):
        monkeypatch.setattr(f"ngos.client.{module}.CLOSE_S", LIMIT_S + 1)

    async def serve(stream: trio.SocketStream) -> None:
        await upgraded(stream)
        await stream.receive_some()  # Close
        await stream.send_all(last)
        await drained(stream)

    async def main() -> None:
        async with shell.connect(url):
            pass

    with beside(partial(raw, serve=serve)) as url:
        shell.run(main)
