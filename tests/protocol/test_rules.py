"""Each rule by itself, without JSON in between: what it takes, what it refuses, and what it says of itself."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngos.protocol import rules
from ngos.protocol.rules import (
    ORIGIN,
    Boolean,
    Choice,
    Integer,
    Json,
    Levels,
    Name,
    Number,
    Rule,
    RuleError,
    Text,
    Uuid,
)
from tests.strategies import json_values, values_that_keep

RULES: Final[tuple[Rule, ...]] = (
    Text(5),
    Text(3, shortest=0),
    Name(r"[a-z]{1,3}"),
    Choice(("a", "b")),
    Integer(),
    Integer(-2, 2),
    Number(),
    Boolean(),
    Uuid(),
    Levels(),
    Json(20),
    Json(20, only_object=True),
)
U: Final = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(value=json_values)
def test_any_json(rule: Rule, value: Any) -> None:
    """A rule returns a value or raises RuleError, whatever JSON it gets; what it took once it takes again."""
    try:
        taken = rule(value)
    except RuleError as exc:
        assert str(exc).startswith("must ")
        assert re.fullmatch(r"(\[\d+\])?", exc.path)
    else:
        again = str(taken) if isinstance(taken, UUID) else list(taken) if isinstance(rule, Levels) else taken
        assert taken == rule(again)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not isinstance(rule, Levels | Uuid | Json)], ids=str)
@given(data=st.data())
def test_what_it_holds_it_takes(rule: Rule, data: st.DataObject) -> None:
    """A value that keeps the rule comes out as it went in, with its type."""
    value = data.draw(values_that_keep(rule))
    assert value == rule(value)
    assert type(value) is type(rule(value))


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Text(3), "абв"),
        (Text(3), "😀😀😀"),
        (Text(3, shortest=0), ""),
        (Integer(-2, 2), -2),
        (Integer(), 2**63 - 1),
        (Json(7), {"a": 1}),
        (Json(2), []),
        (Json(1), None),
        (Json(2, only_object=True), {}),
        (Number(), 1e308),
        (Name("[a-z]+"), "abc"),
    ],
)
def test_taken_to_the_limit(rule: Rule, value: Any) -> None:
    """The limits are inclusive, and characters are counted as characters."""
    assert value == rule(value)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Text(3), "абвг"),
        (Text(3), "a\0"),
        (Integer(-2, 2), 3),
        (Integer(-2, 2), -3),
        (Integer(0, 1), True),
        (Integer(0, 1), 1.0),
        (Number(), True),
        (Boolean(), 0),
        (Json(6), {"a": 1}),
        (Name("[a-z]+"), "abc\n"),
        (Name("[a-z]+"), "ABC"),
        (Choice(("a",)), ["a"]),
        (Choice(("1",)), 1),
        (Levels(), (1.0,)),
        (Uuid(), UUID(U)),
        (Uuid(), U + "\n"),
        (Uuid(), " " + U[1:]),
        (Uuid(), U.replace("-", "_")),
        (Uuid(), "+" + U[1:]),
    ],
)
def test_refused_past_the_limit(rule: Rule, value: Any) -> None:
    """One past a limit, or one type beside, is refused."""
    with pytest.raises(RuleError):
        rule(value)


@given(st.uuids(), st.booleans())
def test_uuids_of_any_version(value: UUID, upper: bool) -> None:
    """Any UUID is one, in upper or lower case."""
    assert value == Uuid()(str(value).upper() if upper else str(value))


@given(st.text(st.sampled_from("0aF-{}urnid:x_+ \u0661"), min_size=36, max_size=36))
def test_what_only_looks_like_a_uuid(text: str) -> None:
    """36 characters that are not a UUID's canonical form are refused, even where Python's UUID() reads them."""
    if re.fullmatch(r"(?ai)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", text) is None:
        with pytest.raises(RuleError):
            Uuid()(text)


@given(st.lists(st.floats(allow_nan=False) | st.integers(-(10**15), 10**15), max_size=8))
def test_levels_are_filled(numbers: list[Any]) -> None:
    """Up to eight numbers become exactly eight floats, in their order, with 0.0 behind."""
    taken = Levels()(list(numbers))
    assert (*map(float, numbers), *ORIGIN[len(numbers) :]) == taken
    assert {float} == set(map(type, taken))


def test_levels_name_the_spot() -> None:
    """The path leads to the number that is wrong, or to the array."""
    with pytest.raises(RuleError) as caught:
        Levels()([0, 1.5, "2", "3"])
    assert "[2]" == caught.value.path
    with pytest.raises(RuleError, match="at most 8 numbers, has 9") as caught:
        Levels()([0] * 9)
    assert "" == caught.value.path


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Text(5), {"type": "string", "minLength": 1, "maxLength": 5}),
        (Name("a+"), {"type": "string", "pattern": "^a+$"}),
        (Choice(("a", "b")), {"type": "string", "enum": ["a", "b"]}),
        (Integer(1, 9), {"type": "integer", "minimum": 1, "maximum": 9}),
        (Number(), {"type": "number"}),
        (Boolean(), {"type": "boolean"}),
        (Uuid(), {"type": "string", "format": "uuid"}),
        (Levels(), {"type": "array", "items": {"type": "number"}, "maxItems": 8}),
    ],
    ids=str,
)
def test_the_schema_says_the_same(rule: Rule, expected: dict[str, Any]) -> None:
    """A rule's JSON Schema names the limits that it checks."""
    assert expected == rule.schema()


def test_the_eight_levels() -> None:
    """The levels are those of the protocol, in its order: clients index by it."""
    order = "physical, sensory, motor, emotional, cognitive, social, temporal, abstract"
    assert order == ", ".join(rules.LEVELS)
