"""Resume (protocol.md section 5): nothing between lost, repeated or out of order, and all or nothing."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import trio
import typed_settings as ts

from ngos.client.trio import connect
from ngos.log.history import CHUNK_BYTES, PAGE_EVENTS
from tests.logs import fill, prune
from tests.servers import Running, only_frames, running_server
from tests.web.wire import RawSocket, raw_socket

FAR = PAGE_EVENTS * 4 + 17


@asynccontextmanager
async def client_of(server: Running, client_id: str | None = None) -> AsyncIterator[RawSocket]:
    """A raw client, greeted."""
    async with raw_socket(server.http, "/ws" if client_id is None else f"/ws?client_id={client_id}") as client:
        await client.message()
        yield client


async def subscribe(client: RawSocket, since: int | None = None, epoch: str | None = None, **more: Any) -> Any:
    """Subscribe to tokens; returns the reply's payload."""
    payload = {"topic": "tokens", "since": since, "epoch": epoch, **more}
    await client.command("subscribe", {name: value for name, value in payload.items() if value is not None}, id="s")
    while (message := await client.message()).get("reply_to") != "s":
        pass
    return message["payload"]


async def seqs(client: RawSocket, count: int) -> list[int]:
    """The numbers of the next events."""
    found = []
    while len(found) < count:
        message = await client.message()
        if "seq" in message:
            found.append(message["seq"])
    return found


async def create(client: RawSocket, count: int) -> None:
    for n in range(count):
        await client.command("token.create", {"metadata": {"n": n}})


async def test_away_for_a_while(server: Running, database_url: str) -> None:
    """Tries to lose or repeat what happened while a client was away, by a replay that goes over into live events."""
    async with client_of(server) as client:
        epoch = (await subscribe(client))["epoch"]
        await create(client, 3)
        assert [1, 2, 3] == await seqs(client, 3)
    fill(database_url, "tokens", FAR)
    async with client_of(server) as writer, client_of(server) as client:
        await create(writer, 10)
        opening = await subscribe(client, since=2, epoch=epoch)
        assert (True, opening["seq"] - 2) == (opening["recovered"], opening["replay"])
        await create(writer, 5)
        last = 3 + FAR + 15
        assert list(range(3, last + 1)) == await seqs(client, last - 2)


@pytest.mark.parametrize(
    ("since", "epoch", "recovered"),
    [
        (0, None, True),
        (0, "right", True),
        (20, "right", True),
        (20, None, True),
        (21, "right", False),
        (2**53, None, False),
        (5, "00000000", False),
        (20, "00000000", False),
        (None, "right", False),
    ],
)
async def test_all_or_nothing(
    server: Running, database_url: str, since: int | None, epoch: str | None, recovered: bool
) -> None:
    """Tries to be told that all was recovered where the log can't say so, or to be given a part of it."""
    fill(database_url, "tokens", 20)
    async with client_of(server) as client:
        real = (await subscribe(client))["epoch"]
        opening = await subscribe(client, since=since, epoch=real if epoch == "right" else epoch)
        replay = 20 - (since or 0) if recovered else 0
        expected = {"durable": True, "epoch": real, "seq": 20, "recovered": recovered, "replay": replay}
        assert expected == {name: opening[name] for name in expected}
        await create(client, 1)
        assert list(range(21 - replay, 22)) == await seqs(client, replay + 1)


@pytest.mark.parametrize(("since", "recovered"), [(0, False), (9, False), (10, True), (15, True)])
async def test_pruned(server: Running, database_url: str, since: int, recovered: bool) -> None:
    """Tries to resume where the log begins later, by a topic that this node knows and by one that it does not."""
    fill(database_url, "tokens", 20)
    prune(database_url, "tokens", 10)
    for _ in range(2):
        async with client_of(server) as client:
            opening = await subscribe(client, since=since)
            assert (recovered, 20 - since if recovered else 0) == (opening["recovered"], opening["replay"])
            if recovered:
                assert list(range(since + 1, 21)) == await seqs(client, 20 - since)


async def test_ephemeral(server: Running) -> None:
    """Tries to have `since` taken for anything on a topic that has no log."""
    async with client_of(server) as client:
        opening = await subscribe(client, since=0, topic="chat")
        assert (False, False, None) == (opening["durable"], opening["recovered"], opening["seq"])


