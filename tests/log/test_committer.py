"""Group commit: what fails takes nobody with it, what is answered is durable, and answers keep their order."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import trio
from attrs import define, field, frozen

from ngos.errors import StorageContention, StorageUnavailable
from ngos.log import committer as module
from ngos.log import store
from ngos.log.committer import Committer
from ngos.log.relay import Relay
from ngos.log.sql import Transaction
from ngos.log.write import Answer, CustomEvent, Encoded, Handler, Outcome, Write
from ngos.postgres.pool import Pool
from ngos.protocol.faults import ClientError, ErrorCode
from ngos.protocol.messages import Published
from tests.services.nodes import Node, Peer, open_node

TOPIC = "probe"
SECRET = "the inside of the server"


@frozen
class Probe:
    """A command that does what it says: log an event, be refused, or fail."""

    what: str
    number: int = 0


async def apply(tx: Transaction, writes: Sequence[Write[Any]]) -> Sequence[Outcome]:
    probes: list[Probe] = [write.command for write in writes]
    await store.ensure_topics(tx.conn, [TOPIC], 100)
    outcomes = []
    for probe in probes:
        if probe.what == "defect":
            raise RuntimeError(SECRET)
        if probe.what == "sql":
            await tx.conn.execute("select 1 / 0")
        if probe.what == "away":
            raise StorageUnavailable(SECRET)
        if probe.what == "refused":
            outcomes.append(Outcome(ClientError(ErrorCode.CONFLICT, f"{probe.number}")))
        else:
            event = CustomEvent(TOPIC, probe.what, str(probe.number).encode())
            outcomes.append(
                Outcome(lambda at: Published(topic=at.topic, durable=True, epoch=at.epoch, seq=at.seq), (event,))
            )
    return outcomes


HANDLER = Handler("probe", apply, lambda _probe: None)


@define
class Answers:
    """Collects answers, each with the name of who got it."""

    all: list[tuple[str, str]] = field(factory=list)
    messages: list[str] = field(factory=list)
    _grown: trio.Event = field(factory=trio.Event)

    def write(self, what: str, number: int = 0, *, lane: object = None, size_bytes: int = 10) -> Write:
        name = f"{what} {number}"

        def answer(answer: Answer) -> None:
            self.all.append((name, "ok" if isinstance(answer, Encoded) else answer.code.value))
            self.messages.append("" if isinstance(answer, Encoded) else answer.message)
            self._grown.set()

        probe: Any = Probe(what, number)
        return Write(HANDLER, probe, lane, "sender", size_bytes, answer)

    async def wait(self, count: int) -> list[tuple[str, str]]:
        with trio.fail_after(20):
            while len(self.all) < count:
                self._grown = trio.Event()
                await self._grown.wait()
        return self.all


@pytest.mark.parametrize("poison", ["defect", "sql"])
async def test_poison_takes_nobody_with_it(node: Node, poison: str) -> None:
    """Of a batch with two defects in it all others succeed once, in order; the defects are `internal`, no more."""
    answers = Answers()
    for number, what in enumerate(["ok", poison, "ok", "refused", poison, "ok"]):
        await node.committer.submit(answers.write(what, number))
    assert [
        ("ok 0", "ok"),
        (f"{poison} 1", "internal"),
        ("ok 2", "ok"),
        ("refused 3", "conflict"),
        (f"{poison} 4", "internal"),
        ("ok 5", "ok"),
    ] == await answers.wait(6)
    assert [(1, b"0"), (2, b"2"), (3, b"5")] == [(event.seq, event.payload) for event in await node.log(TOPIC)]
    incidents = [message for message in answers.messages if "incident" in message]
    assert 2 == len({match[0] for message in incidents if (match := re.search("[0-9a-f]{12}", message))})
    assert not [message for message in answers.messages if SECRET in message or "zero" in message]


async def test_database_fails_while_a_batch_is_split(node: Node) -> None:
    """What committed before the database failed is answered with success, the rest `unavailable`, all of them once."""
    answers = Answers()
    for number, what in enumerate(["ok", "defect", "ok", "away", "ok"]):
        await node.committer.submit(answers.write(what, number))
    assert [
        ("ok 0", "ok"),
        ("defect 1", "internal"),
        ("ok 2", "ok"),
        ("away 3", "unavailable"),
        ("ok 4", "unavailable"),
    ] == await answers.wait(5)
    await node.committer.submit(answers.write("ok", 5))
    assert ("ok 5", "ok") == (await answers.wait(6))[5]
    assert [b"0", b"2", b"5"] == [event.payload for event in await node.log(TOPIC)]


async def test_refusals_among_successes(peer: Peer) -> None:
    """Refusals of one batch are answered each in its place and leave the others' changes, numbers and events whole."""
    a, b, nowhere = (f"00000000-0000-0000-0000-00000000000{n}" for n in "123")
    commands: list[tuple[str, dict[str, Any], str]] = [
        ("token.create", {"token_id": a}, "token.created"),
        ("token.create", {"token_id": a}, "error"),
        ("token.create", {"token_id": b}, "token.created"),
        ("token.update", {"token_id": nowhere}, "token.not_found"),
        ("token.update", {"token_id": a, "if_version": 9}, "error"),
        ("graph.connect", {"source_id": a, "target_id": b}, "graph.connected"),
        ("graph.connect", {"source_id": a, "target_id": b}, "error"),
        ("graph.connect", {"source_id": a, "target_id": nowhere}, "token.not_found"),
        ("graph.disconnect", {"source_id": b, "target_id": a}, "graph.not_found"),
        ("experience.record", {"event_type": "e", "trajectory_id": "t"}, "experience.recorded"),
        ("token.update", {"token_id": a, "if_version": 1}, "token.updated"),
        ("token.delete", {"token_id": nowhere}, "token.not_found"),
        ("token.delete", {"token_id": b}, "token.deleted"),
        ("graph.disconnect", {"source_id": a, "target_id": b}, "graph.not_found"),
    ]
    for command, payload, _ in commands:
        await peer.post(command, **payload)
    await peer.answered(len(commands))
    assert [expected for *_, expected in commands] == [said.type for said in peer.replies]
    stats = peer.node.committer.stats
    assert (len(commands), 7) == (stats.writes, stats.events)
    assert stats.batches <= 2, "what can't be one statement with what is before it may be the next batch"
    tokens, graph = await peer.node.log("tokens"), await peer.node.log("graph")
    assert ["created", "created", "updated", "deleted"] == [event.type.removeprefix("token.") for event in tokens]
    assert ["connected", "disconnected"] == [event.type.removeprefix("graph.") for event in graph]
    assert [1, 2, 3, 4, 1, 2] == [event.seq for event in [*tokens, *graph]]


