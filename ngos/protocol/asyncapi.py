"""The protocol as an AsyncAPI 3 document, generated from the message classes: it can't say what they don't."""

from __future__ import annotations

import inspect
import types
from datetime import datetime
from enum import EnumMeta
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs

from ngos import __version__
from ngos.protocol.catalog import COMMANDS, EVENTS, MESSAGES, REPLIES
from ngos.protocol.close import CloseCode
from ngos.protocol.rules import Rule

_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    UUID: {"type": "string", "format": "uuid"},
    datetime: {"type": "string", "format": "date-time"},
    types.NoneType: {"type": "null"},
}

_SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "Where the server asks for tokens: at the upgrade, or by the command authenticate as the first.",
}


@cache
def document() -> dict[str, Any]:
    """The document; the same object each time, not to be changed."""
    messages = {
        **{f"command.{name}": _message(name, cls, is_command=True) for name, cls in COMMANDS.items()},
        **{name: _message(name, cls) for name, cls in MESSAGES.items()},
    }
    references = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    to_channel = {name: {"$ref": f"#/channels/ws/messages/{name}"} for name in messages}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ngos",
            "version": __version__,
            "description": "The WebSocket protocol of NeuroGraph OS. Close codes: "
            + "; ".join(f"{int(code)} {code.reason or 'done'}" for code in CloseCode),
        },
        "servers": {"local": {"host": "localhost:8000", "pathname": "/ws", "protocol": "ws", "security": [_SECURITY]}},
        "channels": {"ws": {"address": "/ws", "messages": references}},
        "operations": {
            **{
                f"do.{name}": {
                    "action": "receive",
                    "channel": {"$ref": "#/channels/ws"},
                    "messages": [to_channel[f"command.{name}"]],
                    "reply": {
                        "channel": {"$ref": "#/channels/ws"},
                        "messages": [to_channel[reply.TYPE] for reply in cls.REPLIES] + [to_channel["error"]],
                    },
                }
                for name, cls in COMMANDS.items()
            },
            "events": {
                "action": "send",
                "channel": {"$ref": "#/channels/ws"},
                "messages": [to_channel[name] for name in ("connection.established", *EVENTS)],
            },
        },
        "components": {"messages": messages},
    }


def _message(name: str, cls: type, *, is_command: bool = False) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "id": {"type": "string", "minLength": 1, "maxLength": 128},
        "type": {"const": name},
        "timestamp": {"type": "integer", "description": "Unix milliseconds"},
        "payload": _object(cls, closed=is_command),
    }
    if name in REPLIES and not is_command:
        envelope["reply_to"] = {"type": "string"}
        envelope["replayed"] = {"type": "boolean", "description": "The command had been done before: section 6"}
    if name in EVENTS and not is_command:
        envelope |= {
            "topic": {"type": "string"},
            "seq": {"type": "integer"},
            "epoch": {"type": "string"},
            "sender_id": {"type": "string"},
        }
    required = ["id", "type", "timestamp", "payload"]
    if is_command:
        required = ["type", "payload"] if envelope["payload"]["required"] else ["type"]
    return {
        "name": name,
        "summary": _summary(cls),
        "payload": {"type": "object", "properties": envelope, "required": required},
    }


def _summary(cls: type) -> str:
    text = inspect.cleandoc(cls.__doc__ or "")
    return text.splitlines()[0] if text and not text.startswith("Method generated") else cls.__name__


def _object(cls: type, *, closed: bool) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    properties: dict[str, Any] = {}
    required = []
    for attribute in attrs.fields(cls):
        properties[attribute.name] = schema = _schema(hints[attribute.name])
        default = attribute.default
        if default is attrs.NOTHING:
            required.append(attribute.name)
        elif closed and isinstance(default, str | int | float | bool | tuple):
            properties[attribute.name] = {**schema, "default": list(default) if isinstance(default, tuple) else default}
    result: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    return {**result, "additionalProperties": False} if closed else result


def _schema(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rule = next((extra for extra in arguments[1:] if isinstance(extra, Rule)), None)
        return rule.schema() if rule else _schema(arguments[0])
    if origin in (Union, types.UnionType):
        arms = [_schema(arm) for arm in arguments if not isinstance(arm, EnumMeta)]
        return arms[0] if len(arms) == 1 else {"anyOf": arms}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object"}
    if attrs.has(hint):
        return _object(hint, closed=False)
    return _SIMPLE.get(hint, {})
