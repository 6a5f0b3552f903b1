"""Once, not twice (protocol.md section 6): whatever is sent again, its effect is not repeated."""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import trio
from attrs import evolve

from ngos.log import committer as module
from ngos.log.committer import Committer
from ngos.log.write import Handler
from ngos.postgres.driver import TrioConnection
from tests.log.test_committer import LossyPool
from tests.services.nodes import Node, Peer, Said, open_node

NOBODY = str(uuid4())


def again(said: Said) -> Said:
    """The same reply, replayed."""
    return Said(said.type, said.payload, replayed=True)


async def effects(node: Node) -> list[int]:
    """How many rows and events there are."""
    tables = ("tokens", "edges", "experiences", "events")
    return [(await node.rows(f"select count(*) from {table}"))[0][0] for table in tables]


async def every_write(peer: Peer) -> list[tuple[str, dict[str, Any]]]:
    """A command of each kind that changes something, accepted, and of each that is refused."""
    a, b, gone = [(await peer("token.create")).payload["token_id"] for _ in range(3)]
    edge = {"source_id": a, "target_id": b}
    return [
        ("token.create", {"type": "one"}),
        ("token.create", {"token_id": str(uuid4())}),
        ("token.create", {"token_id": a}),
        ("token.update", {"token_id": a, "weight": 2.0}),
        ("token.update", {"token_id": a, "weight": 3.0, "if_version": 1}),
        ("token.update", {"token_id": NOBODY, "weight": 2.0}),
        ("graph.connect", edge),
        ("graph.connect", edge | {"weight": 2.0}),
        ("graph.connect", {"source_id": a, "target_id": NOBODY}),
        ("graph.disconnect", edge),
        ("graph.disconnect", edge | {"type": "other"}),
        ("token.delete", {"token_id": gone}),
        ("token.delete", {"token_id": NOBODY}),
        ("experience.record", {"event_type": "step", "trajectory_id": "t"}),
        ("experience.record", {"event_type": "step", "metadata": {"k": "\0"}}),
        ("publish", {"topic": "durable.x", "type": "said", "payload": {"k": [1, "\0"]}}),
    ]


async def test_each_write_again(node: Node, peer: Peer) -> None:
    """Tries to repeat an effect, or to get another reply, by sending every kind of write once more, later and alone."""
    commands = await every_write(peer)
    replies = [await peer.once(f"c{n}", command, **payload) for n, (command, payload) in enumerate(commands)]
    assert {False} == {reply.replayed for reply in replies}
    before = await effects(node)
    assert [again(reply) for reply in replies] == [
        await peer.once(f"c{n}", command, **payload) for n, (command, payload) in enumerate(commands)
    ]
    assert before == await effects(node)


async def test_each_write_again_after_a_while(node: Node, peer: Peer) -> None:
    """Tries to be refused because of its own effect, by sending a command once more when nobody looks any more."""
    for n, (command, payload) in enumerate(await every_write(peer)):
        reply = await peer.once(f"c{n}", command, **payload)
        assert not reply.replayed
        before = await effects(node)
        node.committer._look_until = -math.inf
        assert again(reply) == await peer.once(f"c{n}", command, **payload)
        node.committer._look_until = -math.inf
        refused = await peer.once(f"c{n}", "token.create", token_id=NOBODY)
        assert ("error", "conflict") == (refused.type, refused.payload["code"])
        assert before == await effects(node)


async def test_all_at_once_and_again(node: Node) -> None:
    """Tries the same with all of them in one batch, twice in it, and again after it."""
    peer = node.peer()
    commands = await every_write(peer)
    start = len(peer.replies)
    for _ in range(2):
        for n, (command, payload) in enumerate(commands):
            await peer.post(command, f"c{n}", **payload)
    await peer.answered(start + 2 * len(commands))
    replies = peer.replies[start:]
    first, second = replies[: len(commands)], replies[len(commands) :]
    assert {False} == {reply.replayed for reply in first}
    assert [again(reply) for reply in first] == second
    before = await effects(node)
    assert second == [await peer.once(f"c{n}", command, **payload) for n, (command, payload) in enumerate(commands)]
    assert before == await effects(node)


async def test_another_command_with_the_id(node: Node, peer: Peer) -> None:
    """Tries to have another command done, or to be shown the first one's reply, with an id that was used."""
    created = await peer.once("c", "token.create", type="one")
    for command, payload in (
        ("token.create", {"type": "two"}),
        ("token.delete", {"token_id": created.payload["token_id"]}),
        ("experience.record", {"event_type": "one"}),
    ):
        refused = await peer.once("c", command, **payload)
        assert ("error", "conflict") == (refused.type, refused.payload["code"])
    await peer.post("token.create", "d", type="one")
    await peer.post("token.create", "d", type="two")
    await peer.answered(6)
    assert ["token.created", "error"] == [reply.type for reply in peer.replies[4:]]
    assert [2, 0, 0, 2] == await effects(node)
    assert again(created) == await peer.once("c", "token.create", type="one")


async def test_keys_in_another_order(peer: Peer) -> None:
    """Tries to make a command another one by nothing but the order in which its JSON was written."""
    created = await peer.once("c", "token.create", type="one", metadata={"a": 1, "b": {"c": 2, "d": 3}})
    assert again(created) == await peer.once("c", "token.create", metadata={"b": {"d": 3, "c": 2}, "a": 1}, type="one")


