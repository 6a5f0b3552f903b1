"""What goes over the wire to a client: frames of text messages, made once for all that get the same (RFC 6455). Pure.

Compressed messages (RFC 7692) are made without context from one to the next, so they too are the same for all whose
window has the same size.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

DEFLATE_BYTES: Final = 128
"""Shorter messages are sent as they are: there is little to win, and it costs some 20 µs."""
_MEMORY_LEVEL: Final = 5
_FIN_TEXT: Final = 0x81
_COMPRESSED: Final = 0x40
_TAIL: Final = b"\x00\x00\xff\xff"


def text_frame(message: bytes, deflate_bits: int = 0) -> bytes:
    """One unfragmented text frame, from a server (section 5.2).

    `deflate_bits`: the window to compress with, as a power of two; 0: don't. What is short is not compressed.
    """
    first = _FIN_TEXT
    if deflate_bits and len(message) >= DEFLATE_BYTES:
        first |= _COMPRESSED
        message = deflate(message, deflate_bits)
    size = len(message)
    if size < 126:
        return struct.pack("!BB", first, size) + message
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + message
    return struct.pack("!BBQ", first, 127, size) + message


def deflate(message: bytes, window_bits: int) -> bytes:
    """A message compressed by itself, as RFC 7692 section 7.2.1 has it. `window_bits` is 9 to 15."""
    compressor = zlib.compressobj(wbits=-window_bits, memLevel=_MEMORY_LEVEL)
    compressed = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return compressed.removesuffix(_TAIL)


def frame_end(frames: bytes, start: int, at: int) -> int:
    """The first end of a frame that is not before `at`; `frames` are a server's, `start` is the end of one of them."""
    end = start
    while end < at:
        size = frames[end + 1]
        if size < 126:
            end += 2 + size
        elif size == 126:
            end += 4 + int.from_bytes(frames[end + 2 : end + 4], "big")
        else:
            end += 10 + int.from_bytes(frames[end + 2 : end + 10], "big")
    return end
