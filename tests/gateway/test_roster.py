"""The other nodes: who is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import orjson
import pytest
import trio
import trio.testing

from ngos.gateway.roster import GONE_S, NODES, TOPICS, Presence, Roster
from tests.gateway.fakes import presence

if TYPE_CHECKING:
    pass


async def test_silent_nodes_are_gone(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to count on a node that has not been heard for longer than it may be silent."""
    del autojump_clock
    roster = Roster()
    roster.hear("a", presence(connections=1).to_json())
    await trio.sleep(GONE_S - 1)
    roster.hear("b", presence(connections=2, topics={"t": 5}).to_json())
    assert {"a", "b"} == roster.present().keys()
    assert 5 == roster.subscribers("t")
    await trio.sleep(2)
    assert {"b"} == roster.present().keys()
    roster.hear_bye("b", b"")
    roster.hear_bye("b", b"")
    assert {} == roster.present()
    assert 0 == roster.subscribers("t")


async def test_nodes_are_bounded() -> None:
    """Tries to fill the memory of a node with others."""
    roster = Roster()
    for number in range(NODES + 100):
        roster.hear(f"{number}", presence().to_json())
    assert NODES == len(roster.present())
    roster.hear("0", presence(connections=7).to_json())  # who is known is heard on
    assert 7 == roster.present()["0"].connections


async def test_a_later_version_says_more() -> None:
    """Tries to have a node be unheard for saying more of itself than this version knows of."""
    roster = Roster()
    said = presence(connections=3, topics=None, events_per_s=2)
    roster.hear("a", orjson.dumps({**orjson.loads(said.to_json()), "moons": [2]}))
    assert {"a": said} == roster.present()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"connections": "1"}, {"connections": -1}, {"connections": True}, {"subscriptions": None}),
        *({"topic_count": 1.5}, {"topics": ["t"]}, {"topics": {"t": "1"}}, {"topics": 7}),
        *({"topics": dict.fromkeys(map(str, range(TOPICS + 1)), 1)}, {"events_per_s": "fast"}, {"events_per_s": -1}),
        *({"connections": 1 << 63}, {"topics": {"t": 1 << 63}}, {"events_per_s": 1e300}),
    ],
)
async def test_a_node_that_says_it_otherwise(wrong: dict[str, Any]) -> None:
    """Tries to have what another version says of itself be told on, or fail whoever adds it up."""
    roster = Roster()
    roster.hear("a", presence(connections=1).to_json())
    with pytest.raises((ValueError, TypeError, LookupError)):
        roster.hear("a", orjson.dumps({**orjson.loads(presence().to_json()), **wrong}))
    assert 1 == roster.together(presence()).connections
    assert 0 == roster.subscribers("t")


@pytest.mark.parametrize("missing", [one.name for one in attrs.fields(Presence)])
async def test_a_node_that_says_less(missing: str) -> None:
    """Tries to have a node be there of which something is not known."""
    roster = Roster()
    said = orjson.loads(presence().to_json())
    del said[missing]
    with pytest.raises(LookupError):
        roster.hear("a", orjson.dumps(said))
    assert {} == roster.present()


async def test_together() -> None:
    """Tries to count a topic twice that is followed on two nodes, or not at all where a node does not name its own."""
    roster = Roster()
    roster.hear("a", presence(connections=1, subscriptions=4, topics={"x": 1, "y": 3}, topic_count=2).to_json())
    roster.hear("b", presence(connections=2, topics=None, topic_count=300, events_per_s=1.5).to_json())
    all_ = roster.together(presence(connections=4, topics={"y": 1, "z": 1}, topic_count=2, events_per_s=1.0))
    expected = presence(connections=7, subscriptions=4, topic_count=303, topics=None, events_per_s=2.5)
    assert expected == all_
