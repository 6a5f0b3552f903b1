"""Open a WebSocket, and say in one line why there is none. What is known of trio-websocket's insides is here.

trio-websocket starts one task, its reader, in a nursery that it is given. When the server hangs up before it has
answered, that task ends and `wrap_client_stream` waits for ever; when the server refuses, or speaks another protocol,
the task raises into the nursery. `_Reader` stands in for the nursery, so that all of this is seen at once. May import
this package.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import cast
from urllib.parse import quote, urlsplit

import h11
import trio
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

from ngos.client.errors import ConnectFailed

MESSAGE_BYTES = 32 * 1024 * 1024
"""The largest message from a server: a page of 1000 tokens with 16 KiB of metadata each, and some."""
RECEIVE_BYTES = 64 * 1024
HANDSHAKE_BYTES = 256 * 1024


async def open_socket(
    nursery: trio.Nursery, closing: AsyncExitStack, url: str, client_id: str | None, token: str | None
) -> tuple[WebSocketConnection, WatchedStream]:
    """Connect and shake hands; no compression is offered. Also returns the stream below, which sees every frame.

    The socket's reader runs in `nursery`, which the caller cancels; `closing` closes its stream, for trio-websocket
    leaves it open when the peer hung up first. Raises ConnectFailed. Cancelled, it leaves nothing that these two
    don't end.
    """
    secure, host, port, resource = _parse(url, client_id)
    headers = [] if token is None else [(b"authorization", b"Bearer " + _header(url, token))]
    stream = WatchedStream(await _open_stream(url, secure, host, port))
    closing.push_async_callback(trio.aclose_forcefully, stream)
    authority = f"[{host}]" if ":" in host else host
    if port != (443 if secure else 80):
        authority += f":{port}"
    reader = _Reader(nursery)
    with reader.opening:
        socket = await wrap_client_stream(
            cast(trio.Nursery, reader),
            cast(trio.SocketStream, stream),
            authority,
            resource,
            extra_headers=headers,
            message_queue_size=16,
            max_message_size=MESSAGE_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
        stream.opened()
        return socket, stream
    if reader.refused is not None:
        refused = reader.refused
        raise ConnectFailed(url, _refusal(refused), status=refused.status_code, retry_after_s=_retry_after_s(refused))
    if reader.garbled:
        raise ConnectFailed(url, "what it answered is no handshake: not a WebSocket server?")
    raise ConnectFailed(url, "it hung up before it answered: not a WebSocket server?")


class WatchedStream(trio.abc.Stream):
    """A stream that knows when something last came: trio-websocket answers Pings without a word to anyone.

    Until `opened`, it ends after HANDSHAKE_BYTES: all of what a server says instead of a handshake would be kept.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._left_bytes: float = HANDSHAKE_BYTES
        self.received_s = trio.current_time()
        """When something last came, on Trio's clock."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self.received_s = trio.current_time()
        self._left_bytes -= len(data)
        return data if self._left_bytes >= 0 else b""

    def opened(self) -> None:
        """The handshake is done."""
        self._left_bytes = math.inf

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Reader:
    """Runs trio-websocket's reader in a nursery, and ends `opening` when it ends too early."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.opening = trio.CancelScope()
        self.refused: ConnectionRejected | None = None
        self.garbled = False

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except ConnectionRejected as exc:
            self.refused = exc
        except h11.ProtocolError:
            # wsproto tells even a client to refuse what it can't read, and h11 knows that a client can't.
            self.garbled = True
        self.opening.cancel()  # means nothing when the handshake is done


async def _open_stream(
    url: str, secure: bool, host: str, port: int
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    try:
        if not secure:
            return await trio.open_tcp_stream(host, port)
        stream = await trio.open_ssl_over_tcp_stream(host, port, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    except OSError as exc:
        raise ConnectFailed(url, _unreachable(exc)) from exc
    except trio.BrokenResourceError as exc:
        cause = exc.__cause__
        text = cause.reason if isinstance(cause, ssl.SSLError) else "it hung up"
        raise ConnectFailed(url, f"TLS: {text}") from exc
    return stream


def _parse(url: str, client_id: str | None) -> tuple[bool, str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConnectFailed(url, f"not a URL: {exc}") from exc
    if parts.scheme not in ("ws", "wss") or not host:
        raise ConnectFailed(url, "not a URL such as ws://127.0.0.1:8000/ws")
    secure = parts.scheme == "wss"
    query = parts.query
    if client_id is not None:
        query += ("&" if query else "") + "client_id=" + quote(client_id, safe="")
    resource = (parts.path or "/") + ("?" + query if query else "")
    if not (resource.isascii() and resource.isprintable() and " " not in resource):
        raise ConnectFailed(url, "its path and query must be percent-encoded")
    return secure, host, port if port is not None else (443 if secure else 80), resource


def _header(url: str, token: str) -> bytes:
    if not (token.isascii() and token.isprintable()):
        raise ConnectFailed(url, "the token has characters that a header can't carry")
    return token.encode("ascii")


def _unreachable(exc: OSError) -> str:
    # Trio gives one error for all addresses, and the reasons as its cause: one, or a group.
    causes: list[BaseException] = [exc.__cause__] if exc.__cause__ is not None else [exc]
    if isinstance(causes[0], BaseExceptionGroup):
        causes = list(causes[0].exceptions)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "connection refused: is the server running?"
    first = causes[0]
    return (first.strerror if isinstance(first, OSError) else None) or str(first)


def _retry_after_s(exc: ConnectionRejected) -> float | None:
    """Seconds only: the other form, a date, is of use to those who trust two clocks."""
    for name, value in exc.headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return float(value)
    return None


def _refusal(exc: ConnectionRejected) -> str:
    try:
        phrase = HTTPStatus(exc.status_code).phrase
    except ValueError:
        phrase = "refused"
    text = f"{exc.status_code} {phrase}"
    body = (exc.body or b"").decode("utf-8", "replace").strip()
    if body and len(body) <= 200 and body.isprintable() and body != phrase:
        text += f": {body}"
    for name, value in exc.headers:
        if name.lower() == b"retry-after":
            text += f"; retry after {value.decode('ascii', 'replace')} s"
    return text