async def test_many_resume_while_others_write(server: Running, database_url: str) -> None:
    """Tries to lose an event in the moment at which a replay joins the live stream, from many positions and often."""
    fill(database_url, "tokens", FAR)
    source = random.Random(1)

    async def write() -> None:
        async with connect(server.url) as client:
            while True:
                await client.create_token()

    async def resume() -> None:
        for _ in range(4):
            since = source.randrange(FAR + 1)
            async with client_of(server) as client:
                opening = await subscribe(client, since=since)
                assert opening["recovered"]
                count = opening["replay"] + 5
                assert list(range(since + 1, since + count + 1)) == await seqs(client, count)

    async with trio.open_nursery() as writing:
        for _ in range(3):
            writing.start_soon(write)
        async with trio.open_nursery() as resuming:
            for _ in range(12):
                resuming.start_soon(resume)
        writing.cancel_scope.cancel()


async def test_reply_before_its_event(server: Running, database_url: str) -> None:
    """Tries to get an event before the reply to the command that caused it, by causing it amid a replay."""
    fill(database_url, "tokens", FAR)
    async with client_of(server) as client:
        await subscribe(client, since=0)
        await create(client, 20)
        replied: set[str] = set()
        seen = 0
        while seen < FAR + 20:
            message = await client.message()
            if "reply_to" in message or (message["type"] == "token.created" and "seq" not in message):
                replied.add(message["payload"]["token_id"])
            else:
                seen += 1
                assert seen == message["seq"]
                if seen > FAR:
                    assert message["payload"]["token_id"] in replied


async def test_subscribing_again_moves_it(server: Running, database_url: str) -> None:
    """Tries to mix two replays of one topic, or to get events of the one that was given up behind the newer reply."""
    fill(database_url, "tokens", FAR)
    async with client_of(server) as client:
        for since in (0, FAR - 3, 1, 700):
            opening = await subscribe(client, since=since)
            assert (True, FAR - since) == (opening["recovered"], opening["replay"])
        assert list(range(701, FAR + 1)) == await seqs(client, FAR - 700)
        await subscribe(client, since=0)
        assert FAR == (await subscribe(client))["seq"]  # and live, with nothing of that replay
        await create(client, 2)
        assert [FAR + 1, FAR + 2] == await seqs(client, 2)


@pytest.mark.parametrize("seed", range(4))
async def test_any_order(server: Running, database_url: str, seed: int) -> None:
    """Tries to find commands in whose wake an event is lost, repeated, or of a subscription that is no more."""
    source = random.Random(seed)
    fill(database_url, "tokens", FAR, text_bytes=200)
    async with client_of(server) as client, client_of(server) as writer, trio.open_nursery() as nursery:
        nursery.start_soon(create, writer, 200)
        sent: dict[str, int | None] = {}
        for n in range(60):
            since = source.choice([None, source.randrange(FAR), FAR - source.randrange(20)])
            sent[f"s{n}"] = since
            await client.command(
                "subscribe", {"topic": "tokens"} | ({} if since is None else {"since": since}), id=f"s{n}"
            )
            if source.random() < 0.3:
                await client.command("unsubscribe", {"topic": "tokens"}, id=f"u{n}")
        await client.command("subscribe", {"topic": "tokens", "since": 0}, id="last")
        sent["last"] = 0
        due: int | None = None
        last = False
        while not last or due is None or due <= FAR + 200:
            message = await client.message()
            if message["type"] == "subscribed":
                opening, since = message["payload"], sent[message["reply_to"]]
                assert (since is not None) == opening["recovered"]
                due = (opening["seq"] if since is None else since) + 1
                last = message["reply_to"] == "last"
            elif message["type"] == "unsubscribed":
                due = None
            else:
                assert due == message["seq"]
                due += 1


async def test_unsubscribing_amid_a_replay(server: Running, database_url: str) -> None:
    """Tries to get an event after `unsubscribed`, or to leave a subscriber behind, by leaving amid a replay."""
    fill(database_url, "tokens", FAR, text_bytes=500)
    async with client_of(server) as client:
        for _ in range(3):
            await subscribe(client, since=0)
            await client.command("unsubscribe", {"topic": "tokens"}, id="u")
            while (message := await client.message()).get("reply_to") != "u":
                assert "filled" == message["type"]
            assert message["payload"]["success"]
            await client.command("ping", id="p")
            assert "pong" == (await client.message())["type"]
        assert {} == server.app.connections._hub.counts()


@only_frames
async def test_slow_reader_takes_no_memory(server: Running, database_url: str) -> None:
    """Tries to fill the server's memory by not reading a long replay for a while; then reads it, and is not cut."""
    count = 30_000
    fill(database_url, "tokens", count, text_bytes=1000)
    async with client_of(server) as client:
        assert count == (await subscribe(client, since=0))["replay"]
        (connection,) = server.app.connections.open.values()
        most = turns = 0
        async with client_of(server) as other:
            while turns < 50:
                await other.command("ping")
                await other.message()
                most = max(most, connection.mailbox.size_bytes)
                turns += most > 0  # from when the kernel takes no more
        assert most <= CHUNK_BYTES
        assert list(range(1, count + 1)) == await seqs(client, count)


