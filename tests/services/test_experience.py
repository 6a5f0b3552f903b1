"""The experience commands: protocol.md section 3, EXPERIENCE."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from tests.services.nodes import Peer, open_node


async def record(peer: Peer, **fields: Any) -> dict[str, Any]:
    said = await peer("experience.record", **{"event_type": "e", **fields})
    assert "experience.recorded" == said.type
    return said.payload


async def walk(peer: Peer, **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = (await peer("experience.list", **fields, **after)).payload
        assert page["count"] == len(page["events"])
        found += page["events"]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


async def test_defaults(peer: Peer) -> None:
    """An experience of nothing but its type has every default of the table; reply, event and row are the same."""
    made = await record(peer)
    assert made == orjson.loads((await peer.node.log("experience"))[0].payload)
    assert [made] == (await peer("experience.list")).payload["events"]
    assert 7 == UUID(made.pop("event_id")).version
    assert made.pop("created_at").endswith("Z")
    nothing = dict.fromkeys(("token_id", "state_before", "state_after", "action", "trajectory_id", "sequence_number"))
    assert {"event_type": "e", "reward": 0.0, "priority": 1.0, "metadata": {}} | nothing == made


@pytest.mark.parametrize("state", [False, 0, "", [], {}, "text", "'; --", "a\0b", {"\0": ["\0", 1e300]}, "null", None])
async def test_states_are_any_json(peer: Peer, state: Any) -> None:
    """Any JSON value is a state or an action, the falsy ones too, and comes back as itself."""
    made = await record(peer, state_before=state, state_after=[state], action=state, metadata={"s": state})
    (listed,) = (await peer("experience.list")).payload["events"]
    for one in (made, listed):
        assert [state, [state], state, {"s": state}] == [
            one[key] for key in ("state_before", "state_after", "action", "metadata")
        ]


async def test_state_has_a_size(peer: Peer) -> None:
    """A state beyond 16 KiB is refused by its path."""
    for name in ("state_before", "state_after", "action", "metadata"):
        said = await peer("experience.record", event_type="e", **{name: {"k": "x" * 16384}})
        assert [f"payload.{name}"] == [fault["path"] for fault in said.payload["details"]["errors"]]


async def test_trajectories_count_without_gaps(peer: Peer) -> None:
    """Each trajectory counts 1, 2, 3 … in the order recorded, over batches and within them, from many peers."""
    peers = [peer.node.peer(f"peer {n}") for n in range(5)]
    names = ["t", "T", "t'; drop table trajectories; --", "long" * 32, None]
    for round_ in range(4):
        for who in peers:
            for n in range(30):
                await who.post("experience.record", event_type="e", trajectory_id=names[(n + round_) % 5], reward=n)
        for who in peers:
            await who.answered(30 * (round_ + 1))
    events = [orjson.loads(event.payload) for event in await peer.node.log("experience")]
    for name in names:
        numbers = [event["sequence_number"] for event in events if event["trajectory_id"] == name]
        assert ([None] * 120 if name is None else list(range(1, 121))) == numbers
    listed = await walk(peer, limit=37, trajectory_id="t")
    assert list(range(120, 0, -1)) == [event["sequence_number"] for event in listed]
    for who in peers:
        own = [reply.payload["sequence_number"] for reply in who.replies if reply.payload["trajectory_id"] == "T"]
        assert sorted(own) == own


async def test_trajectories_of_two_nodes(database_url: str) -> None:
    """Two nodes that record into the same trajectories leave no gap, and no number twice."""
    async with open_node(database_url) as one, open_node(database_url) as other:
        peers = [one.peer(), other.peer()]
        for n in range(200):
            for index, peer in enumerate(peers):
                name = "ab"[(n + index) % 2]
                await peer.post("experience.record", event_type="e", trajectory_id=name)
        for peer in peers:
            await peer.answered(200)
        replies = [reply.payload for peer in peers for reply in peer.replies]
        for name in "ab":
            numbers = [reply["sequence_number"] for reply in replies if reply["trajectory_id"] == name]
            assert list(range(1, 201)) == sorted(numbers)


async def test_filters_and_pages(peer: Peer) -> None:
    """The filters combine; pages over one batch hold each row once, newest first; the token need not be there."""
    token_id = str(uuid4())
    for n in range(60):
        fields: dict[str, Any] = {"event_type": "even" if n % 2 == 0 else "odd", "reward": n}
        if n % 3 == 0:
            fields["token_id"] = token_id
        if n % 5 == 0:
            fields["trajectory_id"] = "five"
        await peer.post("experience.record", **fields)
    await peer.answered(60)
    assert 1 == len({reply.payload["created_at"] for reply in peer.replies})
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({}, list(range(60))),
        ({"event_type": "even"}, list(range(0, 60, 2))),
        ({"token_id": token_id}, list(range(0, 60, 3))),
        ({"trajectory_id": "five"}, list(range(0, 60, 5))),
        ({"event_type": "odd", "token_id": token_id, "trajectory_id": "five"}, [15, 45]),
        ({"event_type": "none"}, []),
    ]
    for fields, rewards in cases:
        for limit in (1, 7, 1000):
            assert rewards[::-1] == [event["reward"] for event in await walk(peer, limit=limit, **fields)]
    page = (await peer("experience.list")).payload
    assert (10, "experience", 60) == (page["count"], page["position"]["topic"], page["position"]["seq"])


async def test_big_states_cut_a_page_early(peer: Peer) -> None:
    """A page that would be too big ends early, tells `next`, and loses no row."""
    big = "x" * (15 * 1024)
    for n in range(60):
        await peer.post("experience.record", event_type="e", reward=n, state_before=big, state_after=big, action=big)
    await peer.answered(60)
    first = (await peer("experience.list", limit=1000)).payload
    assert 0 < first["count"] < 60
    assert list(range(59, -1, -1)) == [event["reward"] for event in await walk(peer, limit=1000)]
