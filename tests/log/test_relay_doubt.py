"""The relay where the log knows more than it was told: over a staged log, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import trio
from trio.testing import MockClock

from ngos.backplane.line import Line
from ngos.backplane.postgres import PostgresCarrier
from ngos.errors import LogWentBack, StorageUnavailable
from ngos.log import store, wakeup
from ngos.log.hub import Hub
from ngos.log.relay import COMPARE_S, Relay
from ngos.log.store import Extent, LoggedEvent
from ngos.postgres import identity
from tests.log.test_relay import EPOCH, event, seqs
from tests.services.nodes import Peer


class StagedLog:
    """In the place of a database: positions and events as a test has them, or nothing while `down`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.down = False
        self.epoch = EPOCH
        self.seqs: dict[str, int] = {}
        monkeypatch.setattr(store, "read_extents", self._read_extents)
        monkeypatch.setattr(store, "read", self._read)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        if self.down:
            raise StorageUnavailable("down")
        yield

    async def extent(self, _topic: str) -> Extent:
        return Extent(EPOCH, seq=0, pruned=0)

    async def _read_extents(self, _conn: object, topics: Sequence[str]) -> dict[str, Extent]:
        return {topic: Extent(self.epoch, self.seqs.get(topic, 0), pruned=0) for topic in topics}

    async def _read(self, _conn: object, topic: str, after: int, upto: int, _limit: int) -> list[LoggedEvent]:
        return [event(seq, topic) for seq in range(after + 1, upto + 1)]


