"""One example of every command, reply and event, for documents. May import `commands`, `messages`, `values`.

Commands are written out, as a client would send them. What the server sends is built from its class, with a value for
each name of a field: a new field without one is a KeyError, which the tests meet.
"""

from __future__ import annotations

import types
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
import orjson

from ngos import __version__
from ngos.protocol import PROTOCOL_VERSION, codec
from ngos.protocol.catalog import COMMANDS, MESSAGES
from ngos.protocol.faults import ErrorCode
from ngos.protocol.messages import ErrorReply
from ngos.protocol.rules import ORIGIN

TIMESTAMP_MS: Final = 1760000000000
_A: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
_B: Final = "01890a5d-ac96-774b-bcce-b302099a8058"
_EDGE: Final = "01890a5e-1f3a-7c21-9d44-5f0e6a7b8c9d"
_EPOCH: Final = "4f1c2a9e"
_JWT: Final = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"

_COMMANDS: Final[dict[str, dict[str, Any]]] = {
    "ping": {},
    "authenticate": {"token": _JWT},
    "subscribe": {"topic": "tokens", "since": 41, "epoch": _EPOCH},
    "unsubscribe": {"topic": "tokens"},
    "publish": {"topic": "chat.general", "type": "said", "payload": {"text": "hello"}},
    "token.create": {"type": "demo", "coord_x": [1.0, 0.5], "weight": 1.0, "metadata": {"label": "first"}},
    "token.get": {"token_id": _A},
    "token.list": {"limit": 100, "type": "demo", "full": True},
    "token.update": {"token_id": _A, "weight": 2.0, "if_version": 1},
    "token.delete": {"token_id": _A},
    "graph.connect": {"source_id": _A, "target_id": _B, "type": "next", "weight": 0.5},
    "graph.disconnect": {"connection_id": _EDGE},
    "graph.neighbors": {"token_id": _A, "direction": "outgoing", "limit": 10},
    "graph.degree": {"token_id": _A},
    "graph.path": {"source_id": _A, "target_id": _B, "max_depth": 3},
    "experience.record": {"event_type": "step", "token_id": _A, "action": "left", "trajectory_id": "run-1"},
    "experience.list": {"limit": 10, "trajectory_id": "run-1"},
}

_FIELDS: Final[dict[str, Any]] = {
    "action": "left",
    "bidirectional": False,
    "client_id": "my_client",
    "code": "invalid_payload",
    "connection_id": UUID(_EDGE),
    "connections": 3,
    "count": 1,
    "created_at": datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC),
    "details": {"errors": [{"path": "payload.weight", "message": "must be a number"}]},
    "durable": True,
    "epoch": _EPOCH,
    "event_id": UUID(_EDGE),
    "event_type": "step",
    "events_per_s": 12.5,
    "expires_at": "2025-10-09T09:53:20.000000Z",
    "flags": 0,
    "in_flight": 256,
    "incoming": 1,
    "interval_ms": 25000,
    "length": 1,
    "message": "payload.weight must be a number",
    "message_bytes": 65536,
    "message_id": "1",
    "metadata": {"label": "first"},
    "name": "ngos",
    "neighbor_id": UUID(_B),
    "next": None,
    "offset": 0,
    "original_message_id": "1",
    "outgoing": 1,
    "path": (UUID(_A), UUID(_B)),
    "priority": 1.0,
    "protocol": PROTOCOL_VERSION,
    "ready": True,
    "reconnect_after_ms": 1000,
    "recovered": True,
    "replay": 1,
    "retryable": False,
    "reward": 0.0,
    "seq": 42,
    "sequence_number": 1,
    "source_id": UUID(_A),
    "state_after": {"at": "home"},
    "state_before": None,
    "subject": "alice",
    "subscriptions": 128,
    "success": True,
    "target_id": UUID(_B),
    "timeout_ms": 10000,
    "timestamp": TIMESTAMP_MS,
    "token_id": UUID(_A),
    "topic": "tokens",
    "topics": 2,
    "total": 1,
    "trajectory_id": "run-1",
    "type": "demo",
    "updated_at": datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC),
    "uptime_s": 3600.0,
    "version": 1,
    "weight": 1.0,
    "x": ORIGIN,
    "y": ORIGIN,
    "z": ORIGIN,
}
_ERRORS: Final[dict[ErrorCode, tuple[str, dict[str, Any]]]] = {
    ErrorCode.INVALID_JSON: ("the message is not JSON", {}),
    ErrorCode.INVALID_MESSAGE: (
        "type is required",
        {"errors": [{"path": "type", "message": "is required"}]},
    ),
    ErrorCode.UNKNOWN_TYPE: ("no such command; did you mean token.create?", {}),
    ErrorCode.INVALID_PAYLOAD: (_FIELDS["message"], _FIELDS["details"]),
    ErrorCode.CONFLICT: ("these tokens are connected already, by this type", {"connection_id": _EDGE}),
    ErrorCode.UNAUTHENTICATED: ("authenticate first", {}),
    ErrorCode.FORBIDDEN: ("the token does not allow this", {}),
    ErrorCode.RATE_LIMITED: ("too much at once: wait, then send it again", {"retry_after_ms": 500}),
    ErrorCode.TOO_MANY_SUBSCRIPTIONS: ("a connection may follow 128 topics", {}),
    ErrorCode.UNAVAILABLE: ("the database did not answer in time; if the command had an id, send it again", {}),
    ErrorCode.INTERNAL: ("a defect in the server, incident 5f0e6a7b", {}),
}


def of_command(name: str) -> dict[str, Any]:
    """A command's envelope, as a client sends it."""
    return {"id": "1", "type": name, "payload": _COMMANDS[name]}


@cache
def of_message(name: str) -> dict[str, Any]:
    """A reply's or event's payload, as JSON."""
    payload: dict[str, Any] = orjson.loads(codec.dump(_built(MESSAGES[name])))
    return payload


def of_error(code: ErrorCode) -> dict[str, Any]:
    """The payload of an error with this code, as JSON."""
    message, details = _ERRORS[code]
    reply = ErrorReply(code=code, message=message, original_message_id="1", retryable=code.retryable, details=details)
    payload: dict[str, Any] = orjson.loads(codec.dump(reply))
    return payload


def _built(cls: type[Any]) -> Any:
    hints = get_type_hints(cls)
    return cls(**{field.name: _value(field.name, hints[field.name]) for field in attrs.fields(cls)})


def _value(name: str, hint: Any) -> Any:
    """Of a class what it is made of; else by the field's name."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple and attrs.has(get_args(hint)[0]):
        return (_built(get_args(hint)[0]),)
    if attrs.has(hint):
        return _built(hint)
    if name == "version" and hint is str:
        return __version__
    return _FIELDS[name]


assert COMMANDS.keys() == _COMMANDS.keys(), "every command has its example"
