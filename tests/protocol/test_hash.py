"""`Received.hash`, by which a command that is sent again is told from another with its id (protocol.md section 6)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ngos.protocol import codec
from ngos.protocol.catalog import COMMANDS
from tests.strategies import json_objects, payloads_of


def hash_of(type_: str, payload: Any, **envelope: Any) -> Any:
    return codec.decode(orjson.dumps({"type": type_, "payload": payload, **envelope})).hash()


def turned(value: Any) -> Any:
    """The same JSON with the keys of all objects in reverse."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("cls", COMMANDS.values(), ids=COMMANDS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of each of the commands
@given(data=st.data())
def test_the_order_of_keys_means_nothing(cls: type[Any], data: st.DataObject) -> None:
    """Tries to have the same command be another by the order of its keys, its id, or the time that it claims."""
    sent = orjson.loads(codec.encode_command(data.draw(payloads_of(cls)), "a"))
    again = {"timestamp": 1, **turned(sent), "id": "b"}
    assert codec.decode(orjson.dumps(sent)).hash() == codec.decode(orjson.dumps(again)).hash()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_objects, json_objects)
def test_another_payload_is_another_command(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Tries to have two commands with different payloads taken for the same."""
    assume(orjson.dumps(one, option=orjson.OPT_SORT_KEYS) != orjson.dumps(other, option=orjson.OPT_SORT_KEYS))
    hashes = {hash_of("publish", {"topic": "t", "type": "x", "payload": payload}) for payload in (one, other)}
    assert 2 == len(hashes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"weight": 1}, {"weight": 1.0}),
        ({"coord_x": [1]}, {"coord_x": [1.0]}),
        ({"coord_x": []}, {}),
        ({"flags": 0}, {}),
        ({"metadata": {"a": [1]}}, {"metadata": {"a": [True]}}),
    ],
)
def test_it_is_made_of_what_was_sent(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Tries to have what a command is read as, or a rule that changes what it reads, come into its hash."""
    assert hash_of("token.create", one) != hash_of("token.create", other)
