"""First connections that come to nothing, each on each shell: one clear line, and nothing left behind."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from ssl import Purpose, create_default_context
from typing import Any

import pytest
import trio
import trustme

from ngos.client.errors import ConnectFailed
from tests.client.beside import beside, scripted
from tests.client.fakes import Peer
from tests.client.shells import Shell, on_each_shell


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
