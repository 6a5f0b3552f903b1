"""From another node's commit to the subscribers here, by what it says of it, late, twice, or not at all."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import trio
from attrs import define, field

from ngos.backplane.line import Line
from ngos.backplane.postgres import PostgresCarrier
from ngos.log import store, wakeup
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.sql import Transaction
from ngos.log.store import Draft, Extent, LoggedEvent
from ngos.postgres.pool import Pool, open_pool
from ngos.protocol.parcel import Parcel

TOPICS = ("graph", "tokens")
PATIENCE_S = 20.0


async def _anybody(_connection: object) -> None: ...


@define(eq=False)
class Follower:
    """A subscription, from its start on."""

    topic: str
    seqs: list[int] = field(factory=list)
    start: int | None = None

    def offer_events(self, parcel: Parcel) -> None:
        assert self.start is not None
        for message in parcel.messages:
            self.seqs.append(orjson.loads(message)["seq"])
            assert self.start + len(self.seqs) == self.seqs[-1]

    def overtaken(self) -> None:
        raise AssertionError("nothing was pruned")


@define(eq=False)
class World:
    """A relay with other nodes, and the log that it shares with them. `read_s`: how long an extent takes to come."""

    pool: Pool
    read_s: float = 0.0
    hub: Hub = field(init=False)
    relay: Relay = field(init=False)

    def __attrs_post_init__(self) -> None:
        line = Line(PostgresCarrier("", 1.0, 1.0, _anybody))
        line.lost = None
        self.hub = Hub(self._read_extent)
        self.relay = Relay(self.hub, self.pool, line=line)

    async def _read_extent(self, topic: str) -> Extent:
        async with self.pool.connection() as conn:
            extent = await store.read_extent(conn, topic, 100)
        await trio.sleep(self.read_s)
        return extent

    async def commit(self, *topics: str) -> list[LoggedEvent]:
        async with self.pool.connection() as conn, conn.transaction():
            drafts = [Draft(topic, "t", b"{}", None) for topic in topics]
            return await store.append(Transaction(conn, datetime.now(UTC)), drafts)

    def told(self, events: list[LoggedEvent], limit_bytes: int = 10_000) -> bytes:
        return wakeup.write(events, self.hub.encode, limit_bytes)

    async def follow(self, follower: Follower) -> None:
        follower.start = (await self.hub.position(follower.topic)).seq
        self.hub.add(follower.topic, follower, after=follower.start)  # type: ignore[arg-type]


@asynccontextmanager
async def open_world(database_url: str) -> AsyncIterator[World]:
    async with open_pool(database_url, max_size=4, connect_s=5.0, query_s=10.0) as pool, trio.open_nursery() as nursery:
        world = World(pool)
        await nursery.start(world.hub.run)
        await nursery.start(world.relay.run)
        yield world
        nursery.cancel_scope.cancel()


async def until(reached: Any) -> None:
    with trio.fail_after(PATIENCE_S):
        while not reached():  # noqa: ASYNC110 - until nothing more comes
            await trio.sleep(0.005)


async def test_told_of_what_was_before(database_url: str) -> None:
    """Tries to be subscribed behind what is long past, since a node is late in telling while the log is asked."""
    async with open_world(database_url) as world, trio.open_nursery() as nursery:
        old = world.told(await world.commit("tokens"))
        for _ in range(3):
            await world.commit("tokens")
        world.read_s = 0.05
        first, second = Follower("tokens"), Follower("tokens")
        nursery.start_soon(world.follow, first)
        await until(lambda: world.hub.topic("tokens") is not None)
        world.relay.hear("other", old)
        await world.follow(second)
        await until(lambda: first.start is not None)
        assert (4, 4) == (first.start, second.start)
        world.relay.hear("other", world.told(await world.commit("tokens")))
        await until(lambda: [5] == first.seqs == second.seqs)


@pytest.mark.parametrize("seed", range(20))
async def test_at_random(database_url: str, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Tries to lose, repeat or reorder events by what is told late, twice or never, as topics are closed and opened."""
    rng = random.Random(seed)
    read = store.read

    async def slow(*args: Any) -> list[LoggedEvent]:
        events = await read(*args)
        await trio.sleep(rng.choice([0, 0, 0.01]))
        return events

    monkeypatch.setattr(store, "read", slow)
    monkeypatch.setattr("ngos.log.relay.HOLE_S", rng.choice([0.0, 0.002, 0.02]))
    monkeypatch.setattr("ngos.log.relay.QUEUE_BATCHES", rng.choice([2, 4, 64]))
    monkeypatch.setattr("ngos.log.relay.COMPARE_S", rng.choice([0.01, 0.1, 1.0]))
    heads = dict.fromkeys(TOPICS, 0)
    followers: list[Follower] = []
    late: list[bytes] = []
    async with open_world(database_url) as world, trio.open_nursery() as nursery:
        for _ in range(150):
            world.read_s = rng.choice([0, 0.002, 0.01])
            if rng.random() < 0.5:
                topics = rng.choices(TOPICS, k=rng.randint(1, 4))
                events = await world.commit(*topics)
                for event in events:
                    heads[event.topic] = event.seq or 0
                told = world.told(events, rng.choice([0, 10_000]))
                match rng.randrange(8):
                    case 0:
                        pass
                    case 1 | 2:
                        world.relay.advance(events)
                        await world.relay.announce(events)
                    case 3 | 4:
                        late.append(told)
                    case 5:
                        late += [told, told]
                    case _:
                        world.relay.hear("other", told)
            if late and rng.random() < 0.3:
                world.relay.hear("other", late.pop(rng.randrange(len(late))))
            if rng.random() < 0.2:
                followers.append(Follower(rng.choice(TOPICS)))
                nursery.start_soon(world.follow, followers[-1])
            if rng.random() < 0.2 and (started := [follower for follower in followers if follower.start is not None]):
                gone = rng.choice(started)
                world.hub.remove(gone.topic, gone)  # type: ignore[arg-type]
                followers.remove(gone)
            if rng.random() < 0.3:
                await trio.sleep(rng.choice([0, 0.001, 0.005]))
        await until(lambda: all(follower.start is not None for follower in followers))
        world.relay.doubt()
        await until(
            lambda: all((follower.start or 0) + len(follower.seqs) == heads[follower.topic] for follower in followers)
        )
