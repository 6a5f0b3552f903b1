"""From the commit to the subscribers: in order, without gap or repeat, whoever committed."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import trio

from ngos.log import store
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.sql import Transaction
from ngos.log.store import Draft, Extent, LoggedEvent
from tests.logs import prune
from tests.services.nodes import Node, Peer, open_node

EPOCH = "0123abcd"


async def append(node: Node, topic: str, *numbers: int) -> None:
    """Commit events that the relay is not told of."""
    async with node.pool.connection() as conn, conn.transaction():
        await store.append(
            Transaction(conn, datetime.now(UTC)),
            [Draft(topic, "silent", str(number).encode(), None) for number in numbers],
        )


def event(seq: int, topic: str = "tokens") -> LoggedEvent:
    return LoggedEvent(topic, "t", b"{}", None, 0, seq=seq, epoch=EPOCH)


def seqs(peer: Peer) -> list[int]:
    return [event["seq"] for event in peer.events]


async def test_hole_is_read_from_the_log(node: Node, peer: Peer) -> None:
    """Events that nobody announced are delivered before the next one that is announced, as the log has them."""
    await peer("token.create")
    await peer.follow("tokens")
    await append(node, "tokens", 1, 2)
    await append(node, "tokens", 3)
    await peer("token.create")
    events = await peer.heard_events(4)
    assert [2, 3, 4, 5] == seqs(peer)
    assert ["silent"] * 3 + ["token.created"] == [event["type"] for event in events]
    assert [1, 2, 3] == [event["payload"] for event in events[:3]]
    assert 1 == len({event["epoch"] for event in events})


async def test_hole_longer_than_a_page(node: Node, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hole of many pages is delivered whole."""
    monkeypatch.setattr("ngos.log.relay.PAGE_EVENTS", 7)
    await peer.follow("tokens")
    await append(node, "tokens", *range(50))
    await peer("token.create")
    await peer.heard_events(51)
    assert list(range(1, 52)) == seqs(peer)


