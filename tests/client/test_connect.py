"""Connecting and leaving, against a scripted server on a real socket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
import trio
from trio_websocket import ConnectionClosed

from ngos.client.address import HANDSHAKE_BYTES, Address
from ngos.client.errors import (
    ConnectFailed,
)
from ngos.client.trio import connect
from tests.client.fakes import Peer, idle, serve
from tests.client.shells import OnTrio


def test_imports_no_server_code() -> None:
    """A program that uses the client does not load the server, which may not be installed."""
    code = (
        "import sys, ngos.client.trio as _; "
        "bad = [n for n in sys.modules if n.split('.')[0] in ('psycopg', 'quart', 'quart_trio', 'hypercorn', "
        "'structlog', 'typed_settings') or n.startswith('ngos.') "
        "and n.split('.')[1] not in ('client', 'protocol', 'errors')]; "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def served(nursery: trio.Nursery, talk: Callable[[trio.SocketStream], Awaitable[None]]) -> str:
    """The address of a server that is none: `talk` has each of its connections."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, talk, [listener])
    return f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"


async def test_greeting_and_headers(nursery: trio.Nursery) -> None:
    """The client id and the token are sent where protocol.md section 1 wants them."""
    seen: list[Peer] = []

    async def script(peer: Peer) -> None:
        seen.append(peer)
        await trio.lowlevel.checkpoint()

    url = await serve(nursery, script)
    async with connect(url, client_id="a:b", token="secret") as client:
        assert isinstance(client.connection_id, UUID)
        assert ("me", 256, 1) == (client.client_id, client.limits.in_flight, client.server.protocol)
    assert "/ws?client_id=a%3Ab" == seen[0].path
    assert b"Bearer secret" == seen[0].headers[b"authorization"]
    assert b"sec-websocket-extensions" not in seen[0].headers
    nursery.cancel_scope.cancel()


async def test_exceptions_of_the_block_stay_as_they_are(nursery: trio.Nursery) -> None:
    """What the caller's block raises is not wrapped in a group."""
    url = await serve(nursery, idle)
    with pytest.raises(LookupError):
        async with connect(url):
            raise LookupError
    nursery.cancel_scope.cancel()


async def test_cancelled_it_says_goodbye(nursery: trio.Nursery) -> None:
    """A cancelled block still closes with 1000, and is gone without delay."""
    codes: list[int] = []
    asked, told = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        try:
            await peer.receive()
            asked.set()
            await peer.receive()
        except ConnectionClosed as exc:
            assert exc.reason is not None
            codes.append(exc.reason.code)
            told.set()

    async def follow() -> None:
        async with connect(url) as client:
            await client.subscribe("tokens").__anext__()

    url = await serve(nursery, script)
    await OnTrio().cancelled(follow, asked.wait)
    with trio.fail_after(5):
        await told.wait()
    assert [1000] == codes
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, [(b"www-authenticate", b"Bearer")], "401 Unauthorized"),
        (503, [(b"retry-after", b"7")], "503 Service Unavailable; retry after 7 s"),
        (404, [], "404 Not Found"),
    ],
)
async def test_refused(nursery: trio.Nursery, status: int, headers: list[tuple[bytes, bytes]], expected: str) -> None:
    """A refusal before the upgrade is one line with its status, and no exception group."""

    async def script(peer: Peer) -> None:
        await peer.request.reject(status, extra_headers=headers)

    url = await serve(nursery, script, accept=False)
    with pytest.raises(ConnectFailed) as caught:
        async with connect(url):
            pass
    assert (status, expected) == (caught.value.status, caught.value.reason)
    nursery.cancel_scope.cancel()


