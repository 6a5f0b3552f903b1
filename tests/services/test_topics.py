"""`publish`: durable, ephemeral, and the server's own topics (protocol.md sections 3 and 4)."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from ngos.protocol.catalog import OWN_TOPICS
from tests.databases import TestServer
from tests.services.nodes import Peer, Said, open_node

NASTY = {"'; --": "\0", "\0": ["\\u0000", "\ud7ff"], "big": 2**53, "deep": {"a": {"b": [[]]}}}


async def test_durable(peer: Peer) -> None:
    """An event of a durable topic is numbered, logged with its sender, and delivered after its reply, as sent."""
    assert 0 == await peer.follow("durable.x")
    for n in range(3):
        await peer.post("publish", topic="durable.x", type="hello'", payload=NASTY | {"n": n})
    await peer.heard_events(3)
    await peer.answered(3)
    log = await peer.node.log("durable.x")
    epoch = log[0].epoch
    expected = [Said("published", {"topic": "durable.x", "durable": True, "epoch": epoch, "seq": n}) for n in (1, 2, 3)]
    assert expected == peer.replies == peer.heard[:3]
    for n, event in enumerate(peer.events):
        want: dict[str, Any] = {"type": "hello'", "topic": "durable.x", "seq": n + 1, "epoch": epoch}
        want |= {"sender_id": "peer", "payload": NASTY | {"n": n}}
        assert want == {key: event[key] for key in want}
        assert f"{epoch}-{n + 1}" == event["id"]


async def test_ephemeral(peer: Peer) -> None:
    """An event of an ephemeral topic reaches who is subscribed now, has no number, and leaves nothing in the tables."""
    nobody = await peer("publish", topic="room", type="before")
    assert Said("published", {"topic": "room", "durable": False, "epoch": None, "seq": None}) == nobody
    peer.node.hub.add("room", peer, after=None)
    for n in range(100):
        await peer("publish", topic="room", type="t", payload={"n": n})
    events = await peer.heard_events(100)
    assert list(range(100)) == [event["payload"]["n"] for event in events]
    assert {"id", "type", "timestamp", "topic", "sender_id", "payload"} == set(events[0])
    assert 100 == len({event["id"] for event in events})
    assert [(3, 0)] == await peer.node.rows("select (select count(*) from topics), (select count(*) from events)")


@pytest.mark.parametrize("topic", sorted(OWN_TOPICS))
async def test_own_topics(database_url: str, topic: str) -> None:
    """Publishing to the server's own topics is forbidden, whatever patterns the configuration names."""
    async with open_node(database_url, durable_topics=("*",)) as node:
        said = await node.peer()("publish", topic=topic, type="token.created")
        assert ("error", "forbidden") == (said.type, said.payload["code"])
        assert [(0,)] == await node.rows("select count(*) from events")


async def test_patterns(database_url: str) -> None:
    """A pattern is durable where it matches the whole name, with its case."""
    async with open_node(database_url, durable_topics=("a.*", "b?c")) as node:
        peer = node.peer()
        durable = {}
        for topic in ("a.", "a.b.c", "A.b", "xa.b", "a", "bxc", "bc", "bxxc"):
            durable[topic] = (await peer("publish", topic=topic, type="t")).payload["durable"]
        assert {"a.", "a.b.c", "bxc"} == {topic for topic, is_durable in durable.items() if is_durable}


@pytest.mark.parametrize(
    "fields",
    [
        {"topic": "", "type": "t"},
        {"topic": "x" * 129, "type": "t"},
        {"topic": "a b", "type": "t"},
        {"topic": "a\n", "type": "t"},
        {"topic": "ä", "type": "t"},
        {"topic": "a", "type": ""},
        {"topic": "a"},
        {"topic": "a", "type": "t", "payload": []},
        {"topic": "a", "type": "t", "payload": None},
    ],
)
async def test_refused(peer: Peer, fields: dict[str, Any]) -> None:
    """Names and payloads outside of the rules are the sender's fault."""
    assert "invalid_payload" == (await peer("publish", **fields)).payload["code"]


async def test_two_nodes_make_one_topic(database_url: str) -> None:
    """Two nodes that publish to a new durable topic at once number it together."""
    async with open_node(database_url) as one, open_node(database_url) as other:
        peers = [one.peer(), other.peer()]
        for n in range(50):
            for peer in peers:
                await peer.post("publish", topic=f"durable.{n % 3}", type="t")
        for peer in peers:
            await peer.answered(50)
        replies = [reply.payload for peer in peers for reply in peer.replies]
        for name in ("durable.0", "durable.1", "durable.2"):
            numbers = sorted(reply["seq"] for reply in replies if reply["topic"] == name)
            assert list(range(1, len(numbers) + 1)) == numbers


async def test_an_epoch_that_another_topic_has(postgres_server: TestServer) -> None:
    """Tries to have a new topic get no row, because the epoch that was drawn for it is taken."""
    database_url = postgres_server.create_database()  # not the one that is used again: its table is changed
    draw = "lpad(to_hex(nextval('epochs') / 2), 8, '0')"  # every other one is the one before
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("create sequence epochs")
        admin.execute(f"alter table topics alter column epoch set default {draw}")
    async with open_node(database_url) as node:
        peer = node.peer()
        epochs = [(await peer("publish", topic=f"durable.{n}", type="t")).payload["epoch"] for n in range(5)]
    assert 5 == len(set(epochs))
    postgres_server.drop_database(database_url)


async def test_a_topic_that_is_there_takes_no_number(peer: Peer) -> None:
    """Tries to use up the numbers of topics, of which there are 2^31, by publishing to the same one."""
    for topic in ("durable.a",) * 5 + ("durable.b",):
        await peer("publish", topic=topic, type="t")
    ids = await peer.node.rows("select topic_id from topics where topic in ('durable.a', 'durable.b') order by topic")
    assert ids[0][0] + 1 == ids[1][0]