async def test_replies_in_order_of_each_lane(node: Node) -> None:
    """Replies come in the order a lane sent, over many batches of mixed kinds; events never before their reply."""
    peers = [node.peer(f"peer {n}") for n in range(8)]
    for peer in peers:
        for topic in ("tokens", "experience", "durable.x"):
            await peer.follow(topic)
    for n in range(300):
        for peer in peers:
            match n % 3:
                case 0:
                    await peer.post("token.create", weight=n)
                case 1:
                    await peer.post("experience.record", event_type="e", reward=n)
                case _:
                    await peer.post("publish", topic="durable.x", type="t", payload={"n": n, "peer": peer.name})
    for peer in peers:
        await peer.answered(300)
        await peer.heard_events(300 * len(peers))
    for peer in peers:
        assert ["token.created", "experience.recorded", "published"] * 100 == [said.type for said in peer.replies]
        assert list(range(0, 300, 3)) == [said.payload["weight"] for said in peer.replies[::3]]
        seqs = [said.payload["seq"] for said in peer.replies[2::3]]
        assert sorted(seqs) == seqs
        answered = -1
        for item in peer.heard:  # own events, after their replies
            if not isinstance(item, dict):
                answered += 1
            elif item["topic"] == "durable.x" and item["payload"]["peer"] == peer.name:
                assert item["payload"]["n"] <= answered
    assert node.committer.stats.batches < 300, "no group commit"


NOWHERE = "host=127.0.0.1 port=1 user=nobody"


async def test_no_database(database_url: str) -> None:
    """Without a database all who wait are told `unavailable`, and the committer goes on."""
    async with open_node(NOWHERE) as node:
        answers = Answers()
        for round_ in range(3):
            for number in range(100):
                await node.committer.submit(answers.write("ok", number, lane=number % 7))
            told = (await answers.wait(100 * (round_ + 1)))[100 * round_ :]
            assert [(f"ok {number}", "unavailable") for number in range(100)] == told


