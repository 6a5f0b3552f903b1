"""Any JSON in any field of any command: it is accepted as it is, or refused with its path. Never coerced."""

from __future__ import annotations

from typing import Any, Final, get_args, get_type_hints
from uuid import UUID

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngos.protocol import codec
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.commands import Command, TokenCreate, TokenUpdate
from ngos.protocol.faults import DecodeError, ErrorCode
from ngos.protocol.rules import (
    ORIGIN,
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
from tests.strategies import json_values, payloads_of

A: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
B: Final = "01890a5d-ac96-774b-bcce-b302099a8058"
HEX: Final = UUID(A).hex
LEAST: Final[dict[str, dict[str, Any]]] = {
    "ping": {},
    "authenticate": {"token": "t"},
    "subscribe": {"topic": "tokens"},
    "unsubscribe": {"topic": "tokens"},
    "publish": {"topic": "mine", "type": "hello"},
    "token.create": {},
    "token.get": {"token_id": A},
    "token.list": {},
    "token.update": {"token_id": A},
    "token.delete": {"token_id": A},
    "graph.connect": {"source_id": A, "target_id": B},
    "graph.disconnect": {"connection_id": A},
    "graph.neighbors": {"token_id": A},
    "graph.degree": {"token_id": A},
    "graph.path": {"source_id": A, "target_id": B},
    "experience.record": {"event_type": "step"},
    "experience.list": {},
}
"""The shortest payload of each command."""
NOT_TEXT: Final[tuple[Any, ...]] = (5, 1.5, True, [], {}, ["a"])
WRONG: Final[dict[type[Rule], tuple[Any, ...]]] = {
    Text: (*NOT_TEXT, "", "a\0b", "x" * 16385),
    Name: (*NOT_TEXT, "", "a b", "é", "a\n", "x" * 129, "*"),
    Choice: (*NOT_TEXT, "", "BOTH", "both "),
    Integer: ("7", True, False, 1.0, 1.5, [], {}, -1, 2**63, 2.0**64, -(2**63)),
    Number: ("1.0", "", True, False, [], {}, [1.0]),
    Boolean: (0, 1, "true", "", [], {}),
    Uuid: (
        *(5, True, [], {}, "", A[:-1], A + "0"),
        # Forms that Python's UUID() reads, some of them 36 characters long.
        *(HEX, f"{{{A}}}", f"urn:uuid:{A}", f"urn:{HEX}", f"----{HEX}", f"{{{{{HEX}}}}}", "\u0660" * 8 + A[8:]),
        "0x" + A[2:],
    ),
    Levels: (1.0, "[]", {}, True, [0.0] * 9, ["1"], [True], [None], [[]]),
    Json: (1, "", "{}", [], True, {"a": "x" * 65536}),
}


def rule_of(hint: Any) -> Rule:
    """The rule of a field's annotation; every field of a command has one."""
    rules = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Rule)]
    return rules[0] if rules else next(rule_of(arm) for arm in get_args(hint) if get_args(arm))


FIELDS: Final = [
    pytest.param(name, attribute.name, hint, id=f"{name}:{attribute.name}")
    for name, cls in COMMANDS.items()
    for attribute, hint in zip(
        attrs.fields(cls), [get_type_hints(cls, include_extras=True)[a.name] for a in attrs.fields(cls)], strict=True
    )
]


def faults_of(name: str, payload: Any) -> list[dict[str, str]]:
    """Decode a command whose payload must be refused, and return the faults."""
    with pytest.raises(DecodeError) as caught:
        codec.decode(orjson.dumps({"type": name, "id": "m", "payload": payload}))
    assert (ErrorCode.INVALID_PAYLOAD, "m") == (caught.value.code, caught.value.command_id)
    faults: list[dict[str, str]] = caught.value.details["errors"]
    assert caught.value.message.startswith(f"{faults[0]['path']} {faults[0]['message']}")
    return faults


@pytest.mark.parametrize(("name", "field", "hint"), FIELDS)
def test_nothing_is_coerced(name: str, field: str, hint: Any) -> None:
    """A value of another JSON type, or out of range, is refused in every field, with the field's path alone."""
    rule = rule_of(hint)
    if isinstance(rule, Json) and not rule.only_object:
        wrong: tuple[Any, ...] = ("x" * 16385, ["x"] * 5000)
    else:
        wrong = WRONG[type(rule)]
    for value in wrong:
        (fault,) = faults_of(name, {**LEAST[name], field: value})
        assert fault["path"].split("[")[0] == f"payload.{field}", value


@pytest.mark.parametrize(("name", "field", "hint"), FIELDS)
def test_null_is_for_optional_fields(name: str, field: str, hint: Any) -> None:
    """null is taken where the protocol has a `?`, and refused elsewhere: it is no default."""
    payload = {**LEAST[name], field: None}
    if type(None) in get_args(hint) or rule_of(hint) == Json(16 * 1024):
        if name != "graph.disconnect":
            codec.decode_payload(payload, COMMANDS[name])
        return
    assert [f"payload.{field}"] == [fault["path"] for fault in faults_of(name, payload)]


@pytest.mark.parametrize("name", COMMANDS)
def test_required_fields(name: str) -> None:
    """Each field without a default is missed by its path; the shortest payload is enough."""
    codec.decode_payload(dict(LEAST[name]), COMMANDS[name])
    required = {f"payload.{a.name}" for a in attrs.fields(COMMANDS[name]) if a.default is attrs.NOTHING}
    if required:
        assert required == {fault["path"] for fault in faults_of(name, {})}
        assert {"is required"} == {fault["message"] for fault in faults_of(name, {})}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("key", ["zzz", "", "Topic", "__class__", "TYPE", "a.b[0]", "\0"])
