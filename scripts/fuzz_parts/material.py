"""Commands, valid and nearly so, made from the command classes; and mutations of bytes and of JSON.

Promises: the same `Random` makes the same; a class, field or rule that is added to the protocol is covered by itself.
Pure.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
import orjson

from ngos.protocol.catalog import COMMANDS
from ngos.protocol.commands import Command
from ngos.protocol.rules import Boolean, Choice, Integer, Json, Levels, Name, Number, Rule, Text, Uuid

IDS: Final = tuple(str(UUID(int=n)) for n in range(1, 17))
"""Few, so that commands meet the tokens of others."""
NAMES: Final = ("tokens", "graph", "experience", "system", "fuzz.a", "fuzz.b", "room:1", "x", "deadbeef", "00000000")
SQL: Final = (
    "'; drop table tokens; --",
    "' or '1'='1",
    "$1 %s %(a)s {} :a ?",
    "\\'; delete from events; --",
    "a'||(select pg_sleep(9))||'",
    "\\x00\\u0000",
    "E'\\\\000'",
    "); truncate replies; (",
    "$$; drop schema public cascade; $$",
    "/*", "--", '"', "'", "\\",
)  # fmt: skip
TEXTS: Final = ("a", "default", "é", "\U0010ffff", "\u2028\ufeff", "\x01\x7f", "e\u0301", "%00", "None", *SQL)
EVIL: Final = (
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"1.0", b"0.1", b"1e3", b"-0.0", b"5e-324", b"1e308", b"1e309",
    b"-1e999", b"NaN", b"Infinity", b"-Infinity", b"4294967296", b"9223372036854775807", b"9223372036854775808",
    b"-9223372036854775809", b"18446744073709551615", b"18446744073709551616", b"9" * 400, b"9" * 5000,
    b"0." + b"0" * 400 + b"1", b'""', b'"\\u0000"', b'"a\\u0000b"', b'"\\ud800"', b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\xff"', b'"\xed\xa0\x80"', b'"' + b"x" * 129 + b'"', b'"' + b"\\u0001" * 300 + b'"', b"[]", b"{}",
    b"[" * 31 + b"]" * 31, b"[" * 2000 + b"]" * 2000, b'{"a":' * 40 + b"1" + b"}" * 40, b"[" * 5000,
    b"[" + b"1," * 4000 + b"1]", b'{"a":1,"a":2}', b'{"":{"":{}}}', b'{"\\u0000":1}', b'{"\\ud800":1}',
    b"[1,2,3,4,5,6,7,8,9]", b"[1,[2]]", b"[true]", b'"00000000-0000-0000-0000-000000000000"', b"1 2", b"/**/1",
)  # fmt: skip
"""JSON values, and what some take for one."""
_MARK: Final = b'"@evil@"'


@cache
def fields_of(cls: type[Command]) -> tuple[tuple[attrs.Attribute[Any], Rule, bool], ...]:
    """A command's fields, the rule of each, and whether it may be null."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple((field, *_rule_of(hints[field.name])) for field in attrs.fields(cls))


def _rule_of(hint: Any) -> tuple[Rule, bool]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next(extra for extra in arguments[1:] if isinstance(extra, Rule)), False
    assert origin in (Union, types.UnionType), hint
    rule = next(_rule_of(arm)[0] for arm in arguments if get_origin(arm) is Annotated)
    return rule, types.NoneType in arguments


def value(rng: Random, rule: Rule) -> Any:
    """A value that keeps a rule. Raises NotImplementedError for a rule that is new."""
    match rule:
        case Text():
            text = rng.choice(TEXTS)
            return text.ljust(rule.shortest, "x")[: rule.longest]
        case Name():
            return rng.choice([name for name in NAMES if _keeps(rule, name)])
        case Choice():
            return rng.choice(rule.options)
        case Integer():
            return rng.choice([rule.least, rule.least + 1, rng.randint(rule.least, rule.most), rule.most])
        case Number():
            return rng.choice([0.0, -0.0, 1, 1.5, -1e308, 5e-324, rng.uniform(-1, 1), 2**64 - 1])
        case Boolean():
            return rng.random() < 0.5
        case Uuid():
            return rng.choice(IDS)
        case Levels():
            return [rng.choice([0, 1, -1.0, rng.uniform(-1, 1), 1e300]) for _ in range(rng.randint(0, 8))]
        case Json():
            return json_object(rng) if rule.only_object else json_value(rng)
        case _:
            raise NotImplementedError(f"no values for {rule}: add them here")


def _keeps(rule: Rule, candidate: str) -> bool:
    try:
        rule(candidate)
    except ValueError:
        return False
    return True


