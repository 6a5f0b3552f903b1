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
from typing import Final, cast

import h11
import trio
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import ProtocolError

from ngos.client.address import HANDSHAKE_BYTES, HUNG_UP, MESSAGE_BYTES, NO_HANDSHAKE, Address

RECEIVE_BYTES: Final = 64 * 1024
HELD_BYTES: Final = 64 * 1024
"""So much is put together, and then sent at once."""


async def open_socket(
    nursery: trio.Nursery, closing: AsyncExitStack, address: Address
) -> tuple[WebSocketConnection, WatchedStream]:
    """Connect and shake hands; no compression is offered. Also returns the stream below, which sees every frame.

    The socket's reader runs in `nursery`, which the caller cancels; `closing` closes its stream, for trio-websocket
    leaves it open when the peer hung up first. Raises ConnectFailed. Cancelled, it leaves nothing that these two
    don't end.
    """
    stream = WatchedStream(await _open_stream(address))
    closing.push_async_callback(trio.aclose_forcefully, stream)
    reader = _Reader(nursery, stream)
    with reader.opening:
        socket = await wrap_client_stream(
            cast(trio.Nursery, reader),
            cast(trio.SocketStream, stream),
            address.authority,
            address.resource,
            extra_headers=[(name.encode(), value.encode()) for name, value in address.headers],
            message_queue_size=16,
            max_message_size=MESSAGE_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
        stream.opened()
        return socket, stream
    if reader.refused is not None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in reader.refused.headers]
        raise address.refused(reader.refused.status_code, headers, reader.refused.body)
    raise address.failed(NO_HANDSHAKE if reader.garbled else HUNG_UP)


class WatchedStream(trio.abc.Stream):
    """A stream that knows when something last came: trio-websocket answers Pings without a word to anyone.

    Until `opened`, it ends after HANDSHAKE_BYTES: all of what a server says instead of a handshake would be kept.

    And it sends many frames at once, where trio-websocket would have a system call and two switches of tasks for each:
    while `more` says that the next follows without a pause, up to HELD_BYTES wait for it.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._left_bytes: float = HANDSHAKE_BYTES
        self.received_s = trio.current_time()
        """When something last came, on Trio's clock."""
        self.more: Callable[[], bool] | None = None
        """Set by who sends, while it does; if true, it must send the next before it waits for anything else."""
        self.goodbye = trio.CancelScope()
        """Around saying it: when nobody reads any more, nobody would hear the answer."""
        self._held = bytearray()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.more is not None and len(self._held) < HELD_BYTES and self.more():
            self._held += data
            return
        if self._held:
            self._held += data
            data, self._held = self._held, bytearray()
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
    """Runs trio-websocket's reader in a nursery, and ends `opening`, or the stream's `goodbye`, when it ends early."""

    def __init__(self, nursery: trio.Nursery, stream: WatchedStream) -> None:
        self._nursery = nursery
        self._stream = stream
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
        except (h11.ProtocolError, ProtocolError):
            # wsproto tells even a client to refuse what it can't read, and h11 knows that a client can't; or the body
            # of a refusal breaks. And when a Ping crosses our goodbye, trio-websocket wants to answer: too late.
            self.garbled = True
        self.opening.cancel()  # means nothing when the handshake is done
        self._stream.goodbye.cancel()


async def _open_stream(address: Address) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    try:
        if not address.secure:
            return await trio.open_tcp_stream(address.host, address.port)
        stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    except OSError as exc:
        # Trio gives one error for all addresses, and the reasons as its cause: one, or a group.
        reason = exc.__cause__ or exc
        raise address.unreachable(reason.exceptions if isinstance(reason, BaseExceptionGroup) else [reason]) from exc
    except trio.BrokenResourceError as exc:
        cause = exc.__cause__
        text = cause.reason if isinstance(cause, ssl.SSLError) else "it hung up"
        raise address.failed(f"TLS: {text}") from exc
    return stream
