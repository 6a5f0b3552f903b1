"""What attackers send over an open WebSocket: frames that no client sends. Pure.

Promises: every series ends. A block is bytes to be sent at once, and how many attempts they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from attack_parts.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, frame_head

TERABYTE = 2**40
MESSAGE_BYTES = 64 * 1024
FRAGMENTS = 100_000
PINGS = 100_000
AT_ONCE = 500

Block = tuple[int, bytes]
PING_COMMAND = frame(TEXT, b'{"type":"ping"}')


def cut_anywhere(rng: Random) -> Iterator[Block]:
    """Good commands, in pieces of any size; the last one stops in the midst of a frame."""
    data = PING_COMMAND * 40
    data = data[: rng.randrange(len(data))]
    while data:
        size = rng.randint(1, 40)
        yield 1, data[:size]
        data = data[size:]


def half_a_frame(rng: Random) -> Iterator[Block]:
    """A frame without its end. Whoever sends it resets the connection."""
    data = frame(TEXT, b'{"type":"ping"' + b" " * rng.randrange(1, 50_000))
    yield 1, data[: rng.randrange(1, len(data))]


def a_terabyte(rng: Random) -> Iterator[Block]:
    """A frame that declares a terabyte, or more than there is, and some of what it declares."""
    declared = rng.choice((TERABYTE, 2**31, 2**63 - 1, 2**63))
    opcode = rng.choice((TEXT, BINARY, CONTINUATION, PING))
    yield 1, frame_head(opcode, declared)
    for _ in range(64):
        yield 0, b"x" * MESSAGE_BYTES


def long_control(rng: Random) -> Iterator[Block]:
    """A Ping, Pong or Close of more than 125 bytes, or in fragments."""
    opcode = rng.choice((PING, PONG, CLOSE))
    size = rng.choice((126, 127, 1000, 60_000))
    yield 1, PING_COMMAND + frame(opcode, b"\x03\xe8" + b"x" * (size - 2), fin=rng.random() < 0.8)


def tiny_fragments(rng: Random) -> Iterator[Block]:
    """One message in 100,000 fragments of a byte or of none."""
    some = frame(CONTINUATION, b"" if rng.random() < 0.5 else b"x", fin=False) * AT_ONCE
    yield 1, frame(TEXT, b'{"type":"', fin=False)
    for _ in range(FRAGMENTS // AT_ONCE):
        yield AT_ONCE, some


def tiny_messages_between(_rng: Random) -> Iterator[Block]:
    """A message in fragments with a Ping behind each of them."""
    some = (frame(CONTINUATION, b"", fin=False) + frame(PING, b"")) * AT_ONCE
    yield 1, frame(TEXT, b'{"type":"', fin=False)
    for _ in range(FRAGMENTS // AT_ONCE):
        yield AT_ONCE, some


def pings(rng: Random) -> Iterator[Block]:
    """Pings, each of which asks for a Pong."""
    some = frame(PING, b"x" * rng.choice((0, 125))) * AT_ONCE
    for _ in range(PINGS // AT_ONCE):
        yield AT_ONCE, some


def deflated(rng: Random) -> Iterator[Block]:
    """A bit for compression that was not agreed on, or rubbish where it was."""
    yield 1, frame(TEXT, rng.randbytes(200) + b"\0" * 60_000, rsv1=True)
