"""Frames (RFC 6455) and requests, byte for byte, and what a server answers, read with suspicion. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from random import Random
from typing import Final, NamedTuple

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPCODES: Final = (CONT, TEXT, BINARY, CLOSE, PING, PONG)
DEFLATE_OFFER: Final = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
NO_MASK: Final = b"\0\0\0\0"
_FIN, _RSV1, _MASKED = 0x80, 0x40, 0x80


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    compressed: bool = False,
    mask: bytes | None = NO_MASK,
    declared: int | None = None,
) -> bytes:
    """A client's frame; `declared` is the size that it claims, if not its own."""
    first = (_FIN if fin else 0) | (_RSV1 if compressed else 0) | opcode
    size = len(payload) if declared is None else declared
    flag = 0 if mask is None else _MASKED
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if mask is None:
        return head + payload
    if mask == NO_MASK:
        return head + mask + payload
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + mask + masked.to_bytes(len(payload), "big")


def fragmented(rng: Random, message: bytes) -> bytes:
    """A text message in one frame or several, with control frames in between. All as RFC 6455 has it."""
    pieces = rng.choice([1, 1, 1, 2, 3, 20])
    cuts = sorted(rng.randint(0, len(message)) for _ in range(pieces - 1))
    wire = b""
    for n, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(message)], strict=True)):
        wire += frame(CONT if n else TEXT, message[start:end], fin=n == pieces - 1, mask=rng.randbytes(4))
        if rng.random() < 0.2:
            wire += frame(rng.choice([PING, PONG]), rng.randbytes(rng.choice([0, 4, 125])), mask=rng.randbytes(4))
    return wire


def in_chunks(rng: Random, wire: bytes, most: int = 6) -> list[bytes]:
    """The same bytes, cut anywhere."""
    cuts = sorted(rng.randint(0, len(wire)) for _ in range(rng.randint(0, most)))
    return [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True) if end > start]


def upgrade(target: str = "/ws", headers: Mapping[str, str] | None = None) -> bytes:
    """The request that asks for a WebSocket; `headers` replace, or with an empty text take away."""
    fields = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode()


class Incoming(NamedTuple):
    """A server's frame."""

    opcode: int
    payload: bytes
    compressed: bool


class NotAFrame(Exception):
    """A server sent what is none."""


class Frames:
    """Reads a server's frames as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Incoming]:
        """Take in bytes; yields the frames that are complete. Raises NotAFrame."""
        self._buffer += data
        while (found := self._next()) is not None:
            yield found

    def _next(self) -> Incoming | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, size = buffer[0], buffer[1]
        start = 2
        if size >= _MASKED:
            raise NotAFrame("a server's frame is masked")
        if size >= 126:
            length = 2 if size == 126 else 8
            start += length
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        payload = bytes(buffer[start : start + size])
        del buffer[: start + size]
        opcode = first & 0x0F
        if not first & _FIN or first & 0x30 or opcode not in (TEXT, CLOSE, PING, PONG):
            raise NotAFrame(f"a frame begins with {first:#x}")
        return Incoming(opcode, payload, bool(first & _RSV1))
