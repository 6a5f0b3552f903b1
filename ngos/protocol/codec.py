"""Bytes to command, message to bytes: the one border between JSON and classes.

`decode` is strict and raises only DecodeError, with a path for every fault (protocol.md sections 2 and 7); whatever
else it raises is a defect. The encoders take messages whose payload may be JSON already, so that what goes to many
(a reply that is also an event, an event to its subscribers) is encoded once. May import the rest of this package.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, TypeGuard, TypeVar
from uuid import UUID

import attrs
import orjson
from attrs import define, field, frozen
from cattrs import AttributeValidationNote, ClassValidationError, ForbiddenExtraKeysError

from ngos.protocol.catalog import COMMANDS
from ngos.protocol.commands import Command
from ngos.protocol.converters import LENIENT, OMITTING, STRICT, WRITER
from ngos.protocol.faults import DecodeError, ErrorCode, TooDeep
from ngos.protocol.messages import Message
from ngos.protocol.rules import INT64_MAX, RuleError

MAX_DEPTH: Final = 32
# What one error reply lists; a payload of a million unknown keys must not get a megabyte back, nor one of long keys of
# control characters, six bytes each in JSON, more than it sent.
_MAX_FAULTS: Final = 64
_FAULTS_BYTES: Final = 8 * 1024

# cattrs looks the hooks up for every value; there are as many as classes.
_structure_hook: Final[Callable[[type], Callable[[Any, Any], Any]]] = cache(STRICT.get_structure_hook)
_unstructure_hook: Final[Callable[[type], Callable[[Any], Any]]] = cache(WRITER.get_unstructure_hook)


T = TypeVar("T")
C = TypeVar("C", bound=Command)


@define(eq=False)  # one for every command: frozen, it would take 0.4 µs more
class Received:
    """A command as it arrived. `timestamp_ms` is the sender's own claim; `size_bytes` counts the message.

    `traceparent` is the sender's trace context, as it is: W3C Trace Context has its form.
    """

    command: Command
    id: str | None
    timestamp_ms: int | None
    size_bytes: int
    _payload: dict[str, Any]
    traceparent: str | None = None

    def hash(self) -> UUID:
        """Tells this command from another (section 6): made of type and payload, whatever the order of its keys.

        A default that is written out, or 1.0 in place of 1, makes it another: a client sends again what it sent.
        """
        payload = orjson.dumps([self.command.TYPE, self._payload], option=orjson.OPT_SORT_KEYS)
        return UUID(bytes=blake2b(payload, digest_size=16).digest())


def decode(data: bytes, max_depth: int = MAX_DEPTH, *, suggests: bool = True) -> Received:
    """Read one message from a client, nested no deeper than `max_depth`.

    `suggests`: whether an unknown type is answered with a known one that is like it.

    Raises DecodeError (the sender's fault) with code invalid_json, invalid_message, unknown_type or
    invalid_payload; its `details["errors"]` lists every fault with its path.
    """
    try:
        envelope = decode_object(data, max_depth)
    except DecodeError as exc:
        exc.command_id = id_in(data)
        raise
    command_id = envelope.get("id")
    faults: list[tuple[str, str]] = []
    if "id" in envelope and not _is_id(command_id):
        faults.append(("id", "must be a string of 1 to 128 characters, without NUL"))
        command_id = None
    name: Any = envelope.get("type")
    if type(name) is not str:
        faults.append(("type", "must be a string" if "type" in envelope else "is required"))
    payload: Any = envelope.get("payload", {})
    if type(payload) is not dict:
        faults.append(("payload", "must be an object"))
    timestamp_ms = envelope.get("timestamp")
    if "timestamp" in envelope and not (type(timestamp_ms) is int and abs(timestamp_ms) <= INT64_MAX):
        faults.append(("timestamp", "must be an integer, Unix milliseconds"))
    if faults:
        raise _decode_error(ErrorCode.INVALID_MESSAGE, faults, command_id)

    cls = COMMANDS.get(name)
    if cls is None:
        message = _unknown(name[:64]) if suggests else "no such command"
        raise DecodeError(ErrorCode.UNKNOWN_TYPE, message, command_id=command_id)
    try:
        command = decode_payload(payload, cls, command_id)
    except DecodeError as exc:
        exc.command_type = cls.TYPE
        raise
    traceparent = envelope.get("traceparent")
    return Received(
        command, command_id, timestamp_ms, len(data), payload, traceparent if type(traceparent) is str else None
    )


def _is_id(value: Any) -> TypeGuard[str]:
    # As `rules.Text(128)` has it: an id with NUL could not be kept for idempotency.
    return type(value) is str and 1 <= len(value) <= 128 and "\0" not in value


def id_in(data: bytes) -> str | None:
    """Return the id in what is not decoded, or can't be, if it can be read: its sender waits for an answer to it.

    What is not JSON its sender may have taken for it: half of a surrogate pair, which JSON.stringify writes, and NaN,
    which Python does. Python's reader takes them all.
    """
    try:
        try:
            envelope = orjson.loads(data)
        except orjson.JSONDecodeError:
            envelope = json.loads(data)
        command_id = envelope.get("id") if type(envelope) is dict else None
        if not _is_id(command_id):
            return None
        command_id.encode()  # an id that is half a pair itself can't be sent back
    except (ValueError, RecursionError):
        return None
    return command_id


def decode_object(data: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Read a JSON object that is nested no deeper than `max_depth`. Raises DecodeError (invalid_json)."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise DecodeError(ErrorCode.INVALID_JSON, "the message is not JSON") from None
    if type(value) is not dict:
        raise DecodeError(ErrorCode.INVALID_JSON, "the message is not a JSON object")
    # Few brackets can't nest deeply; only where there are many is it worth a walk.
    if data.count(b"{") + data.count(b"[") > max_depth and _deeper_than(value, max_depth):
        raise TooDeep(ErrorCode.INVALID_JSON, f"the message is nested deeper than {max_depth}")
    return value


def decode_payload(
    payload: dict[str, Any], cls: type[C], command_id: str | None = None, *, root: str = "payload."
) -> C:
    """Read a payload as the command it is of. Raises DecodeError (invalid_payload) that lists every fault.

    The faults' paths begin with `root`.
    """
    if len(payload) > _MAX_FAULTS:  # more than any command has: cattrs would make an exception of each
        unknown = islice((key for key in payload if key not in attrs.fields_dict(cls)), _MAX_FAULTS)
        faults = [(root + key, "is not a field of this command") for key in unknown]
        raise _decode_error(ErrorCode.INVALID_PAYLOAD, faults, command_id)
    try:
        command: C = _structure_hook(cls)(payload, cls)
    except ClassValidationError as exc:
        faults = [(root + path, message) for path, message in _faults(exc)]
        raise _decode_error(ErrorCode.INVALID_PAYLOAD, faults, command_id) from None
    faults = [(root + path, message) for path, message in command.faults()]
    if faults:
        raise _decode_error(ErrorCode.INVALID_PAYLOAD, faults, command_id)
    return command


def dump(message: Message) -> bytes:
    """Encode a message's payload, to be handed to `encode` as often as it is sent."""
    return tight(orjson.dumps(_unstructure_hook(type(message))(message)))


def tight(json: bytes) -> bytes:
    """A copy that takes no more memory than its length: what orjson makes keeps the 4 or 8 KiB that it was written in.

    For all that may wait somewhere, where it counts by its length (0.08 µs).
    """
    return b"".join((b"", json))


def encode(
    type_: str,
    payload: bytes,
    *,
    id_: str,
    timestamp_ms: int,
    reply_to: str | None = None,
    sender_id: str | None = None,
    topic: str | None = None,
    seq: int | None = None,
    epoch: str | None = None,
    replayed: bool = False,
) -> bytes:
    """Encode an envelope (section 2) around a payload that `dump` made. What is None is left out."""
    envelope: dict[str, Any] = {"id": id_, "type": type_, "timestamp": timestamp_ms}
    if reply_to is not None:
        envelope["reply_to"] = reply_to
    if replayed:
        envelope["replayed"] = True
    if topic is not None:
        envelope["topic"] = topic
        if seq is not None:
            envelope["seq"] = seq
            envelope["epoch"] = epoch
        if sender_id is not None:
            envelope["sender_id"] = sender_id
    envelope["payload"] = orjson.Fragment(payload)
    return tight(orjson.dumps(envelope))


@frozen(kw_only=True)
class Envelope:
    """A message as a client sees it; `payload` is not yet checked, `structure` does that."""

    id: str
    type: str
    payload: dict[str, Any] = field(factory=dict)
    timestamp: int
    reply_to: str | None = None
    replayed: bool = False
    topic: str | None = None
    seq: int | None = None
    epoch: str | None = None
    sender_id: str | None = None


class MessageError(ValueError):
    """A message is not what the protocol says: the server's fault."""


def parse(data: bytes | str) -> Envelope:
    """Read one message from a server; fields that this version does not know are ignored. Raises MessageError."""
    try:
        value = orjson.loads(data)
        if type(value["type"]) is not str:  # which would be made one
            raise TypeError("its type is not a string")
        return LENIENT.structure(value, Envelope)
    except Exception as exc:
        raise MessageError(f"not a message of the ngos protocol: {exc!r}") from exc


def structure(payload: dict[str, Any], cls: type[T]) -> T:
    """Read a payload as the class it has, for instance Token. Raises MessageError, the server's fault."""
    try:
        return LENIENT.structure(payload, cls)
    except Exception as exc:
        raise MessageError(f"not a payload of {cls.__name__}: {exc!r}") from exc


def encode_command(command: Command, id_: str | None = None) -> bytes:
    """Encode a command, as a client sends it. Raises TypeError for values that JSON does not have."""
    envelope: dict[str, Any] = {"type": command.TYPE, "payload": OMITTING.unstructure(command)}
    if id_ is not None:
        envelope["id"] = id_
    return orjson.dumps(envelope)


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in (dict, list)
        ]
        if not level:
            return False
    return True


