"""The four converters between the protocol's classes and what JSON has, and how times are written.

For `codec`, which makes of their exceptions what the protocol says. May import `rules` and `values`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin
from uuid import UUID

from cattrs import Converter

from ngos.protocol.rules import Rule
from ngos.protocol.values import Token, TokenHead

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def iso(moment: datetime) -> str:
    """Write a time as section 3 has it: ISO 8601, UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def iso_of_ms(timestamp_ms: int) -> str:
    """Write Unix milliseconds the same way."""
    return iso(_EPOCH + timedelta(milliseconds=timestamp_ms))


def _rule_of(type_: Any) -> Rule | None:
    if get_origin(type_) is Annotated:
        return next((extra for extra in get_args(type_)[1:] if isinstance(extra, Rule)), None)
    return None


def _optional_rule_of(type_: Any) -> Rule | None:
    """The rule of `T | None` and of `T | Unset`."""
    rules = [rule for arm in get_args(type_) if (rule := _rule_of(arm)) is not None]
    return rules[0] if len(rules) == 1 else None


def _hook_of_rule(type_: Any) -> Callable[[Any, Any], Any]:
    rule = _rule_of(type_)
    assert rule is not None
    check: Rule = rule
    return lambda value, _type: check(value)


def _hook_of_optional_rule(type_: Any) -> Callable[[Any, Any], Any]:
    rule = _optional_rule_of(type_)
    assert rule is not None
    check: Rule = rule
    if NoneType in get_args(type_):
        return lambda value, _type: None if value is None else check(value)
    return lambda value, _type: check(value)


def _make_strict() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook_factory(
        lambda type_: _optional_rule_of(type_) is not None, _hook_of_optional_rule
    )
    converter.register_structure_hook_factory(lambda type_: _rule_of(type_) is not None, _hook_of_rule)
    return converter


def _as_is(value: Any) -> Any:
    return value


def _make_writer(*, omit_defaults: bool) -> Converter:
    converter = Converter(omit_if_default=omit_defaults)
    # orjson writes UUIDs and tuples itself; JSON values pass through whole, however deep.
    for kind in (UUID, str, int, float, bool):
        converter.register_unstructure_hook(kind, _as_is)
    converter.register_unstructure_hook(datetime, iso)
    converter.register_unstructure_hook_func(
        lambda type_: (
            _rule_of(type_) is not None
            or (_optional_rule_of(type_) is not None)
            or type_ == dict[str, Any]
            or type_ == (UUID | None)
            or type_ == (str | None)
            or type_ == (int | None)
        ),
        _as_is,
    )
    return converter


def _make_lenient() -> Converter:
    converter = Converter(forbid_extra_keys=False, detailed_validation=False)
    converter.register_structure_hook(UUID, lambda value, _: UUID(value))
    converter.register_structure_hook(datetime, lambda value, _: datetime.fromisoformat(value))

    def structure_listed(value: Any, _: object) -> tuple[Token | TokenHead, ...]:
        return tuple(converter.structure(item, Token if "coordinates" in item else TokenHead) for item in value)

    converter.register_structure_hook(tuple[Token, ...] | tuple[TokenHead, ...], structure_listed)
    return converter


STRICT: Final = _make_strict()
"""Reads what clients send: nothing is coerced, nothing unknown is let in; faults come as ClassValidationError."""
LENIENT: Final = _make_lenient()
"""Reads what servers send: what this version does not know is ignored."""
OMITTING: Final = _make_writer(omit_defaults=True)
"""Writes commands: what has its default value is left out."""
WRITER: Final = _make_writer(omit_defaults=False)
"""Writes messages, whole."""