async def test_closed_or_wrong_before_the_greeting(nursery: trio.Nursery) -> None:
    """What comes instead of the greeting makes ConnectFailed say so: a close code, another version."""

    async def close(peer: Peer) -> None:
        socket = await peer.request.accept()
        await socket.aclose(4401, "not authenticated")

    async def version(peer: Peer) -> None:
        await peer.accept(server={"name": "ngos", "version": "9", "protocol": 2})

    for script, expected in ((close, "4401"), (version, "speaks protocol 2")):
        url = await serve(nursery, script, accept=False)
        with pytest.raises(ConnectFailed, match=expected):
            async with connect(url):
                pass
    nursery.cancel_scope.cancel()


async def test_no_answer(nursery: trio.Nursery) -> None:
    """A server that accepts TCP and is silent is ConnectFailed after `connect_s`; one that hangs up, at once."""
    (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent.socket.getsockname()[1]
    with pytest.raises(ConnectFailed, match=r"no answer within 0\.05 s"):
        async with connect(f"ws://127.0.0.1:{port}/ws", connect_s=0.05):
            pass
    await silent.aclose()
    with pytest.raises(ConnectFailed, match="refused"):
        async with connect(f"ws://127.0.0.1:{port}/ws"):
            pass

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    url = await served(nursery, hang_up)
    with pytest.raises(ConnectFailed, match="hung up"):
        async with connect(url):
            pass
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\xff garbage\r\n\r\n",
        b"HTTP/1.1 101 Go\r\n" + b"X-Long: x\r\n" * 20_000,
        b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
    ],
    ids=["no HTTP", "headers without end", "wrong accept"],
)
async def test_no_handshake(nursery: trio.Nursery, answer: bytes) -> None:
    """What answers in another protocol is ConnectFailed: nothing of the libraries below comes out."""

    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        try:
            await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass
        await stream.aclose()

    url = await served(nursery, talk)
    with pytest.raises(ConnectFailed, match="no handshake"):
        async with connect(url):
            pass
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("length", ["Transfer-Encoding: chunked", "Content-Length: 99999999999"])
async def test_a_refusal_without_end(nursery: trio.Nursery, length: str) -> None:
    """Tries to fill a client's memory by a refusal whose body never ends."""
    sent_bytes = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal sent_bytes
        await stream.receive_some()
        try:
            await stream.send_all(f"HTTP/1.1 503 No\r\n{length}\r\n\r\n".encode())
            while True:
                await stream.send_all(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
                sent_bytes += 0x8000
        except trio.BrokenResourceError:
            pass

    url = await served(nursery, talk)
    with pytest.raises(ConnectFailed), trio.fail_after(5):
        async with connect(url):
            pass
    assert sent_bytes < 64 * HANDSHAKE_BYTES  # what the kernel holds; without a bound it goes on until the deadline
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["http://127.0.0.1/ws", "nonsense", "ws://", "ws://[", "ws://h:99999/", "ws://h/a b"])
async def test_bad_urls(url: str) -> None:
    """A URL that is none is ConnectFailed, before any packet."""
    with pytest.raises(ConnectFailed):
        async with connect(url):
            pass


async def test_cancelled_while_connecting() -> None:
    """Cancelling `connect` is prompt, and raises nothing else."""
    (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent.socket.getsockname()[1]
    with trio.move_on_after(0.05) as scope:
        async with connect(f"ws://127.0.0.1:{port}/ws"):
            pass
    assert scope.cancelled_caught
    await silent.aclose()


@pytest.mark.parametrize(
    ("query", "client_id", "expected"),
    [
        ("?client_id=a", None, "client_id=a"),
        ("?client_id=a&x=1", "b", "x=1&client_id=b"),
        ("?client_id=a&client_id=c", "b", "client_id=b"),
        ("?x=1", "b", "x=1&client_id=b"),
    ],
)
def test_one_client_id(query: str, client_id: str | None, expected: str) -> None:
    """Tries to tell the server two ids of one client, or another than the program chose."""
    assert expected == Address.of(f"ws://127.0.0.1/ws{query}", client_id, None, 1.0).query
