"""A client's end of TCP, HTTP and WebSocket, byte for byte: what no decent client does can be done here.

Promises: connects from the address that it is told, so that the server sees that one; a socket that is left is reset,
so that the kernel has its port back at once. Runs on Trio. Imports nothing of ngos.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs
import trio

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
RECEIVE_BYTES = 65536
HEAD_BYTES = 65536
_NO_KEY = b"\0\0\0\0"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_TYPE = re.compile(rb'"type":"([a-z_.]+)"')
_CODE = re.compile(rb'"code":"([a-z_]+)"')
# The number that Linux has for it; Python names it from 3.12 on.
_IP_BIND_ADDRESS_NO_PORT = 24


@attrs.frozen
class Target:
    """Where the server is, which address to come from, and what to say of oneself in every request."""

    port: int
    source: str
    host: str = "127.0.0.1"
    headers: Mapping[str, str] = attrs.field(factory=dict)

    async def connect(self) -> trio.SocketStream:
        """A connection over TCP. Raises OSError."""
        made = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_STREAM)
        try:
            # Else a port is free or not for all destinations together, and there are soon none.
            made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            await made.bind((self.source, 0))
            await made.connect((self.host, self.port))
        except BaseException:
            made.close()
            raise
        return trio.SocketStream(made)

    def upgrade(self, path: str = "/ws", headers: Mapping[str, str] | None = None) -> bytes:
        """The request that asks for a WebSocket (RFC 6455 section 4.1); `headers` replace or add."""
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        return self.request("GET", path, fields | dict(headers or {}))

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
        """A request of HTTP/1.1."""
        fields = {"Host": f"{self.host}:{self.port}", **self.headers, **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin1") + body


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame (RFC 6455 section 5.2). Its masking key is 0, which is legal and costs only the server."""
    return frame_head(opcode, len(payload), fin=fin, rsv1=rsv1) + payload


def frame_head(opcode: int, declared: int, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """The beginning of a frame that declares so many bytes."""
    first = (0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode
    if declared < 126:
        head = struct.pack("!BB", first, 0x80 | declared)
    elif declared < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, declared)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, declared)
    return head + _NO_KEY


def reset(stream: trio.SocketStream) -> None:
    """Cut a connection: the peer gets a reset."""
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is cut
    stream.socket.close()


@contextmanager
def cut_at_end(stream: trio.SocketStream) -> Iterator[trio.SocketStream]:
    """Leave a connection by a reset."""
    try:
        yield stream
    finally:
        reset(stream)


class Frames:
    """What a server sends over a WebSocket, from its bytes: feed it, and take (opcode, payload)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> list[tuple[int, bytes]]:
        """The frames that are complete now."""
        buffer, found, at = self._buffer, [], 0
        buffer += data
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if start > len(buffer) or start + size > len(buffer):
                break
            found.append((buffer[at] & 0x0F, bytes(buffer[start : start + size])))
            at = start + size
        del buffer[:at]
        return found


async def read_head(stream: trio.SocketStream) -> tuple[int, bytes]:
    """The status of an answer, and what came behind its headers; 0: it ended before. Raises BrokenResourceError."""
    data = bytearray()
    while b"\r\n\r\n" not in data and len(data) < HEAD_BYTES:
        more = await stream.receive_some(RECEIVE_BYTES)
        if not more:
            return 0, b""
        data += more
    status = _STATUS.match(data)
    return int(status[1]) if status else 0, bytes(data.partition(b"\r\n\r\n")[2])


def outcome_of(opcode: int, payload: bytes) -> str:
    """What a frame of the server's is, in two words."""
    if opcode == CLOSE:
        return f"closed {int.from_bytes(payload[:2], 'big') if len(payload) >= 2 else 1005}"
    if opcode in (PING, PONG):
        return "Pong" if opcode == PONG else "Ping"
    found = _TYPE.search(payload)
    name = found[1].decode() if found else "?"
    if name == "error":
        code = _CODE.search(payload)
        return f"error {code[1].decode() if code else '?'}"
    return "event" if b'"topic":' in payload.partition(b'"payload":')[0] else name


def failure_of(exc: OSError | trio.BrokenResourceError) -> str:
    """What became of a connection that failed, in a word or two."""
    cause = exc if isinstance(exc, OSError) else exc.__cause__
    match cause:
        case ConnectionResetError() | BrokenPipeError():
            return "reset"
        case ConnectionRefusedError():
            return "refused"
        case OSError(strerror=str(text)):
            return text.lower()
    return "broken"
