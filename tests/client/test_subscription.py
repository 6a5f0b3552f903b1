"""Subscriptions of the Trio shell, against a scripted server on a real socket."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio

from ngos.client.errors import (
    SlowSubscriber,
)
from ngos.client.trio import connect
from ngos.protocol.messages import SystemStatus
from tests.client.fakes import Peer, pongs, serve


async def test_iterating_subscribes(nursery: trio.Nursery) -> None:
    """`async for event in client.subscribe(topic)` works as it stands, and leaving it unsubscribes by and by."""
    types: list[str] = []

    async def script(peer: Peer) -> None:
        command = await peer.receive()
        await peer.agree(command)
        for seq in (1, 2):
            await peer.event("system", "system.status", seq, connections=1, subscriptions=1, topics=1)
        while True:
            command = await peer.receive()
            types.append(command["type"])
            if command["type"] == "ping":
                await peer.event("system", "system.status", 4)
                await peer.reply(command, "pong", {"message_id": None})

    url = await serve(nursery, script)
    async with connect(url) as client:
        async for event in client.subscribe("system"):
            if event.seq == 2:
                break
        assert ("other", "0000000a") == (event.sender_id, event.epoch)
        gc.collect()
        await client.ping()
        await client.ping()
    assert ["ping", "unsubscribe", "ping"] == types
    nursery.cancel_scope.cancel()


async def test_subscription_as_a_context(nursery: trio.Nursery) -> None:
    """Inside the block the client is subscribed, before any event; after it, it is not."""
    types: list[str] = []

    async def script(peer: Peer) -> None:
        command = await peer.receive()
        assert {"topic": "tokens", "since": 3, "epoch": "0000000a"} == command["payload"]
        await peer.agree(command, seq=5, recovered=True, replay=2)
        await peer.event("tokens", "token.created", 4)
        await peer.event("tokens", "token.created", 5)
        types.append((await peer.receive())["type"])
        await pongs(peer)

    url = await serve(nursery, script)
    async with connect(url) as client:
        async with client.subscribe("tokens", since=3, epoch="0000000a") as events:
            assert (True, 2, 3) == (events.opening.recovered, events.opening.replay, events.seq)
            assert [4, 5] == [(await anext(events)).seq for _ in range(2)]
            assert 5 == events.seq
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        with pytest.raises(RuntimeError):
            await events.__aenter__()
        await client.ping()
    assert ["unsubscribe"] == types
    nursery.cancel_scope.cancel()


async def test_slow_consumer_blocks_nobody(nursery: trio.Nursery) -> None:
    """A consumer that does not read holds up nobody; on an ephemeral topic it gets SlowSubscriber."""

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.receive())
        for _ in range(100):
            await peer.event("chat", "x")
        await pongs(peer)

    url = await serve(nursery, script)
    async with (
        connect(url) as client,
        client.subscribe("chat", buffer_events=10) as slow,
        client.subscribe("chat") as quick,
    ):
        await client.ping()
        assert 100 == len([await anext(quick) for _ in range(100)])
        read = 0
        with pytest.raises(SlowSubscriber):
            async for _ in slow:
                read += 1
        assert 10 == read
    nursery.cancel_scope.cancel()


async def test_status_is_typed(nursery: trio.Nursery) -> None:
    """An event of a known type on its own topic is its class."""
    status: dict[str, Any] = {"connections": 1, "subscriptions": 2, "topics": 3, "events_per_s": 4, "uptime_s": 5.5}

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.receive())
        await peer.event("system", "system.status", None, **status)

    url = await serve(nursery, script)
    async with connect(url) as client:
        event = await anext(client.subscribe("system"))
        assert SystemStatus(**status) == event.message
        assert (None, None) == (event.seq, event.epoch)
    nursery.cancel_scope.cancel()
