"""How reads come to their answers: on several nodes, at the same time, cancelled, and with a database that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from attrs import define, field

from ngos.cache.answers import SOURCES, Cache
from ngos.cache.entry import Found
from ngos.cache.heads import Heads
from ngos.cache.memory import Memory
from ngos.cache.tags import path_tags
from ngos.config import MIB
from ngos.errors import StorageUnavailable
from ngos.log import store
from ngos.log.write import Encoded
from ngos.protocol.commands import GraphPath
from ngos.protocol.faults import CommandFailed, ErrorCode
from ngos.protocol.messages import GraphPathFound, Reply
from ngos.protocol.values import Position
from tests.services.nodes import Node, Peer, Said, open_node

COMMAND = GraphPath(source_id=UUID(int=1), target_id=UUID(int=2))


@pytest.fixture
async def nodes(database_url: str) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes with caches, that know nothing of each other."""
    async with open_node(database_url, cache_bytes=MIB) as one, open_node(database_url, cache_bytes=MIB) as other:
        yield one, other


async def three(peer: Peer) -> list[str]:
    """Three tokens, the first connected to the second."""
    ids = [(await peer("token.create")).payload["token_id"] for _ in range(3)]
    await peer("graph.connect", source_id=ids[0], target_id=ids[1])
    return ids


async def reads(peer: Peer, ids: list[str]) -> list[Said]:
    return [
        await peer("graph.neighbors", token_id=ids[0]),
        await peer("graph.path", source_id=ids[0], target_id=ids[2]),
        await peer("graph.path", source_id=ids[0], target_id=ids[1]),
        await peer("token.list", limit=100),
        await peer("token.list", type="odd"),
        await peer("graph.degree", token_id=ids[0]),
    ]


async def test_a_kept_answer_is_the_same_and_at_the_head(nodes: tuple[Node, Node]) -> None:
    """Tries to tell a kept answer from a found one, or to be given one at a position that is past."""
    peer = nodes[0].peer()
    ids = await three(peer)
    found = await reads(peer, ids)
    assert found == await reads(peer, ids)
    assert {"memory": 6, "database": 6} == +nodes[0].cache.answers
    await peer("graph.connect", source_id=ids[1], target_id=ids[2])  # neither of the first, nor a shorter way there
    again = await peer("graph.neighbors", token_id=ids[0])
    assert found[0].payload | {"position": again.payload["position"]} == again.payload
    assert found[0].payload["position"]["seq"] + 1 == again.payload["position"]["seq"] == 2
    assert 7 == nodes[0].cache.answers["memory"]


async def test_what_another_node_answered_is_seen(nodes: tuple[Node, Node]) -> None:
    """Tries to be given what was before a change that another node has answered, with nothing between the two."""
    writer, reader = nodes[0].peer(), nodes[1].peer()
    ids = await three(writer)
    changes: list[tuple[str, dict[str, Any], list[int]]] = [
        ("graph.connect", {"source_id": ids[1], "target_id": ids[2]}, [1]),
        ("graph.connect", {"source_id": ids[0], "target_id": ids[2]}, [0, 1, 5]),
        ("token.update", {"token_id": ids[2], "type": "odd"}, [3, 4]),
        ("token.create", {}, [3]),
        ("graph.disconnect", {"source_id": ids[0], "target_id": ids[1]}, [0, 2, 5]),
        ("token.delete", {"token_id": ids[2]}, [0, 1, 3, 4, 5]),
    ]
    before = await reads(reader, ids)
    for command, payload, differ in changes:
        await writer(command, **payload)
        after = await reads(reader, ids)
        plain = [{**said.payload, "position": 0} for said in before]
        now = [{**said.payload, "position": 0} for said in after]
        assert differ == [number for number in range(6) if plain[number] != now[number]], command
        assert now == [{**said.payload, "position": 0} for said in await reads(writer, ids)]
        before = after