@lru_cache(maxsize=256)
def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"no such command; did you mean {close[0]}?" if close else "no such command"


def _decode_error(code: ErrorCode, faults: list[tuple[str, str]], command_id: str | None) -> DecodeError:
    errors: list[dict[str, str]] = []
    size_bytes = 0
    for path, message in faults[:_MAX_FAULTS]:
        error = {"path": path[:256], "message": message}
        size_bytes += len(orjson.dumps(error))
        if errors and size_bytes > _FAULTS_BYTES:
            break
        errors.append(error)
    summary = f"{errors[0]['path']} {errors[0]['message']}"
    if len(faults) > 1:
        summary += f" (and {len(faults) - 1} more)"
    return DecodeError(code, summary, command_id=command_id, errors=errors)


def _faults(exc: ClassValidationError) -> Iterator[tuple[str, str]]:
    for inner in exc.exceptions:
        if isinstance(inner, ForbiddenExtraKeysError):
            for key in sorted(inner.extra_fields):
                yield key, "is not a field of this command"
            continue
        name = next(note.name for note in getattr(inner, "__notes__", ()) if isinstance(note, AttributeValidationNote))
        if isinstance(inner, RuleError):
            yield f"{name}{inner.path}", str(inner)
        elif isinstance(inner, KeyError):
            yield name, "is required"
        else:
            raise inner  # a rule is wrong, not the client