async def test_stopped_reader_is_cut(database_url: str) -> None:
    """Tries to hold a replay open for ever by not reading it at all."""
    fill(database_url, "tokens", 20_000, text_bytes=1000)
    async with running_server(database_url, mailbox_age_s=0.5) as server, client_of(server) as client:
        await subscribe(client, since=0)
        with trio.fail_after(5):
            while server.app.connections.open:  # noqa: ASYNC110 - nobody could set an Event
                await trio.sleep(0.01)
        assert {1013: 1} == server.app.connections.closes


async def test_database_fails_amid_a_replay(server: Running, database_url: str) -> None:
    """Tries to lose or repeat events by cutting off the server's connections to Postgres amid a replay."""
    count = PAGE_EVENTS * 40
    fill(database_url, "tokens", count, text_bytes=500)
    with psycopg.connect(database_url, autocommit=True) as admin:
        async with client_of(server) as client:
            await subscribe(client, since=0)
            for start in range(1, count, PAGE_EVENTS * 4):
                assert list(range(start, start + PAGE_EVENTS * 4)) == await seqs(client, PAGE_EVENTS * 4)
                admin.execute("""
                    select pg_terminate_backend(pid) from pg_stat_activity
                    where application_name like 'ngos%' and datname = current_database()
                """)


@only_frames
async def test_limits_end_with_the_replay(server: Running, database_url: str) -> None:
    """Tries to be taken for a slow consumer sooner than others, or to cost more memory, for having resumed once."""
    fill(database_url, "tokens", 5)
    async with client_of(server) as client:
        await subscribe(client, since=0)
        await create(client, 1)
        assert list(range(1, 7)) == await seqs(client, 6)
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = server.app.connections.open.values()
        of_kernel: socket.socket = connection._transport._sender._socket
        assert 0 == of_kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        assert {"tokens": None} == connection.subscriptions


@only_frames
async def test_overtaken_by_retention(server: Running, database_url: str) -> None:
    """Tries to be given a log with a hole, by reading so slowly that what was promised is pruned meanwhile."""
    count = 30_000
    fill(database_url, "tokens", count, text_bytes=1000)
    async with client_of(server) as client:
        epoch = (await subscribe(client, since=0))["epoch"]
        prune(database_url, "tokens", count - 10)
        last = 0
        with pytest.raises((trio.EndOfChannel, AssertionError, trio.BrokenResourceError)):
            while True:
                message = await client.message()
                assert last + 1 == message["seq"]
                last += 1
    assert last < count - 10
    async with client_of(server) as client:
        assert not (await subscribe(client, since=last, epoch=epoch))["recovered"]


async def test_position_of_another_node(database_url: str) -> None:
    """Tries to be refused a position that a list on one node told, before the other node has heard of it."""
    deaf: dict[str, Any] = {"backplane": "redis", "redis_url": ts.SecretStr("redis://127.0.0.1:1")}
    async with (
        running_server(database_url, **deaf) as one,
        running_server(database_url, **deaf) as other,
        client_of(other) as there,
        client_of(one) as here,
    ):
        assert 0 == (await subscribe(here))["seq"]
        await create(there, 3)
        await there.command("token.list", id="l")
        while (message := await there.message()).get("reply_to") != "l":
            pass
        assert 3 == message["payload"]["position"]["seq"]
        opening = await subscribe(here, since=3)
        assert (3, True, 0) == (opening["seq"], opening["recovered"], opening["replay"])
        await create(here, 2)
        assert [4, 5] == await seqs(here, 2)


async def test_pages_are_shared(server: Running, database_url: str) -> None:
    """Tries to have the log read once for each of those who resume at once, from different positions."""
    fill(database_url, "tokens", FAR)
    (history,) = {entry.answer.__self__._history for entry in _answers(server)}

    async def resume(since: int) -> None:
        async with client_of(server) as client:
            await subscribe(client, since=since)
            assert list(range(since + 1, FAR + 1)) == await seqs(client, FAR - since)

    async with trio.open_nursery() as nursery:
        for since in range(40):
            nursery.start_soon(resume, since)
    assert 5 == history.pages_read


def _answers(server: Running) -> list[Any]:
    entries = server.app.connections._registry.entries
    return [entry for command, entry in entries.items() if command.TYPE == "subscribe"]
