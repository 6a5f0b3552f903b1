"""Two nodes on one database, at the instants where one can't see yet what the other did."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import trio

from ngos.log.sql import Transaction
from ngos.log.write import Write
from ngos.protocol import codec, commands
from ngos.services.graph import Graph
from ngos.services.tokens import Tokens
from tests.services.nodes import PATIENCE_S, Node, Peer, Said, open_node

A, B, C = (f"00000000-0000-0000-0000-00000000000{letter}" for letter in "abc")
EDGE = {"source_id": A, "target_id": B}


@asynccontextmanager
async def other_node(node: Node) -> AsyncIterator[Transaction]:
    """A transaction of another node, committed at the end of the block."""
    async with node.pool.connection() as conn:
        await conn.execute("begin")
        yield Transaction(conn, datetime.now(UTC))
        await conn.execute("commit")


async def until_blocked(node: Node) -> None:
    """Wait until somebody waits for a lock."""
    query = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with trio.fail_after(PATIENCE_S):
        while not await node.rows(query):
            pass


def a_write(cls: type[Any], **payload: Any) -> Any:
    """A write of the other node."""
    return Write(None, codec.decode_payload(payload, cls), None, "other", 0, lambda _answer: None)  # type: ignore[arg-type]


@pytest.fixture
async def filled(peer: Peer) -> Peer:
    for token_id in (A, B, C):
        await peer("token.create", token_id=token_id)
    return peer


async def test_delete_of_a_token_that_is_being_connected(filled: Peer) -> None:
    """A delete that meets an edge in the making waits for it, and takes it along."""
    before = len(filled.replies)
    async with other_node(filled.node) as tx:
        (outcome,) = await Graph(filled.node.pool).connect(tx, [a_write(commands.GraphConnect, **EDGE)])
        await filled.post("token.delete", token_id=A)
        await until_blocked(filled.node)
    await filled.answered(before + 1)
    assert Said("token.deleted", {"token_id": A}) == filled.replies[-1]
    made, cut = await filled.node.log("graph")
    assert ("graph.connected", "graph.disconnected") == (made.type, cut.type)
    assert made == outcome.logged[0]
    assert orjson.loads(made.payload)["connection_id"] == orjson.loads(cut.payload)["connection_id"]


async def test_connect_to_a_token_that_is_being_deleted(filled: Peer) -> None:
    """A connect that meets a delete in the making waits for it, and does not find the token."""
    before = len(filled.replies)
    async with other_node(filled.node) as tx:
        await Tokens(filled.node.pool).delete(tx, [a_write(commands.TokenDelete, token_id=B)])
        await filled.post("graph.connect", **EDGE)
        await until_blocked(filled.node)
    await filled.answered(before + 1)
    assert Said("token.not_found", {"token_id": B}) == filled.replies[-1]


async def test_edge_that_is_being_made(filled: Peer) -> None:
    """The conflict names the first edge even where another node made it after this one began."""
    before = len(filled.replies)
    async with other_node(filled.node) as tx:
        (outcome,) = await Graph(filled.node.pool).connect(tx, [a_write(commands.GraphConnect, **EDGE)])
        await filled.post("graph.connect", **EDGE)
        await filled.post("graph.connect", source_id=B, target_id=A)
        await until_blocked(filled.node)
    await filled.answered(before + 2)
    refused, made = filled.replies[-2:]
    first = orjson.loads(outcome.logged[0].payload)["connection_id"]
    assert ("conflict", "graph.connected") == (refused.payload["code"], made.type)
    assert {"connection_id": UUID(first)} == refused.payload["details"]


async def test_edge_that_is_being_removed(filled: Peer) -> None:
    """Of two that disconnect one edge, one gets `graph.not_found`; who connects meanwhile makes a new one."""
    made = await filled("graph.connect", **EDGE)
    before = len(filled.replies)
    async with other_node(filled.node) as tx:
        await Graph(filled.node.pool).disconnect(tx, [a_write(commands.GraphDisconnect, **EDGE)])
        await filled.post("graph.disconnect", connection_id=made.payload["connection_id"])
        await filled.post("graph.connect", **EDGE)
        await until_blocked(filled.node)
    await filled.answered(before + 2)
    assert ["graph.not_found", "graph.connected"] == [said.type for said in filled.replies[-2:]]


@pytest.mark.parametrize(("if_version", "told"), [(1, "conflict"), (2, 3), (None, 3)])
async def test_token_that_is_being_updated(filled: Peer, if_version: int | None, told: Any) -> None:
    """An update that waited for another's sees its version, and its fields."""
    before = len(filled.replies)
    async with other_node(filled.node) as tx:
        await Tokens(filled.node.pool).update(tx, [a_write(commands.TokenUpdate, token_id=A, type="other's")])
        await filled.post("token.update", token_id=A, weight=7.0, if_version=if_version)
        await until_blocked(filled.node)
    await filled.answered(before + 1)
    payload = filled.replies[-1].payload
    assert told == payload.get("code", payload.get("version"))
    token = (await filled("token.get", token_id=A)).payload
    assert ("other's", 1.0 if told == "conflict" else 7.0) == (token["type"], token["weight"])


