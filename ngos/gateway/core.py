"""The sans-I/O core of the `websockets` library, and what it does not do for a server of text (RFC 6455). No I/O.

What is relied on of the library's inside is in this file; tests/gateway/test_websockets_contract.py says what it is.
"""

from __future__ import annotations

import binascii
import codecs
from base64 import b64decode
from collections.abc import Iterable
from typing import Final, NamedTuple

from attrs import frozen
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.utils import accept_key

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without C
    from websockets.utils import apply_mask

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

    `other_frames` counts those that were not plain text in one piece: they cost four times as much to read.
    `bare_frames` counts those that were no message and did not end one; the caller sets it back.

    Text that is not UTF-8 fails the connection with 1007 as soon as a frame of it is here (section 8.1), and a Close in
    the midst of a fragmented message is a Close like any other (section 5.4).
    """

    def __init__(self, max_size: int | None, deflate: PerMessageDeflate | None = None) -> None:
        super().__init__(Side.SERVER, max_size=max_size)
        self.extensions = [] if deflate is None else [deflate]
        self.messages: list[Received] = []
        self.other_frames = 0
        self.bare_frames = 0
        self._between_frames = True
        self._parts = bytearray()
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
        self.other_frames += 1
        self._between_frames = not self.reader.buffer
        if opcode is Opcode.TEXT and frame.fin:
            data = bytes(frame.data)
            if not data.isascii():
                data.decode()
            self.messages.append(Received(data, True))
        elif opcode is Opcode.BINARY and frame.fin:
            self.messages.append(Received(bytes(frame.data), False))
        elif opcode in (Opcode.TEXT, Opcode.BINARY):
            self.bare_frames += 1
            self._utf8 = _utf8_decoder() if opcode is Opcode.TEXT else None
            self._add(bytes(frame.data), last=False)
        elif opcode is Opcode.CONT:
            self.bare_frames += not frame.fin
            self._add(bytes(frame.data), last=frame.fin)
        else:
            self.bare_frames += 1

    def _add(self, data: bytes, *, last: bool) -> None:
        if self._utf8 is not None:
            self._utf8.decode(data, last)
        self._parts += data
        if last:
            self.messages.append(Received(bytes(self._parts), self._utf8 is not None))
            self._parts, self._utf8 = bytearray(), None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class BadHandshake(Exception):
    """A request to upgrade is wrong, and is refused with `status`: 400, or 426 for another version of the protocol."""

    def __init__(self, status: int) -> None:
        self.status = status


@frozen
class Handshake:
    """What the answer to an upgrade must say (section 4.2.2), and the compression that was agreed on."""

    headers: list[tuple[bytes, bytes]]
    deflate: PerMessageDeflate | None


def negotiate(headers: Iterable[tuple[bytes, bytes]], *, deflates: bool) -> Handshake:
    """Check a request to upgrade (section 4.2.1), and negotiate permessage-deflate if we do that (RFC 7692).

    That it is a GET with the right Connection and Upgrade was checked by whoever found it to be one. Names of headers
    are in lower case. Raises BadHandshake.
    """
    keys: list[bytes] = []
    versions: list[bytes] = []
    offers = Headers()
    for name, value in headers:
        if name == b"sec-websocket-key":
            keys.append(value)
        elif name == b"sec-websocket-version":
            versions.append(value)
        elif name == b"sec-websocket-extensions" and deflates:
            offers["Sec-WebSocket-Extensions"] = value.decode("latin1")
        elif name in (b"content-length", b"transfer-encoding"):
            raise BadHandshake(400)  # whose body would be read as frames
    if versions != [b"13"]:
        raise BadHandshake(426 if versions else 400)
    if len(keys) != 1 or not _is_key(keys[0]):
        raise BadHandshake(400)
    accept = accept_key(keys[0].decode()).encode()
    answer = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", accept)]
    if not offers:
        return Handshake(answer, None)
    try:
        agreed, extensions = _NEGOTIATOR.process_extensions(offers)
    except InvalidHandshake:
        raise BadHandshake(400) from None
    if agreed is None:
        return Handshake(answer, None)
    (deflate,) = extensions
    assert isinstance(deflate, PerMessageDeflate)
    return Handshake([*answer, (b"sec-websocket-extensions", agreed.encode())], deflate)


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


_KEY_BYTES: Final = 16
_NEGOTIATOR: Final = ServerProtocol(
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