def json_value(rng: Random, depth: int = 3) -> Any:
    """Any JSON that is not deep."""
    if depth == 0 or rng.random() < 0.6:
        return rng.choice([None, True, False, 0, -1, 2**63, 2**64 - 1, -(2**63), 0.1, -0.0, 1e308, rng.choice(TEXTS)])
    if rng.random() < 0.5:
        return [json_value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    return json_object(rng, depth - 1)


def json_object(rng: Random, depth: int = 2) -> dict[str, Any]:
    return {rng.choice(["a", "b", "", "\0", *TEXTS]): json_value(rng, depth) for _ in range(rng.randint(0, 4))}


def payload(rng: Random, cls: type[Command]) -> dict[str, Any]:
    """A payload whose every field is valid by itself; two may not go together."""
    filled = {}
    for field, rule, nullable in fields_of(cls):
        if field.default is attrs.NOTHING or rng.random() < 0.4:
            filled[field.name] = None if nullable and rng.random() < 0.2 else value(rng, rule)
    return filled


def command(rng: Random, id_: str | None = None) -> bytes:
    """A command, encoded."""
    name = rng.choice(list(COMMANDS))
    envelope: dict[str, Any] = {"type": name, "payload": payload(rng, COMMANDS[name])}
    if id_ is not None:
        envelope["id"] = id_
    if rng.random() < 0.2:
        envelope["timestamp"] = rng.choice([0, 1760000000000, -1, 2**63 - 1])
    if rng.random() < 0.1:
        envelope["sender_id"] = json_value(rng)
    return orjson.dumps(envelope)


def with_text(cls: type[Command], field: str, text: str, envelope: dict[str, Any] | None = None) -> bytes:
    """A command, otherwise valid, in which one field is this text."""
    filled = payload(Random(0), cls) | {field: text}
    return orjson.dumps({"type": cls.TYPE, "payload": filled, **(envelope or {})})


def every_field() -> Iterator[tuple[type[Command], str]]:
    """Every field of every command."""
    for cls in COMMANDS.values():
        for field in attrs.fields(cls):
            yield cls, field.name


def dictionary() -> list[bytes]:
    """Words of the protocol, and what is not JSON, for a mutator."""
    words = {b'"id"', b'"type"', b'"payload"', b'"timestamp"', b'"sender_id"', b'{"type":"', b'"payload":{', b"}}"}
    for name, cls in COMMANDS.items():
        words.add(b'"%s"' % name.encode())
        words |= {b'"%s":' % field.name.encode() for field in attrs.fields(cls)}
    words |= {b'"%s"' % id_.encode() for id_ in IDS[:2]}
    return sorted(words | {evil for evil in EVIL if len(evil) <= 64})


def mutated(rng: Random, data: bytes, most: int = 65536) -> bytes:
    """Somewhat else: changed as JSON where it is that, else as bytes."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        data = _mutated_json(rng, data) if rng.random() < 0.6 else mutated_bytes(rng, data)
    return data[:most]


def _mutated_json(rng: Random, data: bytes) -> bytes:
    try:
        tree = orjson.loads(data)
    except orjson.JSONDecodeError:
        return mutated_bytes(rng, data)
    places = list(_places(tree))
    if not places:
        return rng.choice(EVIL)
    parent, key = rng.choice(places)
    evil = None
    match rng.randrange(8):
        case 0 | 1 | 2:
            parent[key] = "@evil@"
            evil = rng.choice(EVIL)
        case 3:
            del parent[key]
        case 4 if isinstance(parent, dict):
            new = rng.choice(["a", "type", "id", "payload", "x" * 300, "\x01" * 300, "topic", "__class__", ""])
            parent[new] = parent.pop(key)
        case 5:
            parent[key] = [parent[key]] * rng.choice([1, 9, 1000])
        case 6 if isinstance(parent, dict):
            filler = rng.choice(["{}", "\x01{}" + "\x01" * 240, "é{}", '"{}'])
            parent |= {filler.format(n): 0 for n in range(rng.choice([1, 40, 300]))}
        case _:
            parent[key] = json_value(rng)
    try:
        data = orjson.dumps(tree)
    except orjson.JSONEncodeError:
        return data
    if evil is not None:
        data = data.replace(_MARK, evil, 1)
    if rng.random() < 0.1:
        data = data.replace(b'"type":', b'"type":%b,"type":' % rng.choice(EVIL[:20]), 1)  # twice the same key
    return data


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    stack = [tree]
    while stack:
        parent = stack.pop()
        keys = list(parent) if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ()
        for key in keys:
            yield parent, key
            stack.append(parent[key])


def mutated_bytes(rng: Random, data: bytes) -> bytes:
    """The same bytes, but for one place."""
    at = rng.randint(0, len(data))
    to = min(len(data), at + rng.choice([1, 1, 2, 8, 64]))
    match rng.randrange(7):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:at] + data[at:to] * rng.choice([2, 3, 50]) + data[to:]
        case 3:
            return data[:at] + rng.choice(EVIL) + data[at:]
        case 4:
            return data[:at]
        case 5 if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case _:
            return data[:at] + rng.randbytes(rng.choice([1, 2, 4, 16])) + data[at:]