async def test_whose_id_it_is(node: Node) -> None:
    """Tries to get at another subject's reply, or to be kept from an own effect, by using its id."""
    one, two = node.peer("one"), node.peer("two")
    assert (await one.once("c", "token.create")).payload != (await two.once("c", "token.create")).payload
    for _ in range(2):
        assert not (await one("token.create")).replayed  # without an id there is nothing to go by
    assert [4, 0, 0, 4] == await effects(node)


async def test_two_nodes_at_once(node: Node, database_url: str) -> None:
    """Tries to have an effect twice by sending each command to two nodes at the same time."""
    async with open_node(database_url) as other:
        here, there = node.peer("me"), other.peer("me")
        for n in range(200):
            for peer in (here, there):
                await peer.post("token.create", f"c{n}", metadata={"n": n})
                await peer.post("experience.record", f"e{n}", event_type="step", trajectory_id="t")
        for peer in (here, there):
            await peer.answered(400)
    for one, two in zip(here.replies, there.replies, strict=True):
        assert (one.type, one.payload) == (two.type, two.payload)
        assert {True, False} == {one.replayed, two.replayed}
    assert [200, 0, 200, 400] == await effects(node)


async def test_lost_answer_of_the_commit(node: Node) -> None:
    """Tries to have an effect twice by losing the answer to its commit: what is unavailable is sent again."""
    committer = Committer(LossyPool(node.pool, losses=1), node.relay)  # type: ignore[arg-type]
    lossy = evolve(node, committer=committer).peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        assert "unavailable" == (await lossy.once("c", "token.update", token_id=NOBODY)).payload["code"]
        replayed = await lossy.once("c", "token.update", token_id=NOBODY)
        nursery.cancel_scope.cancel()
    assert Said("token.not_found", {"token_id": NOBODY}, replayed=True) == replayed


async def test_poison_beside_it(node: Node, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to lose or repeat replies where a batch fails as a whole and is applied one by one."""
    created = await peer.once("c0", "token.create")
    tokens_create = node.registry.entries
    entry = next(entry for command, entry in tokens_create.items() if command.TYPE == "experience.record")
    assert entry.write is not None

    async def fail(*_: Any) -> Any:
        raise RuntimeError("poison")

    monkeypatch.setattr(entry, "write", Handler("experience.record", fail, lambda _command: None))
    await peer.post("token.create", "c1")
    await peer.post("experience.record", "c2", event_type="step")
    await peer.post("token.create", "c0")
    await peer.post("token.create", "c1")
    await peer.answered(5)
    assert ["token.created", "error", "token.created", "token.created"] == [reply.type for reply in peer.replies[1:]]
    assert "internal" == peer.replies[2].payload["code"]
    assert [again(created), again(peer.replies[1])] == peer.replies[3:]
    assert [2, 0, 0, 2] == await effects(node)
    monkeypatch.undo()
    assert not (await peer.once("c2", "experience.record", event_type="step")).replayed  # it was not done


async def test_others_are_not_looked_up(node: Node, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to make every batch pay for commands that are sent again: only those soon after one do."""
    looked = []
    find = module.replies.find

    async def count(*args: Any) -> Any:
        looked.append(1)
        return await find(*args)

    monkeypatch.setattr(module.replies, "find", count)
    for n in range(3):
        await peer.once(f"c{n}", "token.create")
    assert [] == looked
    await peer.once("c0", "token.create")
    assert [1] == looked
    await peer.once("c0", "token.create")
    assert [1, 1] == looked


async def test_reply_and_event_are_one(node: Node, peer: Peer, database_url: str) -> None:
    """Tries to find a kept reply that does not name its change's first event, or whose content is not the event's."""
    commands = await every_write(peer)
    for n, (command, payload) in enumerate(commands):
        await peer.once(f"c{n}", command, **payload)
    with psycopg.connect(database_url) as db:
        kept = db.execute("""
            select replies.type, replies.payload, events.type, events.payload::text, events.seq from replies
            left join events using (topic_id, seq)
        """).fetchall()
    assert len(commands) == len(kept)
    for type_, payload, event_type, event_payload, seq in kept:
        if type_ == "published":
            assert ("said", f'"seq":{seq}}}') == (event_type, payload[-len(f'"seq":{seq}}}') :])
        elif type_ in ("error", "token.not_found", "graph.not_found"):
            assert event_type is None
        else:
            assert (type_, payload) == (event_type, event_payload)


async def test_refusals_in_a_deadlock(node: Node, peer: Peer, database_url: str) -> None:
    """Tries to have what was accepted done twice, by a deadlock while the refusals of its batch are being kept."""
    one, two = [(await peer("token.create")).payload["token_id"] for _ in range(2)]
    before = await effects(node)
    hold = "insert into replies (subject, command_id, command_hash, type, payload, created_at)"
    hold += " values ('peer', %s, gen_random_uuid(), 'error', '{}', now())"
    async with await TrioConnection.connect(database_url) as other:  # another node, with the same ids in another order
        await other.execute("begin")
        await other.execute(hold, ["c1"])
        await peer.post("token.create")  # accepted, and without an id
        await peer.post("token.create", "c1", token_id=one)
        await peer.post("token.create", "c2", token_id=two)
        waits = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        while not await node.rows(waits):  # noqa: ASYNC110 - it is Postgres that we wait for
            await trio.sleep(0.01)
        await other.execute(hold, ["c2"])  # waits for ours, which waits for it: Postgres ends one of them
        await other.execute("rollback")
    await peer.answered(5)
    assert ["token.created", "error", "error"] == [reply.type for reply in peer.replies[2:]]
    assert [before[0] + 1, 0, 0, before[3] + 1] == await effects(node)
