"""What must hold for any bytes at all: of the codec, of cursors, and of frames. Pure, and quick.

An oracle takes bytes and raises Defect, or lets through whatever the code under test raises beyond what it promised:
both are findings.
"""

from __future__ import annotations

import time
from binascii import crc32
from collections.abc import Callable
from random import Random
from typing import Any, Final
from uuid import UUID

import orjson
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

from fuzz_parts.wire import in_chunks
from ngos.gateway.core import Core, Received
from ngos.protocol import codec
from ngos.protocol.faults import ClientError, DecodeError, ErrorCode
from ngos.protocol.messages import ErrorReply
from ngos.services import pages

REPLY_BYTES: Final = 16 * 1024
INPUT_BYTES: Final = 64 * 1024
INPUT_S: Final = 0.05
"""CPU time that a message of the limit may take; a shorter one has a tenth of it, and its share of the rest."""
ID: Final = str(UUID(int=0))
DECODE_CODES: Final = frozenset(
    {ErrorCode.INVALID_JSON, ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_TYPE, ErrorCode.INVALID_PAYLOAD}
)


class Defect(Exception):
    """A promise is broken; the text says which. Equal texts are one defect."""


def holds(condition: object, promise: str) -> None:
    """Raises Defect where a promise is broken."""
    if not condition:
        raise Defect(promise)


def decode(data: bytes) -> None:
    """`codec.decode` returns a command or raises DecodeError, and either is what protocol.md says."""
    try:
        received = codec.decode(data)
    except DecodeError as exc:
        error = exc
    else:
        _of_command(received, data)
        return
    holds(error.code in DECODE_CODES, "the code is one of the four of decode")
    holds(error.command_id is None or 1 <= len(error.command_id) <= 128, "an id that is echoed is an id")
    reply = codec.encode(
        ErrorReply.TYPE,
        codec.dump(ErrorReply.of(error, error.command_id)),
        id_=ID,
        timestamp_ms=0,
        reply_to=error.command_id,
    )
    holds(len(reply) <= REPLY_BYTES, f"an error reply has at most {REPLY_BYTES} bytes")
    holds(orjson.loads(reply)["payload"]["code"] == error.code, "an error reply can be read")


def _of_command(received: codec.Received, data: bytes) -> None:
    command = received.command
    holds(received.size_bytes == len(data), "size_bytes is the size")
    again = codec.decode(codec.encode_command(command, received.id))
    holds(again.command == command, "encoded and decoded again, it is the same command")
    holds(again.id == received.id, "encoded and decoded again, it has the same id")
    holds(received.hash() == received.hash() == codec.decode(data).hash(), "the hash is stable")
    envelope = orjson.loads(data)
    shuffled = orjson.dumps(_reversed(envelope))
    if len(shuffled) <= INPUT_BYTES:
        holds(codec.decode(shuffled).hash() == received.hash(), "the hash does not depend on the order of keys")


def _reversed(value: Any) -> Any:
    """The same JSON with the keys of all objects in reverse."""
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def decode_time(data: bytes) -> None:
    """`codec.decode` takes no longer than its input is worth."""
    allowed_s = INPUT_S * max(0.1, len(data) / INPUT_BYTES)
    if _cpu_s(data) > allowed_s:
        # Of the best of several: the machine has other work, and a collection of garbage counts as ours.
        fastest_s = min(_cpu_s(data) for _ in range(5))
        holds(fastest_s <= allowed_s, "decoding takes at most 50 ms per 64 KiB")


def _cpu_s(data: bytes) -> float:
    start = time.thread_time()
    try:
        codec.decode(data)
    except DecodeError:
        pass
    return time.thread_time() - start


def parse(data: bytes) -> None:
    """`codec.parse`, the client's, returns an envelope or raises MessageError."""
    try:
        envelope = codec.parse(data)
    except codec.MessageError:
        return
    holds(isinstance(envelope.type, str), "a type is a string")
    holds(envelope == codec.parse(data.decode()), "text and bytes are read alike")


