"""The relay where the log knows more than it was told: over a staged log, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import trio
from trio.testing import MockClock

from ngos.errors import LogWentBack, StorageUnavailable
from ngos.log import store
from ngos.log.hub import Hub
from ngos.log.relay import Relay
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


@pytest.mark.parametrize("epoch", [EPOCH, "0badc0de"])
async def test_what_is_noted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, epoch: str
) -> None:
    """Tries to have a log that went back not be doubted, or without when its epochs were given: there may be newer."""
    doubts: list[tuple[str, object]] = []

    async def doubt(_conn: object, reason: str, epochs_at: object) -> None:
        doubts.append((reason, epochs_at))

    monkeypatch.setattr(identity, "doubt", doubt)
    log: Any = StagedLog(monkeypatch)
    hub = Hub(log.extent)
    relay = Relay(hub, log)
    relay.epochs_at = datetime(2026, 1, 1, tzinfo=UTC)
    await nursery.start(hub.run)
    node: Any = None
    hub.add("tokens", Peer(node, "first"), after=(await hub.position("tokens")).seq)
    relay.advance([event(1)])
    log.epoch = epoch
    relay.doubt()
    with pytest.raises(LogWentBack) as caught:
        await relay.run()
    assert [(str(caught.value), relay.epochs_at)] == doubts
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