@define
class Database:
    """A path that is read as the services do, held up for as long as a test wants. `found` counts the reads."""

    node: Node
    gates: list[trio.Event] = field(factory=list)
    begun: list[trio.Event] = field(factory=list)
    found: int = 0
    failure: Exception | None = None

    def hold(self) -> tuple[trio.Event, trio.Event]:
        """The next read tells that it has its snapshot, and waits before it answers."""
        self.begun.append(trio.Event())
        self.gates.append(trio.Event())
        return self.begun[-1], self.gates[-1]

    async def find(self, command: GraphPath) -> Found | Reply:
        self.found += 1
        async with self.node.pool.connection() as conn:
            extent = await store.read_extent(conn, "graph", 100)
        if self.gates:
            gate = self.gates.pop(0)
            self.begun.pop(0).set()
            await gate.wait()
        if self.failure is not None:
            raise self.failure
        # What it has found is told by its length: the position.
        reply = GraphPathFound(source_id=command.source_id, target_id=command.target_id, path=None, length=extent.seq)
        return Found(reply, Position(topic="graph", epoch=extent.epoch, seq=extent.seq), path_tags(None))


@pytest.fixture
async def database(node: Node) -> Database:
    return Database(node)


@pytest.fixture
async def cache(node: Node) -> Cache:
    return Cache(Heads(node.pool), Memory(MIB, 60.0), None, limit_s=10.0, worth_s=0.0)


async def ask(cache: Cache, database: Database, answers: list[bytes]) -> None:
    answer = await cache.answer(COMMAND, database.find)
    assert isinstance(answer, Encoded)
    answers.append(answer.payload)


async def test_of_many_one_looks(cache: Cache, database: Database) -> None:
    """Tries to have the database be asked the same by each of those who ask at the same time."""
    begun, gate = database.hold()
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, cache, database, answers)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        gate.set()
    assert (1, 20, 1) == (database.found, len(answers), len(set(answers)))
    assert {"database": 1, "joined": 19} == +cache.answers
    assert 1 == cache.heads.asked  # all 19 came after that one had begun


async def test_who_came_after_a_write_is_not_given_what_was_before(
    cache: Cache, database: Database, peer: Peer
) -> None:
    """Tries to be given what a search finds that began before a write that was answered before the read came."""
    begun, gate = database.hold()
    early: list[bytes] = []
    late: list[bytes] = []
    ids = [(await peer("token.create")).payload["token_id"] for _ in range(2)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, cache, database, early)
        await begun.wait()
        await peer("graph.connect", source_id=ids[0], target_id=ids[1])
        for _ in range(3):
            nursery.start_soon(ask, cache, database, late)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert 1 == database.found
        gate.set()
    assert [b'"length":0}'] == [answer[-11:] for answer in early]
    assert [b'"length":1}'] * 3 == [answer[-11:] for answer in late]
    assert 2 == database.found


async def test_who_looks_is_cancelled(cache: Cache, database: Database) -> None:
    """Tries to hurt those who wait for a search by cancelling who does it."""
    begun, _ = database.hold()
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery, trio.open_nursery() as doomed:
        doomed.start_soon(ask, cache, database, [])
        await begun.wait()
        for _ in range(5):
            nursery.start_soon(ask, cache, database, answers)
        await trio.testing.wait_all_tasks_blocked(0.01)
        doomed.cancel_scope.cancel()
    assert (2, 5, 1) == (database.found, len(answers), len(set(answers)))


async def test_who_asks_the_log_is_cancelled(cache: Cache, database: Database, node: Node) -> None:
    """Tries to hurt those who wait for the question to the log by cancelling who asks it."""
    answers: list[bytes] = []
    await ask(cache, database, answers)
    locked = trio.Event()

    async def lock() -> None:
        async with node.pool.connection() as conn:
            await conn.execute("begin")
            await conn.execute("lock table events in access exclusive mode")
            locked.set()
            await release.wait()
            await conn.execute("rollback")

    release = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock)
        await locked.wait()
        async with trio.open_nursery() as doomed:
            doomed.start_soon(ask, cache, database, [])
            await trio.testing.wait_all_tasks_blocked(0.05)
            for _ in range(5):
                nursery.start_soon(ask, cache, database, answers)
            await trio.testing.wait_all_tasks_blocked(0.05)
            doomed.cancel_scope.cancel()
        release.set()
    assert (1, 6) == (database.found, len(answers))


