"""What a node tells the others that it has committed, and what they make of it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ngos.backplane.line import Line
from ngos.log import wakeup
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.store import Extent, LoggedEvent
from ngos.protocol.values import Position
from tests.services.nodes import Node, Peer, open_node

EPOCH = "0123abcd"


class Bus:
    """A bus that loses nothing and changes nothing: bodies as they were sent."""

    def __init__(self, bundle_bytes: int) -> None:
        self.bundle_bytes = bundle_bytes

    async def carry(self, line: Line, cluster: object) -> None: ...


def line_of(bundle_bytes: int) -> Line:
    line = Line(Bus(bundle_bytes))
    line.is_linked = True  # as after the first word of it
    return line


def event(topic: str, seq: int, size: int = 0) -> LoggedEvent:
    return LoggedEvent(topic, "t", b'{"n":"' + b"x" * size + b'"}', "somebody", 0, seq=seq, epoch=EPOCH)


BATCHES = st.dictionaries(st.sampled_from(["tokens", "graph", "a.b:c", "z"]), st.integers(1, 9), min_size=1)


@given(BATCHES, st.integers(0, 5000), st.randoms())
def test_as_it_was_told(batch: dict[str, int], limit_bytes: int, rng: random.Random) -> None:
    """Tries to have a batch come out as another, whatever its topics, and whether it goes at once or not."""

    async def nothing(topic: str) -> Extent:
        raise NotImplementedError(topic)

    hub = Hub(nothing)
    events = [event(topic, 10 + n, rng.randrange(300)) for topic, count in batch.items() for n in range(count)]
    rng.shuffle(events)
    events.sort(key=lambda event: event.seq or 0)
    body = wakeup.write(events, hub.encode, limit_bytes)
    told = {grown.topic: grown for grown in wakeup.read(body)}
    assert batch.keys() == told.keys()
    for topic, count in batch.items():
        grown = told[topic]
        assert (EPOCH, 10, 9 + count) == (grown.epoch, grown.first, grown.last)
        if grown.events:
            expected = [hub.encode(event) for event in events if event.topic == topic]
            assert expected == [hub.encode(event) for event in grown.events]
            assert list(range(10, 10 + count)) == [event.seq for event in grown.events]
            assert len(body) <= limit_bytes


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}\n{}", b"[[7]]\n", b'[["t", "e", 1]]\n', b'[[["t"], "e", 1, 1]]\n', b'[["t", 7, 1, 1]]\n'),
        *(b'[["t", null, 1, 1]]\n', b'[["t", "e", "1", 1]]\n', b'[["t", "e", 1, 1.0]]\n', b'[["t", "e", 1, 0]]\n'),
        *(b'[["t", "e", 0, 1]]\n', b'[["t", "e", 1, 2, [2]]]\n{}', b'[["t", "e", 1, 1, [2, 2]]]\n{}{}'),
        *(b'[["t", "e", 1, 1, [9]]]\n{"half"', b'[["t", "e", 1, 1, [2]]]\n{}{}', b'[["t", "e", 1, 2, [-1, 3]]]\n{}'),
    ],
)
async def test_what_no_node_says(node: Node, peer: Peer, body: bytes) -> None:
    """Tries to have subscribers be given half a message, or a node end, by a wake-up of another version."""
    await peer.follow("t")
    with pytest.raises((ValueError, TypeError, LookupError)):
        node.relay.hear("", body)
    assert not node.relay._queue


async def hearing(node: Node, peer: Peer, bundle_bytes: int, order: list[int], losses: set[int]) -> list[int]:
    """Commit 20 batches on one node, tell a second of them in another order, less the losses; what its peer gets."""
    async with open_node(node.pool.conninfo) as other:
        there = other.peer()
        await there.follow("tokens")
        for _ in order:
            await peer("token.create")
        bodies = [wakeup.write([event], node.hub.encode, bundle_bytes) for event in await node.log("tokens")]
        for index in order:
            if index not in losses:
                other.relay.hear("", bodies[index])
                await trio.lowlevel.checkpoint()
        other.relay.doubt()
        await there.heard_events(len(order))
        return [event["seq"] for event in there.events]


@pytest.mark.parametrize("bundle_bytes", [0, 100_000], ids=["heads", "whole"])
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_heard_when(node: Node, peer: Peer, bundle_bytes: int, seed: int) -> None:
    """Tries to lose, repeat or reorder events by wake-ups that are lost, late, twice, or in another order."""
    rng = random.Random(seed)
    order = list(range(20))
    rng.shuffle(order)
    losses = set(rng.sample(order, rng.randrange(20)))
    assert list(range(1, 21)) == await hearing(node, peer, bundle_bytes, order, losses)


async def test_of_another_epoch(node: Node, peer: Peer) -> None:
    """Tries to have a node deliver what was numbered in a log that is none any more, or was never ours."""
    await peer.follow("tokens")
    stale = LoggedEvent("tokens", "t", b"{}", None, 0, seq=1, epoch="ffffffff")
    node.relay.hear("", wakeup.write([stale], lambda _: b'{"type":"stale"}', 1000))
    await peer("token.create")
    (heard,) = await peer.heard_events(1)
    assert "token.created" == heard["type"]


async def test_a_flood_is_bounded(node: Node, peer: Peer) -> None:
    """Tries to have a node that is behind keep all that it hears in memory, or lose what it did not keep."""
    await peer.follow("tokens")
    async with open_node(node.pool.conninfo) as other:
        there = other.peer()
        await there.follow("tokens")
        for _ in range(300):
            await peer("token.create")
        for event in await node.log("tokens"):  # without a checkpoint, so that nothing is taken meanwhile
            other.relay.hear("", wakeup.write([event], node.hub.encode, 10_000))
        assert len(other.relay._queue) <= 64
        await there.heard_events(300)
        assert list(range(1, 301)) == [event["seq"] for event in there.events]


async def test_first_read_under_way(node: Node, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to lose an event that is heard while the topic is being asked for its position for the first time."""
    read_extent = node.hub._read_extent
    for _ in range(3):
        await peer("token.create")
    events = await node.log("tokens")

    async def slow(topic: str) -> Extent:
        extent: Extent = await read_extent(topic)
        node.relay.hear("", wakeup.write([events[1]], node.hub.encode, 10_000))
        return extent

    monkeypatch.setattr(node.hub, "_read_extent", slow)
    position: Position = await node.hub.position("tokens")
    topic: Any = node.hub.topic("tokens")
    assert (3, 1) == (position.seq, topic.relayed)
    node.hub.add("tokens", peer, after=position.seq)
    node.relay.doubt()
    await peer("token.create")
    assert [4] == [event["seq"] for event in await peer.heard_events(1)]


async def test_tells_what_it_commits(node: Node) -> None:
    """Tries to have a commit that nobody is told of, though nobody here follows its topic."""
    line = line_of(10_000)
    relay = Relay(node.hub, node.pool, line=line)
    await relay.announce([event("graph", 7)])
    ((kind, body),) = line.outbox.take(10_000)
    assert (wakeup.KIND, [7]) == (kind, [grown.last for grown in wakeup.read(body)])
