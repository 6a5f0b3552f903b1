"""The protocol's classes as JSON Schema (draft 7, which AsyncAPI 3 takes). May import `rules`, `values`, `messages`.

A class that a payload is made of is a schema of its own, by its name; a payload stands where its message is.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from datetime import datetime
from enum import EnumMeta
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs

from ngos.protocol import messages, values
from ngos.protocol.rules import Rule

_SIMPLE: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    UUID: {"type": "string", "format": "uuid"},
    datetime: {"type": "string", "format": "date-time", "description": "ISO 8601 in UTC, with microseconds."},
    types.NoneType: {"type": "null"},
}
_BASES: Final = frozenset({messages.Message, messages.Reply, messages.Event})


def value_classes() -> Iterator[type]:
    """The classes that payloads are made of: those that have no type of their own on the wire."""
    for module in (values, messages):
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and attrs.has(value) and value not in _BASES and not hasattr(value, "TYPE"):
                yield value


def schema_of(cls: type, *, of_command: bool = False) -> dict[str, Any]:
    """What a payload of this class is. A command's holds no other fields, and what has a default may be left out.

    Of what the server sends every field is always there, and there may be more in a later version.
    """
    hints = get_type_hints(cls, include_extras=True)
    properties: dict[str, Any] = {}
    required = []
    for attribute in attrs.fields(cls):
        schema = schema_of_hint(hints[attribute.name])
        if not of_command or attribute.default is attrs.NOTHING:
            required.append(attribute.name)
        elif (default := default_of(attribute.default)) is not None:
            schema = {**schema, "default": default}
        properties[attribute.name] = schema
    result: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    return {**result, "additionalProperties": False} if of_command else result


def default_of(default: Any) -> Any:
    """A field's default as JSON has it; None: there is none, or it is null, which says no more."""
    if isinstance(default, tuple):
        return list(default)
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default.factory()
    return default if isinstance(default, str | int | float | bool) else None


def schema_of_hint(hint: Any) -> dict[str, Any]:
    """What a field with this annotation is; empty where it may be any JSON."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rule = next((extra for extra in arguments[1:] if isinstance(extra, Rule)), None)
        return rule.schema() if rule else schema_of_hint(arguments[0])
    if origin in (Union, types.UnionType):
        arms = [schema_of_hint(arm) for arm in arguments if not isinstance(arm, EnumMeta)]
        return arms[0] if len(arms) == 1 else {"anyOf": arms}
    if origin is tuple:
        return {"type": "array", "items": schema_of_hint(arguments[0])}
    if origin is dict:
        return {"type": "object"}
    if attrs.has(hint):
        return {"$ref": f"#/components/schemas/{hint.__name__}"}
    return _SIMPLE.get(hint, {})


def summary_of(cls: type) -> str:
    """The first line of a class's docstring; its name where it has none."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    return text.splitlines()[0] if text and not text.startswith("Method generated") else cls.__name__
