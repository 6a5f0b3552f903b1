"""The sans-I/O core of the `websockets` library, and what it does not do for a server of text (RFC 6455). No I/O.

What is relied on of the library's inside is in this file; tests/gateway/test_websockets_contract.py says what it is.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Final, NamedTuple

from attrs import frozen
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without C
    from websockets.utils import apply_mask

__all__ = ["Core", "Handshake", "InvalidHandshake", "Received", "negotiate"]

_PLAIN_TEXT: Final = 0x81  # FIN, no extension, text
_MASKED: Final = 0x80
_SHORTEST: Final = 6
_utf8_decoder: Final = codecs.getincrementaldecoder("utf-8")


class Received(NamedTuple):
    """A message; `data` of a text message is valid UTF-8."""

    data: bytes
    is_text: bool


class Core(Protocol):
    """Frames of one connection. `messages` are the complete ones that were received; the caller empties it.

    Text that is not UTF-8 fails the connection with 1007 as soon as a frame of it is here (section 8.1), and a Close in
    the midst of a fragmented message is a Close like any other (section 5.4).
    """

    def __init__(self, max_size: int | None, deflate: PerMessageDeflate | None = None) -> None:
        super().__init__(Side.SERVER, max_size=max_size)
        self.extensions = [] if deflate is None else [deflate]
        self.messages: list[Received] = []
        self._between_frames = True
        self._parts: list[bytes] = []
        self._utf8: codecs.IncrementalDecoder | None = None

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take in bytes from the network. Never raises: that the peer is at fault is told by the state.

        Whole text messages of one frame, which is nearly all that comes, are read here (1.1 µs, the library 4.8); what
        is anything else, and what follows it, the library reads.
        """
        if self._between_frames and self.current_size is None and self.state is State.OPEN:
            data = self._read_plain(data)
            if not data:
                return
        self._between_frames = False
        super().receive_data(data)

    def _read_plain(self, data: bytes | bytearray) -> bytes | bytearray:
        """Take what is plain off the beginning; returns the rest."""
        at, end = 0, len(data)
        most = end if self.max_message_size is None else self.max_message_size
        while end - at >= _SHORTEST and data[at] == _PLAIN_TEXT and data[at + 1] >= _MASKED:
            size = data[at + 1] - _MASKED
            start = at + _SHORTEST
            if size >= 126:
                if size == 127:
                    break
                size = data[at + 2] << 8 | data[at + 3]
                start += 2
            if start + size > end or size > most:
                break
            text = apply_mask(data[start : start + size], data[start - 4 : start])
            if not text.isascii() and not _is_utf8(text):
                break
            self.messages.append(Received(text, True))
            at = start + size
        return data[at:] if at else data

    def recv_frame(self, frame: Frame) -> None:
        """Take in a frame; whatever it raises fails the connection with the code that fits."""
        opcode = frame.opcode
        if opcode is Opcode.CLOSE:
            self.current_size = None  # else the library answers with 1002
        super().recv_frame(frame)
        self.events.clear()
        self._between_frames = not self.reader.buffer
        if opcode is Opcode.TEXT and frame.fin:
            data = bytes(frame.data)
            if not data.isascii():
                data.decode()
            self.messages.append(Received(data, True))
        elif opcode is Opcode.BINARY and frame.fin:
            self.messages.append(Received(bytes(frame.data), False))
        elif opcode in (Opcode.TEXT, Opcode.BINARY):
            self._parts = []
            self._utf8 = _utf8_decoder() if opcode is Opcode.TEXT else None
            self._add(bytes(frame.data), last=False)
        elif opcode is Opcode.CONT:
            self._add(bytes(frame.data), last=frame.fin)

    def _add(self, data: bytes, *, last: bool) -> None:
        if self._utf8 is not None:
            self._utf8.decode(data, last)
        if data:  # an endless row of empty ones must not fill the memory
            self._parts.append(data)
        if last:
            self.messages.append(Received(b"".join(self._parts), self._utf8 is not None))
            self._parts, self._utf8 = [], None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@frozen
class Handshake:
    """What the answer to an upgrade must say (section 4.2.2), and the compression that was agreed on."""

    headers: list[tuple[bytes, bytes]]
    deflate: PerMessageDeflate | None


def negotiate(headers: Iterable[tuple[bytes, bytes]], *, deflates: bool) -> Handshake:
    """Check a request to upgrade (section 4.2.1), and negotiate permessage-deflate if we do that (RFC 7692).

    Raises InvalidHandshake, which has a `name` where one header is at fault: the request is wrong.
    """
    asked = Headers()
    for name, value in headers:
        if name in _HANDSHAKE_HEADERS:
            asked[name.decode()] = value.decode("latin1")
    server = _DEFLATING if deflates else _PLAIN
    accept, extensions, _ = server.process_request(Request("/", asked))
    answer = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", accept.encode())]
    if extensions is None:
        return Handshake(answer, None)
    (deflate,) = server.extensions
    assert isinstance(deflate, PerMessageDeflate)
    return Handshake([*answer, (b"sec-websocket-extensions", extensions.encode())], deflate)


_HANDSHAKE_HEADERS: Final = frozenset(
    (b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions")
)
_PLAIN: Final = ServerProtocol()
_DEFLATING: Final = ServerProtocol(
    extensions=[
        # Without context from one message to the next, a connection holds no window, and what goes to many is
        # compressed once. 4 KiB of window do nearly as well on messages of this size as 32.
        ServerPerMessageDeflateFactory(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=12,
            client_max_window_bits=12,
        )
    ]
)