def cursor(data: bytes) -> None:
    """A cursor is refused by ClientError, or names a place that is written as the same one."""
    text = data.decode("latin1")
    try:
        at, id_ = pages.decode_cursor(text)
    except ClientError as exc:
        holds(exc.code is ErrorCode.INVALID_PAYLOAD, "a bad cursor is invalid_payload")
        return
    holds(pages.encode_cursor(at, id_) == text, "a cursor is written as it was read")


class _Slow(Core):
    """Without the fast path."""

    def _read_plain(self, data: bytes | bytearray) -> bytes | bytearray:
        return data


def frames(data: bytes) -> None:
    """Frames are the same messages, end and answers however they are cut, and by the fast path as by the library.

    The first byte says with which limit and whether with compression; the rest is what a peer sends.
    """
    if not data:
        return
    flags, wire = data[0], data[1:]
    limit = (65536, 125, 1000, 70)[flags >> 1 & 3]

    def make(kind: type[Core]) -> Core:
        return kind(limit, PerMessageDeflate(True, True, 12, 12) if flags & 1 else None)

    rng = Random(crc32(data))
    whole = _outcome(make(Core), [wire], limit)
    holds(whole == _outcome(make(_Slow), [wire], limit), "the fast path does as the library")
    bytewise = [wire[n : n + 1] for n in range(len(wire))] if len(wire) < 200 else in_chunks(rng, wire, 30)
    for chunks in (in_chunks(rng, wire), in_chunks(rng, wire, 1), bytewise):
        holds(whole == _outcome(make(Core), chunks, limit), "bytes may be cut anywhere")
    if not flags & 1:
        _beside_the_library(whole, wire, limit)


def _outcome(core: Core, chunks: list[bytes], limit: int) -> tuple[object, ...]:
    said = b""
    for chunk in chunks:
        core.receive_data(chunk)
        said += b"".join(core.data_to_send())
        kept = len(core.reader.buffer) + len(core._parts)  # noqa: SLF001
        holds(kept <= 2 * limit + 14 + len(chunk), "no more is kept than a message and a frame")
        holds(not core.events, "no frame is kept beside the messages")
    for message in core.messages:
        holds(len(message.data) <= limit, "no message is over the limit")
        if message.is_text:
            message.data.decode()
    return tuple(core.messages), _code(core), said, core.state


def _code(core: Protocol) -> int | None:
    first = core.close_rcvd if core.close_rcvd_then_sent else core.close_sent
    return None if first is None else first.code


def _beside_the_library(ours: tuple[object, ...], wire: bytes, limit: int) -> None:
    """Compare with the library alone, up to where we are stricter, or as RFC 6455 has it and the library not."""
    library = Protocol(Side.SERVER, max_size=limit)
    library.receive_data(wire)
    messages: list[Received] = []
    parts, is_text, is_over = b"", True, False
    for event in library.events_received():
        if event.opcode in (Opcode.TEXT, Opcode.BINARY):
            parts, is_text = b"", event.opcode is Opcode.TEXT
        elif event.opcode is not Opcode.CONT:
            continue
        parts += event.data
        if event.fin:
            messages.append(Received(parts, is_text))
    good = 0
    for message in messages:
        if message.is_text and not _is_utf8(message.data):
            is_over = True
            break
        good += 1
    holds(ours[0] == tuple(messages[:good]), "messages are those that the library reads")
    holds(not is_over or ours[1] == 1007, "text that is not UTF-8 ends it with 1007")
    if not is_over and ours[1] != _code(library):
        # A text message that is broken before its last fragment, or a Close amid one.
        holds(ours[1] == 1007 or _code(library) == 1002, "an end has the code that the library gives it")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def codec_all(data: bytes) -> None:
    """All that reads JSON."""
    decode(data)
    decode_time(data)
    parse(data)


ORACLES: Final[dict[str, Callable[[bytes], None]]] = {"codec": codec_all, "cursor": cursor, "frames": frames}
__all__ = ["ORACLES", "Defect", "State", "holds"]