async def test_doubt_outlives_an_outage(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """A doubt that could not be settled is settled when the log is back, however busy other topics are."""
    log: Any = StagedLog(monkeypatch)
    hub = Hub(log.extent)
    relay = Relay(hub, log)
    node: Any = None
    quiet, busy = Peer(node, "quiet"), Peer(node, "busy")
    await nursery.start(hub.run)
    for topic, peer in (("quiet", quiet), ("tokens", busy)):
        hub.add(topic, peer, after=(await hub.position(topic)).seq)
    await nursery.start(relay.run)
    log.down, log.seqs = True, {"quiet": 1}
    relay.doubt()
    await trio.testing.wait_all_tasks_blocked()
    log.down = False
    for seq in range(1, 20):
        log.seqs["tokens"] = seq
        relay.advance([event(seq)])
        await relay.announce([event(seq)])
        await trio.sleep(1)
    assert [1] == seqs(quiet)
    assert list(range(1, 20)) == seqs(busy)
    nursery.cancel_scope.cancel()


async def test_a_doubt_that_can_t_be_noted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Tries to have a log that went back taken for a defect, as it went back to before there was a table for doubts."""

    async def doubt(*_args: object) -> None:
        raise psycopg.errors.UndefinedTable

    monkeypatch.setattr(identity, "doubt", doubt)
    log: Any = StagedLog(monkeypatch)
    hub = Hub(log.extent)
    relay = Relay(hub, log)
    await nursery.start(hub.run)
    node: Any = None
    hub.add("tokens", Peer(node, "first"), after=(await hub.position("tokens")).seq)
    relay.advance([event(1)])
    relay.doubt()
    with pytest.raises(LogWentBack, match="clients were told of 1, and its last is 0"):
        await relay.run()
    nursery.cancel_scope.cancel()


async def test_who_notices_late(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Tries to have a log doubted once more by who sees that it went back when its topics have new epochs already."""
    doubts: list[object] = []

    async def doubt(*args: object) -> None:
        doubts.append(args)

    monkeypatch.setattr(identity, "doubt", doubt)
    log: Any = StagedLog(monkeypatch)
    hub = Hub(log.extent)
    relay = Relay(hub, log)
    await nursery.start(hub.run)
    node: Any = None
    hub.add("tokens", Peer(node, "first"), after=(await hub.position("tokens")).seq)
    relay.advance([event(1)])
    log.epoch = "0badc0de"  # given by another node, whose comparison came first
    relay.doubt()
    with pytest.raises(LogWentBack, match=f"its epoch was {EPOCH} and is 0badc0de"):
        await relay.run()
    assert [] == doubts
    nursery.cancel_scope.cancel()


async def test_told_while_the_log_is_asked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Tries to have what commits during a comparison counted as found by it, or what is pruned then forgotten."""
    log: Any = StagedLog(monkeypatch)
    hub = Hub(log.extent)
    relay = Relay(hub, log)
    reads: list[object] = []

    async def read_extents(_conn: object, _topics: Sequence[str]) -> dict[str, Extent]:
        relay.advance([event(1)])
        await relay.announce([event(1)])
        topic.pruned = 1
        return {"tokens": Extent(EPOCH, seq=1, pruned=0)}

    async def read(*args: object) -> list[LoggedEvent]:
        reads.append(args)
        return [event(1)]

    monkeypatch.setattr(store, "read_extents", read_extents)
    monkeypatch.setattr(store, "read", read)
    await nursery.start(hub.run)
    node: Any = None
    peer = Peer(node, "first")
    hub.add("tokens", peer, after=(await hub.position("tokens")).seq)
    topic: Any = hub.topic("tokens")
    relay.doubt()
    await nursery.start(relay.run)
    await trio.testing.wait_all_tasks_blocked()
    assert ([1], 0, []) == (seqs(peer), relay.compared, reads)
    assert 1 == topic.pruned
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("limit_bytes", [0, 10_000], ids=["numbers", "messages"])
@pytest.mark.parametrize("is_behind", [False, True], ids=["at once", "behind"])
async def test_told_of_another_log(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, limit_bytes: int, is_behind: bool
) -> None:
    """Tries to have a node that knows the log as it was set a new subscription behind what is not in this one."""
    log: Any = StagedLog(monkeypatch)
    asked = trio.Event()

    async def extent(_topic: str) -> Extent:
        await asked.wait()
        return Extent(EPOCH, seq=2, pruned=0)

    line = Line(PostgresCarrier("", 1.0, 1.0, log.connection))
    line.lost = None
    hub = Hub(extent)
    relay = Relay(hub, log, line=line)
    log.seqs = {"tokens": 2}
    node: Any = None
    peer = Peer(node, "peer")
    told: list[int] = []

    async def subscribe() -> None:
        told.append((await hub.position("tokens")).seq)
        hub.add("tokens", peer, after=told[0])

    await nursery.start(hub.run)
    nursery.start_soon(subscribe)
    await trio.testing.wait_all_tasks_blocked()
    if not is_behind:
        await nursery.start(relay.run)
    for seq in (3, 8, 9, 11):  # the last of which waits for what is missing before it
        events = [LoggedEvent("tokens", "t", b"{}", None, 0, seq=seq, epoch="0badc0de")]
        relay.hear("other", wakeup.write(events, hub.encode, limit_bytes))
    await trio.testing.wait_all_tasks_blocked()
    asked.set()
    await trio.testing.wait_all_tasks_blocked()
    topic: Any = hub.topic("tokens")
    assert 0 == topic.tail.size_bytes
    if is_behind:
        await nursery.start(relay.run)
    await trio.sleep(2 * COMPARE_S)
    log.seqs = {"tokens": 3}
    relay.advance([event(3)])
    await relay.announce([event(3)])
    await trio.sleep(2 * COMPARE_S)
    assert ([2], [(3, EPOCH)]) == (told, [(event["seq"], event["epoch"]) for event in peer.events])
    nursery.cancel_scope.cancel()


async def test_head_never_goes_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Who subscribes after the log told of more than our committer has yet, starts behind what the log told."""
    log: Any = StagedLog(monkeypatch)
    hub = Hub(log.extent)
    relay = Relay(hub, log)
    node: Any = None
    first, late = Peer(node, "first"), Peer(node, "late")
    await nursery.start(hub.run)
    hub.add("tokens", first, after=(await hub.position("tokens")).seq)
    await nursery.start(relay.run)
    log.seqs = {"tokens": 2}
    relay.doubt()
    await trio.testing.wait_all_tasks_blocked()
    assert [1, 2] == seqs(first)
    relay.advance([event(1)])
    await relay.announce([event(1)])
    position = await hub.position("tokens")
    hub.add("tokens", late, after=position.seq)
    relay.advance([event(3)])
    await relay.announce([event(3)])
    await trio.testing.wait_all_tasks_blocked()
    assert (2, [3]) == (position.seq, seqs(late))
    nursery.cancel_scope.cancel()
