"""Nothing lost, nothing twice: the client against the real server, over a network that breaks."""

from __future__ import annotations

import random

import psycopg
import pytest
import trio

from ngos.client.backoff import Backoff
from ngos.client.errors import GapError
from ngos.client.session import State
from ngos.client.trio import Client, connect
from tests.client.relay import Relay
from tests.logs import fill, prune
from tests.servers import Running, only_frames


def at_once() -> Backoff:
    return Backoff(lambda _low, _high: 0.0)


async def relay_to(nursery: trio.Nursery, server: Running) -> tuple[Relay, str]:
    relay = Relay(int(server.url.split(":")[2].split("/")[0]))
    return relay, await nursery.start(relay.run)


async def test_over_many_breaks(server: Running, database_url: str, nursery: trio.Nursery) -> None:
    """Tries to have a command take effect twice or never, or an event come twice or never, by cutting at any moment."""
    source = random.Random(3)
    relay, url = await relay_to(nursery, server)
    total = 600
    written = 0

    async def write(client: Client, count: int) -> None:
        nonlocal written
        for _ in range(count):
            await client.create_token(type="once")
            written += 1
            if source.random() < 0.03:
                relay.cut()

    async def follow(client: Client, since: int, buffer_events: int) -> None:
        async with client.subscribe("tokens", since=since, buffer_events=buffer_events) as events:
            assert list(range(since + 1, total + 1)) == [(await anext(events)).seq for _ in range(total - since)]

    with trio.fail_after(60):
        async with (
            connect(url, backoff=at_once()) as client,
            connect(url, backoff=at_once()) as other,
            trio.open_nursery() as tasks,
        ):
            for follower, buffer_events in ((client, 10_000), (client, 7), (other, 50)):
                tasks.start_soon(follow, follower, 0, buffer_events)
            for _ in range(6):
                tasks.start_soon(write, client, total // 6)
    assert relay.connections > 5
    with psycopg.connect(database_url) as db:
        assert (total,) == db.execute("select count(*) from tokens").fetchone()
    assert total == written
    nursery.cancel_scope.cancel()


@only_frames
async def test_a_slow_reader_of_a_long_past(server: Running, database_url: str, nursery: trio.Nursery) -> None:
    """Tries to fill a slow consumer's memory, to lose or repeat some of 20,000 events, or to hold up a quick one."""
    total = 20_000
    fill(database_url, "tokens", total)
    relay, url = await relay_to(nursery, server)
    quick_is_done = trio.Event()

    async def quick(client: Client) -> None:
        async with client.subscribe("tokens") as events:
            token = await client.create_token()
            assert str(token.token_id) == (await anext(events)).payload["token_id"]
            quick_is_done.set()

    async with (
        connect(url, backoff=at_once()) as client,
        trio.open_nursery() as tasks,
        client.subscribe("tokens", since=0, buffer_events=1000) as slow,
    ):
        first = await anext(slow)
        tasks.start_soon(quick, client)
        with trio.fail_after(10):
            await quick_is_done.wait()
        seqs = [first.seq]
        with trio.fail_after(60):
            async for event in slow:
                seqs.append(event.seq)
                assert len(slow._feed._waiting) <= 1000
                if len(seqs) == 10_000:
                    relay.cut()
                if len(seqs) == total + 1:
                    break
    assert list(range(1, total + 2)) == seqs
    nursery.cancel_scope.cancel()


@only_frames
async def test_a_log_that_went_on_without_us(server: Running, database_url: str, nursery: trio.Nursery) -> None:
    """Tries to hide that the events of a break were dropped from the log, or to lose any for who starts anew."""
    relay, url = await relay_to(nursery, server)
    async with (
        connect(url, backoff=Backoff(lambda _low, _high: 0.01)) as client,
        connect(server.url) as writer,
        client.subscribe("tokens") as events,
    ):
        await writer.create_token()
        assert 1 == (await anext(events)).seq
        relay.refusing = True  # it is not back before the log has gone on without it
        relay.cut()
        while client.state is not State.RECONNECTING:
            await client.changed()
        for _ in range(5):
            await writer.create_token()
        await trio.to_thread.run_sync(prune, database_url, "tokens", 4)
        relay.refusing = False
        with pytest.raises(GapError) as caught, trio.fail_after(10):
            await anext(events)
        assert caught.value.now is not None
        assert (1, 6) == (caught.value.seq, caught.value.now[1])
        position = (await client.list_tokens()).position
        async with client.subscribe("tokens", since=position.seq, epoch=position.epoch) as anew:
            await writer.create_token()
            assert 7 == (await anext(anew)).seq
    nursery.cancel_scope.cancel()
