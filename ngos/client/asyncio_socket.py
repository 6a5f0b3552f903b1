"""Open a WebSocket on asyncio, and say in one line why there is none. What is known of `websockets` is here.

Its connection is opened by its parts, not by `websockets.connect`, which would follow redirects with our token, use
proxies that only the environment names, and say less of what went wrong. May import this package except the shells, and
the protocol.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.uri import WebSocketURI

from ngos.client.address import CLOSE_S, HANDSHAKE_BYTES, HUNG_UP, MESSAGE_BYTES, NO_HANDSHAKE, Address
from ngos.client.errors import NO_GOODBYE, ConnectionLost
from ngos.protocol.close import CloseCode

QUEUE_MESSAGES: Final = 64
"""Past so many unread messages the socket is not read; then TCP holds up the server."""
ATTEMPT_S: Final = 0.25
"""How long one of a host's addresses may take before the next is tried beside it (RFC 8305 section 5)."""
_FAULTS: Final = frozenset({CloseCode.PROTOCOL_ERROR, CloseCode.NOT_UTF8, CloseCode.MESSAGE_TOO_BIG})
"""What `websockets` closes with where it is the peer's fault."""


class Socket(ClientConnection):
    """A connection that knows when something last came: `websockets` answers Pings without a word to anyone.

    Until `opened`, it ends after HANDSHAKE_BYTES, and at once on what is no handshake: `websockets` would wait for the
    peer to hang up.
    """

    def __init__(self, protocol: ClientProtocol) -> None:
        # Neither keepalive nor closing in ten seconds: heartbeat and goodbye are ours (protocol.md section 9).
        super().__init__(protocol, ping_interval=None, close_timeout=CLOSE_S, max_queue=QUEUE_MESSAGES)
        self.received_s = self.loop.time()
        """When something last came, on the loop's clock."""
        self._left_bytes: int | None = HANDSHAKE_BYTES

    def data_received(self, data: bytes) -> None:
        self.received_s = self.loop.time()
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                self.transport.abort()
                return
        super().data_received(data)
        if self._left_bytes is not None and self.protocol.handshake_exc is not None:
            self.transport.abort()
        elif self.protocol.parser_exc is not None:
            self._hang_up()
        elif self.protocol.close_rcvd is not None and not self.transport.get_write_buffer_size():
            self.transport.close()  # both have said goodbye: `websockets` would wait until the peer hangs up

    def opened(self) -> None:
        """The handshake is done."""
        self._left_bytes = None

    async def cut(self) -> None:
        """End it at once, without a goodbye, and wait until it is gone; nothing happens where it is closed already."""
        self.transport.abort()
        await self.wait_closed()

    def _hang_up(self) -> None:
        """The peer has broken RFC 6455 and been told so: `websockets` would wait until it hangs up, and it may not."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def silent_so_far(self) -> bool:
        """Whether the peer has said nothing at all."""
        return self._left_bytes == HANDSHAKE_BYTES


async def open_socket(address: Address) -> Socket:
    """Connect and shake hands; no compression is offered. Raises ConnectFailed. Cancelled, it leaves nothing open."""
    uri = WebSocketURI(address.secure, address.host, address.port, address.path, address.query, None, None)
    loop = asyncio.get_running_loop()
    try:
        _, socket = await loop.create_connection(
            lambda: Socket(ClientProtocol(uri, max_size=MESSAGE_BYTES)),
            address.host,
            address.port,
            ssl=ssl.create_default_context() if address.secure else None,
            happy_eyeballs_delay=ATTEMPT_S,
        )
    except ssl.SSLError as exc:
        raise address.failed(f"TLS: {exc.reason}") from exc
    except (ConnectionResetError, ConnectionAbortedError) as exc:
        raise address.failed("TLS: it hung up" if address.secure else HUNG_UP) from exc
    except OSError as exc:
        raise address.unreachable([exc]) from exc
    try:
        await _shake_hands(socket, address)
    except BaseException:
        await socket.cut()
        raise
    socket.opened()
    return socket


async def _shake_hands(socket: Socket, address: Address) -> None:
    try:
        await socket.handshake(address.headers)
    except InvalidStatus as exc:
        response = exc.response
        raise address.refused(response.status_code, response.headers.raw_items(), bytes(response.body or b"")) from exc
    except InvalidHandshake as exc:
        nothing = isinstance(exc.__cause__, EOFError) and socket.silent_so_far
        raise address.failed(HUNG_UP if nothing else NO_HANDSHAKE) from exc


def lost(exc: ConnectionClosed) -> ConnectionLost:
    """Why the connection is over: what the server said, or what its fault made us say."""
    if exc.rcvd is not None:
        return ConnectionLost(exc.rcvd.code, exc.rcvd.reason)
    if exc.sent is not None and exc.sent.code in _FAULTS:
        return ConnectionLost(exc.sent.code, exc.sent.reason)
    return ConnectionLost(NO_GOODBYE, "")