@pytest.mark.parametrize("failure", [StorageUnavailable("gone"), CommandFailed(ErrorCode.UNAVAILABLE, "too much")])
async def test_a_failure_is_not_kept(cache: Cache, database: Database, failure: Exception) -> None:
    """Tries to have a read fail because an earlier one did."""
    database.failure = failure
    with pytest.raises(type(failure)):
        await ask(cache, database, [])
    database.failure = None
    await ask(cache, database, [])
    assert 1 == cache.answers["database"]


async def test_a_database_that_does_not_answer(node: Node, database: Database) -> None:
    """Tries to have a read wait for longer than it may, as one of many who wait for the same."""
    cache = Cache(Heads(node.pool), Memory(MIB, 60.0), None, limit_s=0.3, worth_s=0.0)
    database.hold()
    failed = 0

    async def fail() -> None:
        nonlocal failed
        with pytest.raises(StorageUnavailable):
            await ask(cache, database, [])
        failed += 1

    with trio.fail_after(2.0):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                database.hold()
                nursery.start_soon(fail)
    assert 5 == failed


async def test_what_is_cheap_is_not_kept(node: Node, database: Database) -> None:
    """Tries to have what costs the database less than asking the log be kept."""
    cache = Cache(Heads(node.pool), Memory(MIB, 60.0), None, limit_s=10.0, worth_s=5.0)
    for _ in range(3):
        await ask(cache, database, [])
    assert (3, 0, 0) == (database.found, len(cache.memory), cache.heads.asked)


async def test_without_a_cache(node: Node, peer: Peer) -> None:
    """Tries to have something be kept where there is no room for anything."""
    ids = await three(peer)
    first, second = await reads(peer, ids), await reads(peer, ids)
    assert first == second
    assert not +node.cache.answers


async def test_many_changes_at_once(nodes: tuple[Node, Node]) -> None:
    """Tries to have an answer survive more events than are read of the log at once."""
    reader = nodes[1].peer()
    ids = await three(reader)
    before = await reads(reader, ids)
    writer = nodes[0].peer()
    for number in range(1100):
        await writer.post("token.update", token_id=ids[0], weight=float(number))
    await writer.answered(1100)
    after = await reads(reader, ids)
    assert 1099.0 == next(t["weight"] for t in after[3].payload["tokens"] if t["token_id"] == ids[0])
    assert before[0] == after[0]
    assert set(SOURCES) == set(nodes[1].cache.answers)


async def test_unknown_tokens_are_not_kept(nodes: tuple[Node, Node]) -> None:
    """Tries to be told that a token is not there after it was created."""
    peer = nodes[0].peer()
    token_id = str(uuid4())
    assert "token.not_found" == (await peer("graph.neighbors", token_id=token_id)).type
    await nodes[1].peer()("token.create", token_id=token_id)
    assert [] == (await peer("graph.neighbors", token_id=token_id)).payload["neighbors"]


async def test_whatever_clients_write(nodes: tuple[Node, Node]) -> None:
    """Tries to have reads fail by JSON that Postgres keeps and does not look into."""
    writer, reader = nodes[0].peer(), nodes[1].peer()
    ids = await three(reader)
    await reads(reader, ids)
    made = await writer("token.create", metadata={"\u0000": "\u0000 \\u0000"}, type='\u0001"')
    edge = await writer("graph.connect", source_id=ids[2], target_id=ids[0], type="\\", metadata={"\u0000": []})
    assert ("token.created", "graph.connected") == (made.type, edge.type)
    after = await reads(reader, ids)
    assert all(reply.type != "error" for reply in after)
    assert len(await nodes[0].log("graph")) == nodes[1].cache.heads["graph"].head
