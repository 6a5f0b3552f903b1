"""Subscriptions on a connection that holds."""

from __future__ import annotations

from typing import Any

from tests.client.fakes import Peer
from tests.conformance.actors import Actor
from tests.conformance.conftest import Scripted
from tests.logs import fill
from tests.servers import Running


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


async def test_live(actor: Actor, real: Running) -> None:
    """Tries to lose, repeat or reorder events of one's own commands and of others'."""
    client = await actor.connect(real.url, client_id="me")
    other = await actor.connect(real.url, "b", client_id="other")
    opening = await client.subscribe("tokens")
    assert (True, 0, False, 0) == tuple(opening[key] for key in ("durable", "seq", "recovered", "replay"))
    for n in range(10):
        await (client, other)[n % 2].call("create_token", type=f"t{n}")
    events = await client.events(10)
    assert [(n + 1, f"t{n}", ("me", "other")[n % 2]) for n in range(10)] == [
        (event["seq"], event["payload"]["type"], event["sender_id"]) for event in events
    ]
    assert {("tokens", "token.created", opening["epoch"])} == {
        (event["topic"], event["type"], event["epoch"]) for event in events
    }


async def test_since(actor: Actor, real: Running, database_url: str) -> None:
    """Tries to leave a hole, or a repeat, between what is replayed and what is live."""
    fill(database_url, "tokens", 50)
    client = await actor.connect(real.url)
    waiting = [client.given("call", method="create_token", args={}) for _ in range(10)]
    opening = await client.subscribe("tokens", since=20)
    waiting += [client.given("call", method="create_token", args={}) for _ in range(10)]
    for answer in waiting:
        await answer()
    assert opening["recovered"]
    assert list(range(21, 71)) == seqs(await client.events(50))


async def test_list_then_subscribe(actor: Actor, real: Running) -> None:
    """Tries to miss, or see twice, what changes between listing and subscribing."""
    client = await actor.connect(real.url)
    await client.call("create_token", type="before")
    page = await client.call("list_tokens")
    await client.call("create_token", type="between")
    position = page["position"]
    await client.subscribe("tokens", since=position["seq"], epoch=position["epoch"])
    await client.call("create_token", type="after")
    assert ["before"] == [head["type"] for head in page["tokens"]]
    assert ["between", "after"] == [event["payload"]["type"] for event in await client.events(2)]


async def test_a_long_past(actor: Actor, real: Running, database_url: str) -> None:
    """Tries to lose or repeat one of ten thousand events that are replayed."""
    total = 10_000
    fill(database_url, "tokens", total)
    client = await actor.connect(real.url)
    await client.subscribe("tokens", since=0)
    assert list(range(1, total + 1)) == seqs(await client.events(total))


async def test_unread(actor: Actor, real: Running, database_url: str) -> None:
    """Tries to lose an event, or to hold up others, by not reading a subscription for a while."""
    client = await actor.connect(real.url)
    await client.subscribe("tokens", "slow")
    await client.subscribe("tokens", "quick")
    await client.order("read", sub="slow", hold=True)
    for answer in [client.given("call", method="create_token", args={}) for _ in range(50)]:
        await answer()
    assert list(range(1, 51)) == seqs(await client.events(50, "quick"))
    assert len(client.seen("slow")) <= 1
    await client.order("read", sub="slow", hold=False)
    assert list(range(1, 51)) == seqs(await client.events(50, "slow"))


async def test_unsubscribe(actor: Actor, real: Running) -> None:
    """Tries to hear an event after `unsubscribe`, or to go on where the first subscription was with the next."""
    client = await actor.connect(real.url)
    await client.subscribe("tokens", "first")
    await client.call("create_token")
    await client.events(1, "first")
    await client.order("unsubscribe", sub="first")
    await client.call("create_token")
    opening = await client.subscribe("tokens", "second")
    await client.call("create_token")
    assert 2 == opening["seq"]
    assert [3] == seqs(await client.events(1, "second"))
    assert [1] == seqs(client.seen("first"))


async def test_two_of_one_topic(actor: Actor, real: Running, database_url: str) -> None:
    """Tries to have two subscriptions of one topic move, feed or end each other."""
    fill(database_url, "tokens", 20)
    client = await actor.connect(real.url)
    await client.subscribe("tokens", "live")
    await client.subscribe("tokens", "past", since=5)
    await client.call("create_token")
    assert list(range(6, 22)) == seqs(await client.events(16, "past"))
    assert [21] == seqs(await client.events(1, "live"))
    await client.order("unsubscribe", sub="past")
    await client.call("create_token")
    assert [21, 22] == seqs(await client.events(2, "live"))
    assert 16 == len(client.seen("past"))


async def test_what_is_not_known(actor: Actor, scripted: Scripted) -> None:
    """Tries to trip a client over fields, events and messages that a later server may have."""

    async def script(peer: Peer) -> None:
        await peer.accept(future={"field": 1})
        await peer.agree(await peer.command(), future=True)
        await peer.send({"id": "1", "type": "future.event", "timestamp": 1, "topic": "tokens", "seq": 1,
                         "epoch": "0000000a", "payload": {"a": 1}, "future": [1]})  # fmt: skip
        await peer.send({"id": "2", "type": "future.notice", "timestamp": 1, "payload": {}})
        await peer.send({"id": "3", "type": "future.reply", "timestamp": 1, "payload": {}, "reply_to": "nobody"})
        await peer.send({"id": "4", "type": "x", "timestamp": 1, "payload": {}, "topic": "nobodys"})
        await peer.reply(await peer.command(), "x.done", {"future": 1})

    client = await actor.connect(await scripted(script, accept=False))
    await client.subscribe("tokens")
    (event,) = await client.events(1)
    assert ("future.event", {"a": 1}) == (event["type"], event["payload"])
    assert "x.done" == (await client.request("x.do"))["type"]
    assert [] == client.called("disconnected")