async def test_submit_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded in bytes: past it `submit` waits; all that waited is committed in the end."""
    monkeypatch.setattr(module, "WAITING_BYTES", 1000)
    stalled = Committer(node.pool, node.relay)
    answers = Answers()
    submitted = 0

    async def submit_all(lane: int) -> None:
        nonlocal submitted
        for number in range(50):
            await stalled.submit(answers.write("ok", number, lane=lane, size_bytes=100))
            submitted += 1

    async with trio.open_nursery() as nursery:
        for lane in range(4):
            nursery.start_soon(submit_all, lane)
        await trio.testing.wait_all_tasks_blocked()
        assert 11 == submitted
        nursery.start_soon(stalled.run)
        await answers.wait(200)
        nursery.cancel_scope.cancel()
    assert 200 == submitted == len(await node.log(TOPIC))


async def test_cancelled_submit_is_not_queued(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submit that is cancelled while it waits for room leaves nothing behind; the room goes to others."""
    monkeypatch.setattr(module, "WAITING_BYTES", 10)
    stalled = Committer(node.pool, node.relay)
    answers = Answers()
    await stalled.submit(answers.write("ok", 1, size_bytes=100))
    with trio.CancelScope() as scope:
        scope.cancel()
        await stalled.submit(answers.write("ok", 2))
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalled.submit, answers.write("ok", 3))
        nursery.start_soon(stalled.run)
        assert [("ok 1", "ok"), ("ok 3", "ok")] == await answers.wait(2)
        nursery.cancel_scope.cancel()
    assert 2 == len(await node.log(TOPIC))


async def test_contention_takes_nobody_else_along(node: Node) -> None:
    """Tries to have writes that wait behind a batch failed, because that one lost every race with other nodes."""
    tries = 0

    class Contended:
        @asynccontextmanager
        async def connection(self) -> AsyncIterator[Any]:
            nonlocal tries
            tries += 1
            if tries == 1:
                await committer.submit(answers.write("ok", 2))
            if tries <= module.TRIES:
                raise StorageContention("deadlock detected")
            async with node.pool.connection() as conn:
                yield conn

    pool: Any = Contended()
    committer, answers = Committer(pool, node.relay), Answers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        await committer.submit(answers.write("ok", 1))
        assert [("ok 1", "unavailable"), ("ok 2", "ok")] == await answers.wait(2)
        nursery.cancel_scope.cancel()


@define
class LossyPool:
    """A pool whose connections commit, and then fail before the answer to the commit is there, `losses` times."""

    pool: Pool
    losses: int

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self.pool.connection() as conn:
            yield LossyConnection(self, conn)


@define
class LossyConnection:
    pool: LossyPool
    conn: Any

    async def execute(self, query: str, *args: Any) -> Any:
        result = await self.conn.execute(query, *args)
        if query == "commit" and self.pool.losses:
            self.pool.losses -= 1
            raise StorageUnavailable("the answer to the commit is lost")
        return result


async def test_answer_of_the_commit_is_lost(node: Node) -> None:
    """A commit whose answer was lost is `unavailable` to who asked, and its events reach the subscribers, in order."""
    lossy: Any = LossyPool(node.pool, losses=1)
    relay = Relay(node.hub, lossy)
    committer = Committer(lossy, relay)
    answers, peer = Answers(), node.peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.run)
        nursery.start_soon(committer.run)
        await peer.follow(TOPIC)
        for number in range(3):
            await committer.submit(answers.write("ok", number))
        assert {"unavailable"} == {code for _, code in await answers.wait(3)}
        await peer.heard_events(3)
        await committer.submit(answers.write("ok", 3))
        assert [(n + 1, n) for n in range(4)] == [(e["seq"], e["payload"]) for e in await peer.heard_events(4)]
        nursery.cancel_scope.cancel()


async def test_database_refuses_a_write(database_url: str) -> None:
    """A database that can be read but not written is `unavailable`, not a defect; later it works."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"alter database {admin.info.dbname} set default_transaction_read_only = on")
        async with open_node(database_url) as node:
            assert "unavailable" == (await node.peer()("token.create")).payload["code"]
            assert "token.list" == (await node.peer()("token.list")).type
        admin.execute(f"alter database {admin.info.dbname} reset default_transaction_read_only")
        async with open_node(database_url) as node:
            assert "token.created" == (await node.peer()("token.create")).type