async def test_token_that_is_being_created(node: Node, peer: Peer) -> None:
    """Of two that create one id, one gets a conflict."""
    async with other_node(node) as tx:
        await Tokens(node.pool).create(tx, [a_write(commands.TokenCreate, token_id=A)])
        await peer.post("token.create", token_id=A)
        await peer.post("token.create", token_id=B)
        await until_blocked(node)
    await peer.answered(2)
    assert ["error", "token.created"] == [said.type for said in peer.replies]
    assert "conflict" == peer.replies[0].payload["code"]


async def test_same_ids_in_other_order(database_url: str) -> None:
    """Nodes that create, update and delete the same tokens in opposite orders never wait for each other for ever."""
    async with open_node(database_url) as one, open_node(database_url) as other:
        ids = [str(uuid4()) for _ in range(200)]
        peers = [one.peer(), other.peer()]
        for round_, command in enumerate(("token.create", "token.update", "token.delete"), start=1):
            for peer, order in zip(peers, (ids, ids[::-1]), strict=True):
                for token_id in order:
                    await peer.post(command, token_id=token_id)
            for peer in peers:
                await peer.answered(200 * round_)
        effects = [
            said.type for peer in peers for said in peer.replies if said.type in ("token.created", "token.deleted")
        ]
        assert ["token.created"] * 200 + ["token.deleted"] * 200 == sorted(effects)
        codes = {said.payload["code"] for peer in peers for said in peer.replies if said.type == "error"}
        assert codes <= {"conflict"}
        log = await one.log("tokens")
        assert list(range(1, len(log) + 1)) == [event.seq for event in log]
        answered = [said.type for peer in peers for said in peer.replies]
        for type_ in ("token.created", "token.updated", "token.deleted"):
            assert answered.count(type_) == [event.type for event in log].count(type_)


async def test_victim_of_a_deadlock_is_tried_again(filled: Peer) -> None:
    """A batch that Postgres rolled back to solve a deadlock had no effect: it is applied again."""
    before = len(filled.replies)
    async with other_node(filled.node) as tx, trio.open_nursery() as nursery:
        await tx.conn.execute("set deadlock_timeout = '1min'")  # the victim is the one who looks first: not this one
        tokens = Tokens(filled.node.pool)
        await tokens.update(tx, [a_write(commands.TokenUpdate, token_id=B)])
        await filled.post("token.update", token_id=A)
        await filled.post("token.delete", token_id=B)
        await until_blocked(filled.node)
        nursery.start_soon(tokens.update, tx, [a_write(commands.TokenUpdate, token_id=A)])
    await filled.answered(before + 2)
    assert ["token.updated", "token.deleted"] == [said.type for said in filled.replies[before:]]


@pytest.mark.parametrize("seed", range(3))
async def test_two_nodes_against_one_token(database_url: str, seed: int) -> None:
    """Creates, connects and deletes of two nodes around one token end without a defect; the log tells the tables."""
    rng = random.Random(seed)
    async with open_node(database_url) as one, open_node(database_url) as other:
        peers = [node.peer(f"peer {n}") for node in (one, other) for n in range(3)]
        sent = dict.fromkeys(peers, 0)
        for _ in range(150):
            for peer in peers:
                ends = rng.sample((A, B, C), 2)
                match rng.randrange(5):
                    case 0:
                        await peer.post("token.create", token_id=A)
                    case 1:
                        await peer.post("token.delete", token_id=rng.choice((A, A, B, C)))
                    case 2:
                        await peer.post("token.create", token_id=rng.choice((B, C)))
                    case 3:
                        await peer.post("graph.connect", source_id=ends[0], target_id=ends[1])
                    case _:
                        await peer.post("graph.disconnect", source_id=ends[0], target_id=ends[1])
                sent[peer] += 1
            await peers[rng.randrange(6)].answered(1)
            await trio.lowlevel.checkpoint()
        for peer, count in sent.items():
            await peer.answered(count)
        codes = [said.payload["code"] for peer in peers for said in peer.replies if said.type == "error"]
        assert "internal" not in codes
        edges: set[bytes] = set()
        for event in await one.log("graph"):
            connection_id = event.payload[18:54]
            if event.type == "graph.connected":
                edges.add(connection_id)
            else:
                edges.remove(connection_id)
        assert edges == {str(row[0]).encode() for row in await one.rows("select connection_id from edges")}
