"""The answers in Redis: shared by nodes, and whatever becomes of Redis, reads go on and are right."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Any

import coredis
import pytest
import trio
import trio.testing
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from ngos.cache.entry import Entry, key_of
from ngos.cache.shared import FIRST_PAUSE_S, GET_S, LONGEST_PAUSE_S, Breaker, Shared
from ngos.config import MIB
from ngos.protocol.commands import GraphPath, TokenList
from ngos.redis import CONNECT_S, parse
from tests.redis_server import RedisServer, redis_server
from tests.services.nodes import CLUSTER, Node, Peer, open_node

LIMIT_S = 20.0


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
async def nodes(
    database_url: str, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes that share a Redis, and know nothing of each other. They wait for it as long as it takes."""
    monkeypatch.setattr("ngos.cache.shared.GET_S", LIMIT_S)
    monkeypatch.setattr("ngos.cache.shared.SET_S", LIMIT_S)
    async with (
        open_node(database_url, cache_bytes=MIB, redis_url=redis.url) as one,
        open_node(database_url, cache_bytes=MIB, redis_url=redis.url) as other,
    ):
        yield one, other


async def until(condition: Any) -> None:
    with trio.fail_after(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - nobody could set an Event
            await trio.sleep(0.005)


async def asked(redis: RedisServer, *command: Any) -> Any:
    """What Redis says, asked beside the nodes."""
    async with coredis.Redis.from_url(redis.url) as client:
        return await getattr(client, command[0])(*command[1:])


async def kept(redis: RedisServer, count: int) -> None:
    """Wait until Redis keeps so many answers."""
    with trio.fail_after(LIMIT_S):
        while await asked(redis, "dbsize") < count:  # noqa: ASYNC110 - nor here
            await trio.sleep(0.005)


async def tokens(peer: Peer, count: int) -> list[str]:
    """Tokens, each connected to the next."""
    ids = [(await peer("token.create")).payload["token_id"] for _ in range(count)]
    for near, far in pairwise(ids):
        await peer("graph.connect", source_id=near, target_id=far)
    return ids


async def test_what_one_node_found_another_gives(nodes: tuple[Node, Node], redis: RedisServer) -> None:
    """Tries to have a node ask the database for what another one has found."""
    one, other = nodes[0].peer(), nodes[1].peer()
    ids = await tokens(one, 3)
    await until(lambda: all(node.cache.shared is not None and node.cache.shared.works for node in nodes))
    found = [await one("token.list"), await one("graph.path", source_id=ids[0], target_id=ids[2])]
    await kept(redis, 2)
    assert found == [await other("token.list"), await other("graph.path", source_id=ids[0], target_id=ids[2])]
    assert {"redis": 2} == +nodes[1].cache.answers
    assert found[0] == await other("token.list")
    assert {"redis": 2, "memory": 1} == +nodes[1].cache.answers
    ttl_ms = await asked(redis, "pttl", (await asked(redis, "randomkey")))
    assert 0 < ttl_ms <= 60_000


async def test_what_is_past_in_redis_is_not_given(nodes: tuple[Node, Node], redis: RedisServer) -> None:
    """Tries to be given what another node has found before a change."""
    one, other = nodes[0].peer(), nodes[1].peer()
    ids = await tokens(one, 3)
    await until(lambda: all(node.cache.shared is not None and node.cache.shared.works for node in nodes))
    await one("graph.neighbors", token_id=ids[1])
    await kept(redis, 1)
    await one("graph.disconnect", source_id=ids[0], target_id=ids[1])
    assert 1 == (await other("graph.neighbors", token_id=ids[1])).payload["count"]
    assert {"database": 1} == +nodes[1].cache.answers
    assert 1 == nodes[1].cache.invalidated


@define
class Traffic:
    """Writes on one node and reads on the other, each compared with the edges that were answered. `ids`: the tokens."""

    writer: Peer
    reader: Peer
    ids: list[str]
    edges: set[tuple[str, str]]
    rng: Random = field(factory=lambda: Random(1))
    longest_s: float = 0.0

    async def go_on(self, until: Callable[[], bool] = lambda: True) -> None:
        """At least 20 reads, and on until this is so."""
        reads = 0
        while reads < 20 or not until():
            if self.rng.random() < 0.2:
                await self._write()
            token_id = self.rng.choice(self.ids)
            began_s = trio.current_time()
            said = await self.reader("graph.neighbors", token_id=token_id, limit=1000)
            self.longest_s = max(self.longest_s, trio.current_time() - began_s)
            found = {(edge["source_id"], edge["target_id"]) for edge in said.payload["neighbors"]}
            assert {edge for edge in self.edges if token_id in edge} == found
            reads += 1

    async def _write(self) -> None:
        near, far = self.rng.sample(self.ids, 2)
        command = "graph.disconnect" if (near, far) in self.edges else "graph.connect"
        await self.writer(command, source_id=near, target_id=far)
        self.edges ^= {(near, far)}


@pytest.mark.parametrize("fault", ["killed", "stopped", "full", "flushed", "garbage", "swapped", "never there"])
async def test_redis_fails(database_url: str, fault: str) -> None:
    """Tries to have a read fail, be wrong or wait, because Redis is gone, stands still, is full, or holds nonsense."""
    async with redis_server() as redis:
        if fault == "never there":
            await redis.kill()
        async with (
            open_node(database_url, cache_bytes=2000, redis_url=redis.url) as one,  # room for one or two in memory
            open_node(database_url, cache_bytes=2000, redis_url=redis.url) as other,
        ):
            ids = await tokens(one.peer(), 8)
            traffic = Traffic(one.peer(), other.peer(), ids, set(pairwise(ids)))
            shared, failures = other.cache.shared, 0
            assert shared is not None
            if fault != "never there":
                await until(lambda: shared.works)
                with trio.fail_after(LIMIT_S):
                    await traffic.go_on(lambda: other.cache.answers["redis"] > 0)
                failures = shared.failures  # a busy machine's, which are none of the fault's
            match fault:
                case "killed":
                    await redis.kill()
                case "stopped":
                    redis.stop()
                case "full":
                    await asked(redis, "config_set", {"maxmemory-policy": "noeviction", "maxmemory": 1})
                case "flushed":
                    await asked(redis, "flushall")
                case "garbage" | "swapped":
                    await spoil(redis, fault)
            hurt_at_s = trio.current_time()
            with trio.fail_after(LIMIT_S):
                match fault:
                    case "garbage" | "swapped":
                        await traffic.go_on(lambda: shared.forged > 0)
                    case "flushed":
                        await traffic.go_on()
                    case _:
                        await traffic.go_on(lambda: shared.failures > failures)
            assert traffic.longest_s < 5.0
            match fault:
                case "stopped":
                    # Reads and writes each: one at once, the next after a second, the one after that after two more.
                    assert shared.failures - failures <= 2 * (1 + math.log2(1 + trio.current_time() - hurt_at_s))
                    redis.go_on()
                case "killed" | "never there":
                    await redis.start()
                case "full":
                    await asked(redis, "config_set", {"maxmemory": 0})
            before = other.cache.answers["redis"]
            with trio.fail_after(LIMIT_S + LONGEST_PAUSE_S):
                await traffic.go_on(lambda: other.cache.answers["redis"] > before)


@define
class Unconnected:
    """A client that connects for its first command, as coredis does. `connect_s`: what that takes."""

    connect_s: float

    async def ping(self) -> None:
        connect_s, self.connect_s = self.connect_s, 0.0
        await trio.sleep(connect_s)

    async def get(self, _name: str) -> None:
        await self.ping()


@pytest.mark.parametrize(("connect_s", "failures"), [(2 * GET_S, 0), (2 * CONNECT_S, 1)])
async def test_no_read_has_to_connect(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, connect_s: float, failures: int
) -> None:
    """Tries to have the first read after a start fail by the time that connecting takes, and Redis be left alone."""
    del autojump_clock

    @asynccontextmanager
    async def open_unconnected(_address: Any) -> AsyncIterator[Unconnected]:
        yield Unconnected(connect_s)

    monkeypatch.setattr("ngos.cache.shared.open_redis", open_unconnected)
    shared = Shared(parse("redis://127.0.0.1"), age_s=60.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.run, CLUSTER)
        await trio.testing.wait_all_tasks_blocked()
        assert not shared.works
        await trio.sleep(min(connect_s, CONNECT_S))
        await trio.testing.wait_all_tasks_blocked()
        assert shared.works == (not failures)
        await trio.sleep(failures * FIRST_PAUSE_S)
        assert await shared.get(b"key") is None
        assert (failures, True) == (shared.failures, shared.works)
        nursery.cancel_scope.cancel()


async def spoil(redis: RedisServer, how: str) -> None:
    """Put nonsense under each key, or what belongs to another."""
    async with coredis.Redis.from_url(redis.url) as client:
        keys = sorted([key async for key in client.scan_iter()])
        values = [await client.get(key) for key in keys]
        assert len(keys) > 1
        for key, value in zip(keys, values[1:] + values[:1], strict=True):
            await client.set(key, b"nonsense" if how == "garbage" else value)


ENTRY = Entry("graph.path", "graph", "0123abcd", 7, ["at a", "connected"], tells=False, body=b'{"path":null}\n')
KEY = key_of(TokenList())


def test_what_is_sealed_is_read_again() -> None:
    """Tries to lose something of an entry on its way through Redis."""
    read = Entry.unsealed(KEY, ENTRY.sealed(KEY, b"secret"), b"secret")
    assert read is not None
    assert (ENTRY.type, ENTRY.topic, ENTRY.epoch, ENTRY.seq) == (read.type, read.topic, read.epoch, read.seq)
    assert (ENTRY.tags, ENTRY.tells, ENTRY.body) == (read.tags, read.tells, read.body)


@given(st.data())
def test_what_is_not_ours_is_nothing(data: st.DataObject) -> None:
    """Tries to have something be read that was changed, cut, made up, or sealed by others or for another key."""
    sealed = ENTRY.sealed(KEY, b"secret")
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[place] ^= data.draw(st.integers(1, 255))
    others = [
        bytes(changed),
        sealed[:place],
        sealed + b"x",
        data.draw(st.binary()),
        ENTRY.sealed(KEY, b"other"),
        "text",
    ]
    for other in others:
        assert Entry.unsealed(KEY, other, b"secret") is None
    other_key = key_of(TokenList(limit=11))
    assert Entry.unsealed(other_key, sealed, b"secret") is None


def test_keys_tell_commands_apart() -> None:
    """Tries to have two reads that differ in one field share an answer."""
    one, other = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
    commands = [TokenList(), TokenList(limit=11), TokenList(type="a"), TokenList(full=True), TokenList(total=True)]
    commands += [TokenList(offset=1)]
    keys = {key_of(command) for command in commands}
    keys |= {key_of(GraphPath(source_id=one, target_id=other)), key_of(GraphPath(source_id=other, target_id=one))}
    assert 8 == len(keys)
    assert key_of(TokenList()) == key_of(TokenList(limit=10))


def test_a_breaker_tries_one_at_a_time() -> None:
    """Tries to have all who come ask what has just failed."""
    breaker = Breaker()
    assert breaker.lets_through(0.0)
    assert breaker.failed(0.0)
    assert [False, True, False] == [breaker.lets_through(now) for now in (0.9, 1.0, 1.0)]
    assert not breaker.failed(1.1)
    assert [False, True, False] == [breaker.lets_through(now) for now in (3.0, 3.1, 3.1)]
    breaker.worked()
    assert [True, True] == [breaker.lets_through(now) for now in (3.1, 3.1)]
    assert GET_S < 0.1