async def test_database_lost_amid_a_hole(
    node: Node, peer: Peer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to lose or repeat a part of a hole by ending the connection that it is being read on, page after page."""
    monkeypatch.setattr("ngos.log.relay.PAGE_EVENTS", 7)
    reads = 0
    read = store.read

    async def cut_off(conn: Any, *args: Any) -> list[LoggedEvent]:
        nonlocal reads
        reads += 1
        if reads % 2:
            with psycopg.connect(database_url, autocommit=True) as admin:
                admin.execute("select pg_terminate_backend(%s)", [conn.info.backend_pid])
        return await read(conn, *args)

    monkeypatch.setattr(store, "read", cut_off)
    await peer.follow("tokens")
    await append(node, "tokens", *range(50))
    await peer("token.create")
    await peer.heard_events(51)
    assert list(range(1, 52)) == seqs(peer)
    assert reads > 10


async def test_hole_that_is_pruned(node: Node, peer: Peer, database_url: str) -> None:
    """Tries to be given what follows a hole, as if nothing had been there, where the log does not hold it any more."""
    await peer.follow("tokens")
    await append(node, "tokens", *range(50))
    prune(database_url, "tokens", 49)
    await peer("token.create")
    await peer.lost.wait()
    late = node.peer("late")
    assert 51 == await late.follow("tokens")
    await peer("token.create")
    await late.heard_events(1)
    assert [52] == seqs(late)


async def test_replayed_bytes_are_the_live_bytes(database_url: str) -> None:
    """An event that is read from the log is, byte for byte, the one that was sent live."""
    async with open_node(database_url) as one, open_node(database_url) as other:
        live, late = one.peer(), other.peer()
        await live.follow("tokens")
        await late.follow("tokens")
        metadata = {"\0": 'a "quote"', "n": [1.0, 1e22, -0.0, 2**53], "é": "💥"}
        await live("token.create", metadata=metadata, coord_x=[0.1, 1e-9])
        other.relay.doubt()
        assert await live.heard_events(1) == await late.heard_events(1)


async def test_doubt(node: Node, peer: Peer) -> None:
    """After doubt, what nobody announced is delivered, of each topic, without waiting for a next event."""
    for topic in ("tokens", "graph"):
        await peer.follow(topic)
        await append(node, topic, 1, 2, 3)
    node.relay.doubt()
    await peer.heard_events(6)
    for topic in ("tokens", "graph"):
        assert [1, 2, 3] == [event["seq"] for event in peer.events if event["topic"] == topic]
    late = node.peer()
    assert 3 == await late.follow("tokens")
    await peer("token.create")
    assert [4] == [event["seq"] for event in await late.heard_events(1)]


@pytest.mark.parametrize("seed", range(5))
async def test_holes_at_random(node: Node, seed: int) -> None:
    """Announced and silent commits in any mix, with doubts in between, reach all in order, each once."""
    rng = random.Random(seed)
    writer = node.peer("writer")
    followers: list[tuple[int, Peer]] = []
    posted = 0
    for _ in range(60):
        match rng.randrange(5):
            case 0:
                await append(node, "tokens", *range(rng.randint(1, 5)))
            case 1:
                node.relay.doubt()
            case 2:
                follower = node.peer()
                followers.append((await follower.follow("tokens"), follower))
            case _:
                for _ in range(rng.randint(1, 4)):
                    await writer.post("token.create")
                    posted += 1
    await writer.answered(posted)
    await writer("token.create")
    last = len(await node.log("tokens"))
    for after, follower in followers:
        await follower.heard_events(last - after)
        # Silent commits may lie between what this node knew and the log: those come as well, from `after` on.
        assert list(range(after + 1, last + 1)) == seqs(follower)


@pytest.mark.parametrize("seed", range(12))
async def test_subscribing_while_events_commit(node: Node, seed: int) -> None:
    """Who subscribes, leaves and comes back while events commit gets all from its position on, in order, once."""
    rng = random.Random(seed)
    writers = [node.peer(f"writer {n}") for n in range(3)]
    spans: list[tuple[int, Peer, int]] = []
    done = trio.Event()

    async def write(writer: Peer) -> None:
        for n in range(120):
            await writer.post("token.create")
            if n % rng.randint(2, 9) == 0:
                await writer.answered(n + 1)
        await writer.answered(120)

    async def come_and_go(rng: random.Random) -> None:
        while not done.is_set():
            peer = node.peer()
            after = await peer.follow("tokens")
            for _ in range(rng.randrange(40)):
                await trio.lowlevel.checkpoint()
            if rng.random() < 0.5:
                await node.rows("select 1")
            node.hub.remove("tokens", peer)
            spans.append((after, peer, len(peer.events)))

    stayer = node.peer()
    async with trio.open_nursery() as nursery:
        for n in range(6):
            nursery.start_soon(come_and_go, random.Random(seed * 100 + n))
        async with trio.open_nursery() as writing:
            for writer in writers:
                writing.start_soon(write, writer)
            stayed = await stayer.follow("tokens")
        done.set()
    assert list(range(stayed + 1, 361)) == [event["seq"] for event in await stayer.heard_events(360 - stayed)]
    assert 6 < len(spans)
    for after, peer, count in spans:
        assert list(range(after + 1, after + 1 + count)) == seqs(peer)


async def test_answered_is_before_the_position(node: Node, peer: Peer) -> None:
    """A subscription starts behind every change that was answered; a list's position is never behind a later one."""
    first = node.peer()
    await first.follow("tokens")  # so that the position comes from memory
    for n in range(30):
        await peer("token.create")
        late = node.peer()
        listed = (await peer("token.list")).payload["position"]["seq"]
        assert n + 1 == await late.follow("tokens") == listed
    await first.heard_events(30)


async def test_second_subscriber_during_the_first_read() -> None:
    """Who subscribes at a position that an announced event told, while the first read is on, loses nothing after it."""
    gate = trio.Event()

    async def read_extent(topic: str) -> Extent:
        await gate.wait()
        return Extent(EPOCH, seq=2, pruned=0)  # the snapshot of a read that was slow to start

    hub = Hub(read_extent)
    unused: Any = None
    relay = Relay(hub, unused)
    node: Any = None
    first, second = Peer(node, "first"), Peer(node, "second")

    async def subscribe(peer: Peer) -> None:
        hub.add("tokens", peer, after=(await hub.position("tokens")).seq)

    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        nursery.start_soon(subscribe, first)
        await trio.testing.wait_all_tasks_blocked()
        # The relay is at work elsewhere: in a hole of another topic, for instance.
        relay.advance([event(1)])
        await relay.announce([event(1)])
        await subscribe(second)
        relay.advance([event(2)])
        await relay.announce([event(2)])
        gate.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(relay.run)
        relay.advance([event(3)])
        await relay.announce([event(3)])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ([3], [2, 3]) == (seqs(first), seqs(second))


async def test_queue_is_bounded() -> None:
    """What waits for a relay that stands still is bounded: the committer waits."""

    async def read_extent(topic: str) -> Extent:
        return Extent(EPOCH, seq=0, pruned=0)

    hub = Hub(read_extent)
    unused: Any = None
    relay = Relay(hub, unused)
    announced = 0

    async def announce_all() -> None:
        nonlocal announced
        for seq in range(1, 201):
            await relay.announce([event(seq)])
            announced += 1

    node: Any = None
    peer = Peer(node, "peer")
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        hub.add("tokens", peer, after=(await hub.position("tokens")).seq)
        nursery.start_soon(announce_all)
        await trio.testing.wait_all_tasks_blocked()
        assert 64 == announced
        nursery.start_soon(relay.run)
        await peer.heard_events(200)
        nursery.cancel_scope.cancel()
    assert list(range(1, 201)) == seqs(peer)
