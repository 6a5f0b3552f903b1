"""What a break of the connection must not do."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import trio

from tests.client.fakes import Peer
from tests.client.relay import Relay
from tests.conformance.actors import BROWSER_ACTORS, Actor, Failed, Remote
from tests.conformance.conftest import Relayed, Scripted
from tests.daemons import daemon
from tests.logs import prune
from tests.servers import Running


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


def count(database_url: str, what: str = "tokens") -> int:
    with psycopg.connect(database_url) as db:
        row = db.execute(f"select count(*) from {what}").fetchone()
        assert row is not None
        return int(row[0])


async def create(client: Remote, how_many: int) -> None:
    for answer in [client.given("call", method="create_token", args={}) for _ in range(how_many)]:
        await answer()


@pytest.mark.parametrize("where", ["between", "in mid-frame"])
async def test_in_the_midst_of_a_stream(actor: Actor, real: Running, relayed: Relayed, where: str) -> None:
    """Tries to lose, repeat or reorder an event by cutting the network between frames and in the midst of one."""
    client = await actor.connect(relayed.url)
    writer = await actor.connect(real.url, "b")
    await client.subscribe("tokens")
    await create(writer, 10)
    for n in range(1, 4):
        await client.events(20 * n - 10)
        if where == "between":
            relayed.relay.cut()
        else:
            relayed.relay.cut_after(700)
        await create(writer, 20)
        resumed = await client.calls("resumed", n)
        assert "tokens" == resumed[-1]["topic"]
    assert list(range(1, 71)) == seqs(await client.events(70))
    assert 4 == len(client.called("connected"))
    assert [] == client.called("gap")


async def test_before_the_reply(actor: Actor, real: Running, relayed: Relayed, database_url: str) -> None:
    """Tries to have a command take effect twice, or never be answered, by cutting before its reply."""
    client = await actor.connect(relayed.url, client_id="me")
    watcher = await actor.connect(real.url, "b")
    await watcher.subscribe("tokens")
    relayed.relay.hold()
    waiting = client.given("request", type="token.create", payload={"type": "once"}, id="one")
    (event,) = await watcher.events(1)
    relayed.relay.cut()
    reply = await waiting()
    assert (event["payload"]["token_id"], "one", True) == (
        reply["payload"]["token_id"],
        reply["reply_to"],
        reply["replayed"],
    )
    assert 1 == count(database_url)


async def test_while_it_is_away(actor: Actor, relayed: Relayed, real: Running, database_url: str) -> None:
    """Tries to lose or reorder commands that are given without a connection."""
    client = await actor.connect(relayed.url, dice=0.02)
    watcher = await actor.connect(real.url, "b")
    await watcher.subscribe("tokens")
    relayed.relay.refusing = True
    relayed.relay.cut()
    await client.calls("disconnected")
    assert "reconnecting" == await client.state()
    waiting = [client.given("request", type="token.create", payload={"type": f"t{n}"}) for n in range(20)]
    assert "reconnecting" == await client.state()
    relayed.relay.refusing = False
    names = [f"t{n}" for n in range(20)]
    assert names == [(await answer())["payload"]["type"] for answer in waiting]
    assert names == [event["payload"]["type"] for event in await watcher.events(20)]
    assert 20 == count(database_url)


async def test_more_than_can_wait(actor: Actor, relayed: Relayed, database_url: str) -> None:
    """Tries to have more wait than `queue_bytes`, or a command that was refused be sent after all."""
    client = await actor.connect(relayed.url, dice=0.02, queue_bytes=2000)
    relayed.relay.refusing = True
    relayed.relay.cut()
    await client.calls("disconnected")
    payload = {"metadata": {"text": "x" * 500}}
    waiting = [client.given("request", type="token.create", payload=payload) for _ in range(8)]
    await client.state()  # all have been given by now
    relayed.relay.refusing = False
    kinds = []
    for answer in waiting:
        try:
            kinds.append((await answer())["type"])
        except Failed as exc:
            kinds.append(exc.kind)
    assert ["token.created"] * 3 + ["QueueFull"] * 5 == kinds
    assert 3 == count(database_url)
    await client.call("create_token")


async def test_a_log_that_was_pruned(actor: Actor, real: Running, relayed: Relayed, database_url: str) -> None:
    """Tries to hide that events of a break are no longer in the log, or to tell it without both positions."""
    client = await actor.connect(relayed.url, dice=0.02)
    writer = await actor.connect(real.url, "b")
    epoch = (await client.subscribe("tokens"))["epoch"]
    await create(writer, 2)
    await client.events(2)
    relayed.relay.refusing = True
    relayed.relay.cut()
    await client.calls("disconnected")
    await create(writer, 4)
    await trio.to_thread.run_sync(prune, database_url, "tokens", 4)
    relayed.relay.refusing = False
    (gap,) = await client.calls("gap")
    assert ("tokens", 2, epoch, {"epoch": epoch, "seq": 6}) == tuple(
        gap[key] for key in ("topic", "seq", "epoch", "now")
    )
    assert [] == client.called("resumed")
    assert [1, 2] == seqs(client.seen())[:2]
    await client.subscribe("tokens", "anew", since=6, epoch=epoch)
    await create(writer, 1)
    assert [7] == seqs(await client.events(1, "anew"))


async def test_a_log_that_is_another(actor: Actor, scripted: Scripted) -> None:
    """Tries to go on in a log of another epoch as if it was the one before."""

    async def first(peer: Peer) -> None:
        await peer.agree(await peer.command(), seq=3)
        await peer.event("tokens", "x", 4)
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        command = await peer.command()
        asked.append(command["payload"])
        await peer.agree(command, seq=9, epoch="0000000b")
        while True:
            await peer.reply(await peer.command(), "x.done", {})

    asked: list[dict[str, Any]] = []
    client = await actor.connect(await scripted(first, second))
    await client.subscribe("tokens")
    (gap,) = await client.calls("gap")
    assert (4, "0000000a", {"epoch": "0000000b", "seq": 9}) == (gap["seq"], gap["epoch"], gap["now"])
    assert [4] == seqs(await client.events(1))
    assert {"topic": "tokens", "since": 4, "epoch": "0000000a"} == asked[0]


async def test_who_we_are_comes_first(actor: Actor, scripted: Scripted) -> None:
    """Tries to send commands or subscriptions again before the server knows again who asks."""
    again: list[str] = []

    async def first(peer: Peer) -> None:
        command = await peer.command()
        await peer.reply(command, "authenticated", {"subject": "me", "expires_at": None})
        await peer.agree(await peer.command())
        await peer.command()
        await peer.socket.aclose(1012)

    async def second(peer: Peer) -> None:
        for _ in range(3):
            command = await peer.command()
            again.append(command["type"])
            match command["type"]:
                case "authenticate":
                    assert "secret" == command["payload"]["token"]
                    await peer.reply(command, "authenticated", {"subject": "me", "expires_at": None})
                case "subscribe":
                    await peer.agree(command, recovered=True)
                case _:
                    await peer.reply(command, "x.done", {})

    client = await actor.connect(await scripted(first, second))
    await client.call("authenticate", token="secret")
    await client.subscribe("tokens")
    assert "x.done" == (await client.request("x.do"))["type"]
    assert ["authenticate", "subscribe", "x.do"] == again


async def test_ephemeral(actor: Actor, real: Running, relayed: Relayed) -> None:
    """Tries to call it a gap, or to hear nothing more, where a topic without a log was followed over a break."""
    client = await actor.connect(relayed.url)
    writer = await actor.connect(real.url, "b")
    await client.subscribe("chat")
    await writer.call("publish", topic="chat", type="said", payload={"n": 1})
    await client.events(1)
    relayed.relay.cut()
    await client.calls("connected", 2)
    await client.call("ping")  # which comes after `subscribe`
    await writer.call("publish", topic="chat", type="said", payload={"n": 2})
    assert [1, 2] == [event["payload"]["n"] for event in await client.events(2)]
    assert [] == client.called("gap")


NONSENSE = {
    "not JSON": "garbage",
    "not an object": "[1]",
    "no fields": "{}",
    "a type that is none": '{"id": "1", "type": 3, "timestamp": 1, "payload": {}}',
    "a payload that is none": '{"id": "1", "type": "x", "timestamp": 1, "payload": 3}',
    "an event without a number": '{"id": "1", "type": "x", "timestamp": 1, "payload": {}, "topic": "tokens"}',
    "binary": b'{"id": "1", "type": "x", "timestamp": 1, "payload": {}}',
}


@pytest.mark.parametrize("message", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense(actor: Actor, scripted: Scripted, message: str | bytes) -> None:
    """Tries to have a client go on with a server that does not speak the protocol, or end without a word."""
    codes: list[int] = []
    gone = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.command())
        await peer.command()
        await peer.socket.send_message(message)
        try:
            while True:
                await peer.command()
        finally:
            codes.append(getattr(peer.socket.closed, "code", 0))
            gone.set()

    client = await actor.connect(await scripted(script))
    await client.subscribe("tokens")
    with pytest.raises(Failed) as caught:
        await client.request("x.do")
    assert ("ConnectionLost", 1002) == (caught.value.kind, caught.value.fields["code"])
    (call,) = await client.calls("disconnected")
    assert (1002, None) == (call["code"], call["next_s"])
    ended = await client.ended()
    assert ("ConnectionLost", 1002) == (ended["kind"], ended["code"])
    assert "ended" == await client.state()
    with trio.fail_after(5):
        await gone.wait()
    # The browser's own WebSocket may not say 1002.
    assert [4002 if actor.kind in BROWSER_ACTORS else 1002] == codes


async def test_a_server_that_is_killed(actor: Actor, database_url: str, nursery: trio.Nursery) -> None:
    """Tries to lose or repeat an event or an effect by killing the server in the midst of work."""
    total = 60
    relay = Relay(0)
    url = await nursery.start(relay.run)
    waiting: list[Any] = []
    async with daemon(database_url) as first:
        relay.port = int(first.url.split(":")[2].split("/")[0])
        client = await actor.connect(url, dice=0.05)
        await client.subscribe("tokens")
        for n in range(total):
            waiting.append(client.given("request", type="token.create", payload={"type": f"t{n}"}))
            if n == total // 2:
                await client.events(5)
                first.process.kill()
        await first.ends()
        await client.calls("disconnected")
    async with daemon(database_url) as second:
        relay.port = int(second.url.split(":")[2].split("/")[0])
        assert [f"t{n}" for n in range(total)] == [(await answer())["payload"]["type"] for answer in waiting]
        events = await client.events(total)
        assert list(range(1, total + 1)) == seqs(events)
        with psycopg.connect(database_url) as db:
            logged = db.execute("select seq, payload->>'token_id' from events order by seq").fetchall()
        assert logged == [(event["seq"], event["payload"]["token_id"]) for event in events]
        assert total == count(database_url)
        assert ["tokens"] == [call["topic"] for call in client.called("resumed")]
        await client.disconnect()