def test_unknown_fields(name: str, key: str) -> None:
    """An unknown payload field is refused by its path, in every command."""
    assert [{"path": f"payload.{key}", "message": "is not a field of this command"}] == faults_of(
        name, {**LEAST[name], key: 1}
    )


@given(st.data())
def test_any_json_in_any_field(data: st.DataObject) -> None:
    """Any JSON in a field, one missing, one too many: a command, or faults whose paths lead to something."""
    name = data.draw(st.sampled_from(sorted(COMMANDS)))
    cls: type[Command] = COMMANDS[name]
    payload = orjson.loads(codec.encode_command(data.draw(payloads_of(cls))))["payload"]
    keys = [attribute.name for attribute in attrs.fields(cls)] + ["else"]
    for key in data.draw(st.lists(st.sampled_from(keys), max_size=3)):
        payload[key] = data.draw(json_values)
    for key in data.draw(st.lists(st.sampled_from(keys), max_size=1)):
        payload.pop(key, None)
    try:
        received = codec.decode(orjson.dumps({"type": name, "payload": payload}))
    except DecodeError as exc:
        assert ErrorCode.INVALID_PAYLOAD == exc.code
        for fault in exc.details["errors"]:
            field, _, index = fault["path"].removeprefix("payload.").partition("[")
            if not fault["message"].startswith("is required"):
                assert field in payload
                assert not index or int(index.rstrip("]")) < len(payload[field])
    else:
        assert type(received.command) is cls
        assert "else" not in payload


def test_an_integer_is_fine_where_a_float_is_due() -> None:
    """Integers become floats, in coordinates too, and coordinates are filled to eight."""
    payload = {"weight": 2, "coord_x": [1, -5], "coord_y": [], "coord_z": [0.5] * 8}
    command = codec.decode_payload(payload, TokenCreate)
    assert TokenCreate(weight=2.0, coord_x=(1.0, -5.0, *ORIGIN[2:]), coord_z=(0.5,) * 8) == command
    assert {float} == {type(number) for number in (command.weight, *command.coord_x)}


def test_all_faults_at_once() -> None:
    """Every fault of a payload is listed, each once."""
    payload = {"weight": "1", "flags": 1.0, "coord_x": [0, "a"], "zzz": 1, "type": ""}
    assert {"payload.weight", "payload.flags", "payload.coord_x[1]", "payload.zzz", "payload.type"} == {
        fault["path"] for fault in faults_of("token.create", payload)
    }


@pytest.mark.parametrize(
    ("name", "payload", "path"),
    [
        ("graph.connect", {"source_id": A, "target_id": A.upper()}, "payload.target_id"),
        ("graph.disconnect", {}, "payload.source_id"),
        ("graph.disconnect", {"source_id": A}, "payload.target_id"),
        ("graph.disconnect", {"connection_id": A, "type": "generic"}, "payload.connection_id"),
        ("token.list", {"offset": 1, "after": "c"}, "payload.after"),
        ("token.list", {"limit": 1001}, "payload.limit"),
        ("token.list", {"limit": 0}, "payload.limit"),
        ("token.list", {"offset": 10_001}, "payload.offset"),
        ("graph.path", {"source_id": A, "target_id": B, "max_depth": 11}, "payload.max_depth"),
        ("graph.path", {"source_id": A, "target_id": B, "max_depth": 0}, "payload.max_depth"),
        ("token.create", {"flags": 2**32}, "payload.flags"),
        ("token.create", {"type": "x" * 51}, "payload.type"),
        ("token.create", {"metadata": {"é": "x" * (16 * 1024 - 8)}}, "payload.metadata"),
        ("token.update", {"token_id": A, "if_version": 0}, "payload.if_version"),
        ("subscribe", {"topic": "t", "epoch": "0123456G"}, "payload.epoch"),
    ],
)
def test_limits_of_the_protocol(name: str, payload: dict[str, Any], path: str) -> None:
    """The limits that protocol.md names hold, and so do its rules between fields."""
    assert path == faults_of(name, payload)[0]["path"]


def test_the_largest_values_are_taken() -> None:
    """What is just within a limit is not refused."""
    payload = {"type": "я" * 50, "flags": 2**32 - 1, "weight": 1.7e308, "metadata": {"é": "x" * (16 * 1024 - 9)}}
    assert 2**32 - 1 == codec.decode_payload(payload, TokenCreate).flags
    codec.decode_payload({"since": 2**63 - 1, "topic": "a" * 128}, COMMANDS["subscribe"])


def test_left_out_is_not_the_default_in_an_update() -> None:
    """token.update tells fields that were left out from those that were sent, even with the default's value."""
    command = codec.decode_payload({"token_id": A, "weight": 1.0, "coord_x": []}, TokenUpdate)
    assert (1.0, ORIGIN) == (command.weight, command.coord_x)
    assert {UNSET} == {command.type, command.coord_y, command.coord_z, command.flags, command.metadata}
    assert isinstance(UNSET, Unset)


def test_a_payload_of_thousands_of_fields() -> None:
    """Tries to have each of thousands of unknown fields looked at, though the error lists but some."""
    payload = {f"x{n}": n for n in range(5000)} | {"topic": "tokens"}
    with pytest.raises(DecodeError) as caught:
        codec.decode(orjson.dumps({"type": "subscribe", "payload": payload}))
    assert ErrorCode.INVALID_PAYLOAD == caught.value.code
    assert [f"payload.x{n}" for n in range(64)] == [fault["path"] for fault in caught.value.details["errors"]]
