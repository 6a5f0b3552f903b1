"""Grants: what a claim says is what is allowed, and what it does not say is not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ngos.auth.grants import EVERYTHING, NOTHING, PATTERNS, Family, Grant, parse_grant, parse_pattern


def test_a_whole_claim() -> None:
    """Tries to lose something that a claim allows."""
    claim = {"commands": ["write", "read"], "subscribe": ["tokens", "chat.*"], "publish": ["chat.?"]}
    grant = parse_grant(claim)
    assert Grant(frozenset({Family.READ, Family.WRITE}), ("tokens", "chat.*"), ("chat.?",)) == grant
    assert grant == parse_grant(grant.to_claim())


def test_what_is_left_out_is_not_allowed() -> None:
    """Tries to get something out of a claim that has nothing in it."""
    assert NOTHING == parse_grant({})
    assert not any(NOTHING.may(family) for family in Family)
    assert not NOTHING.may_subscribe("tokens")
    assert not NOTHING.may_publish("chat.1")


def test_everything_is_everything() -> None:
    """Tries to find something that all permissions don't allow."""
    assert all(EVERYTHING.may(family) for family in Family)
    assert EVERYTHING.may_subscribe("system")
    assert EVERYTHING.may_publish("chat.1")


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("tokens", "tokens", True),
        ("tokens", "tokens2", False),
        ("tokens", "Tokens", False),
        ("chat.*", "chat.", True),
        ("chat.*", "chat.a.b", True),
        ("chat.*", "chat", False),
        ("chat.*", "xchat.a", False),
        ("chat.?", "chat.a", True),
        ("chat.?", "chat.ab", False),
        ("a*b*c", "a-b-b-c", True),
        ("**", "any", True),
    ],
)
def test_patterns(pattern: str, topic: str, expected: bool) -> None:
    """Tries to make a pattern match more or less than it says."""
    grant = parse_grant({"subscribe": [pattern], "publish": [pattern]})
    assert (expected, expected) == (grant.may_subscribe(topic), grant.may_publish(topic))


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        "read",
        7,
        {"command": []},
        {"commands": None},
        {"commands": "read"},
        {"commands": {"read": True}},
        {"commands": ["root"]},
        {"commands": ["READ"]},
        {"commands": [["read"]]},
        {"commands": [1]},
        {"subscribe": "*"},
        {"subscribe": [None]},
        {"subscribe": [""]},
        {"subscribe": ["[a-z]"]},
        {"subscribe": ["a b"]},
        {"subscribe": ["tokens\n"]},
        {"subscribe": ["a" * 129]},
        {"subscribe": ["*a*a*a*a*"]},
        {"subscribe": ["tökens"]},
        {"publish": ["x"] * (PATTERNS + 1)},
        {1: []},
    ],
)
def test_malformed_claims_are_refused_whole(claim: Any) -> None:
    """Tries to get a part of the permissions out of a claim of which another part is wrong."""
    with pytest.raises(ValueError):
        parse_grant({"commands": ["read"], **claim} if type(claim) is dict and "commands" not in claim else claim)


def test_stars_collapse() -> None:
    """Tries to get a pattern with more stars than are looked at."""
    assert "a*b" == parse_pattern("a" + "*" * 100 + "b")


def test_no_pattern_is_slow() -> None:
    """Tries to hold the server up with the worst patterns there may be: a thousandth of a second for all of them."""
    grant = parse_grant({"subscribe": ["*a?*a?*a?*a?" + "?" * n for n in range(PATTERNS)]})
    topic = "a" * 127 + "b"
    grant.may_subscribe(topic)  # compiles them
    best_s = min(_seconds(lambda: grant.may_subscribe(topic + "b")) for _ in range(5))
    assert best_s < 0.02


def _seconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
