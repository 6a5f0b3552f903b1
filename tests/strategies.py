"""Hypothesis strategies for what the protocol's classes hold, derived from the classes and their rules.

Valid values only; what tries to break a rule is in the tests.
"""

from __future__ import annotations

import types
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from hypothesis import strategies as st

from ngos.protocol.commands import Command
from ngos.protocol.rules import (
    LEVELS,
    UNSET,
    Boolean,
    Choice,
    Integer,
    Json,
    Levels,
    Name,
    Number,
    Rule,
    Text,
    Unset,
    Uuid,
)

TEXT_CHARACTERS: Final = 60
"""Longer texts find nothing new, only later."""

finite = st.floats(allow_nan=False, allow_infinity=False)
int64 = st.integers(-(2**63), 2**63 - 1)
# JSON has no lone surrogates.
characters = st.characters(codec="utf-8")
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | int64 | finite | st.text(characters, max_size=TEXT_CHARACTERS),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(characters, max_size=9), children),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text(characters, max_size=9), json_values, max_size=4)
command_ids = st.text(characters, min_size=1, max_size=128)


def payloads_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a command, a message or a value class of the protocol."""
    hints = get_type_hints(cls, include_extras=True)
    built = st.builds(cls, **{attribute.name: values_of(hints[attribute.name]) for attribute in attrs.fields(cls)})
    return built.filter(lambda command: not list(command.faults())) if issubclass(cls, Command) else built


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field with this annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rule = next((extra for extra in arguments[1:] if isinstance(extra, Rule)), None)
        return values_of(arguments[0]) if rule is None else values_that_keep(rule)
    if origin in (Union, types.UnionType):
        return st.one_of([values_of(arm) for arm in arguments])
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return json_objects
    if isinstance(hint, type) and attrs.has(hint):
        return payloads_of(hint)
    return _PLAIN[hint]


def values_that_keep(rule: Rule) -> st.SearchStrategy[Any]:
    """Values as a field with this rule holds them."""
    match rule:
        case Text():
            texts = st.characters(codec="utf-8", exclude_characters="\0")
            return st.text(texts, min_size=rule.shortest, max_size=min(rule.longest, TEXT_CHARACTERS))
        case Name():
            return st.from_regex(rule.pattern, fullmatch=True)
        case Choice():
            return st.sampled_from(rule.options)
        case Integer():
            return st.integers(rule.least, rule.most)
        case Number():
            return finite
        case Boolean():
            return st.booleans()
        case Uuid():
            return st.uuids()
        case Levels():
            return st.lists(finite, min_size=len(LEVELS), max_size=len(LEVELS)).map(tuple)
        case Json():
            return json_objects if rule.only_object else json_values
        case _:
            raise NotImplementedError(f"no values for {rule}: add them here")


_PLAIN: Final[dict[Any, st.SearchStrategy[Any]]] = {
    str: st.text(characters, max_size=TEXT_CHARACTERS),
    int: int64,
    float: finite,
    bool: st.booleans(),
    types.NoneType: st.none(),
    Any: json_values,
    Unset: st.just(UNSET),
    UUID: st.uuids(),
    datetime: st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
}
