"""Several servers on one database, as their clients see them: one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx  # noqa: ASYNC127 - the one that the lock has
import orjson
import pytest
import structlog
import trio
import typed_settings as ts

from ngos.app import App
from ngos.backplane.line import SEND_S
from ngos.client.client import Client
from ngos.client.trio import connect
from ngos.gateway import roster
from ngos.log.hub import CHANNEL_BATCHES
from ngos.redis import open_redis, parse
from tests.daemons import daemon
from tests.redis_server import RedisServer, redis_server
from tests.servers import Running, running_server
from tests.web.wire import raw_socket

LIMIT_S = 20.0
DURABLE = ("log.*",)


@asynccontextmanager
async def nodes(database_url: str, count: int, **settings: Any) -> AsyncIterator[list[Running]]:
    """Servers on one database that hear of each other."""
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(running_server(database_url, durable_topics=DURABLE, **settings))
            for _ in range(count)
        ]
        for one in running:
            await acquainted(one.app, count)
        yield running


async def acquainted(app: App, count: int) -> None:
    """Wait until a node knows of all others."""
    with trio.fail_after(LIMIT_S):
        while len(app.nodes.roster.present()) < count - 1 or app.nodes.line.lost:  # noqa: ASYNC110 - as an operator
            await trio.sleep(0.01)


@pytest.fixture(params=["postgres", "redis"])
async def backplane(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    """The settings of a backplane."""
    if request.param == "postgres":
        yield {"backplane": "postgres"}
    else:
        async with redis_server() as redis:
            yield {"backplane": "redis", "redis_url": ts.SecretStr(redis.url)}


async def fetch(server: Running, path: str, posted: object = None) -> Any:
    async with httpx.AsyncClient(base_url=server.http, timeout=LIMIT_S) as http:
        response = await (http.get(path) if posted is None else http.post(path, json=posted))
        assert 200 == response.status_code, response.text
        return response.json()


async def test_durable_topics(database_url: str, backplane: dict[str, Any]) -> None:
    """Tries to lose, repeat or reorder events on the way from three nodes that write to three that are watched."""
    async with nodes(database_url, 3, **backplane) as servers, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(server.url)) for server in servers]
        feeds = [await stack.enter_async_context(client.subscribe("log.x")) for client in clients]
        answered: set[int] = set()

        async def write(client: Client) -> None:
            for n in range(60):
                # Now and then one that is too long to go at once.
                payload = {"n": n, "more": "x" * (9_000 if n % 20 == 7 else 0)}
                reply = await client.request("publish", {"topic": "log.x", "type": "t", "payload": payload})
                answered.add(reply.payload["seq"])

        async def watch(feed: Any) -> None:
            seqs = []
            async for event in feed:
                seqs.append(event.seq)
                if len(seqs) == 180:
                    break
            assert list(range(1, 181)) == seqs

        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                for client, feed in zip(clients, feeds, strict=True):
                    nursery.start_soon(write, client)
                    nursery.start_soon(watch, feed)
        assert set(range(1, 181)) == answered


async def test_ephemeral_topics(database_url: str, backplane: dict[str, Any]) -> None:
    """Tries to have an ephemeral event not leave its node, come twice, or in another order than it was published."""
    async with (
        nodes(database_url, 2, **backplane) as (one, two),
        connect(one.url) as here,
        connect(two.url) as there,
        here.subscribe("chat") as own,
        there.subscribe("chat") as other,
    ):
        for n in range(100):
            await here.request("publish", {"topic": "chat", "type": "t", "payload": {"n": n, "x": "ü" * (n * 90)}})
        with trio.fail_after(LIMIT_S):
            for feed in (own, other):
                heard = [await anext(aiter(feed)) for _ in range(100)]
                assert sorted(range(100)) == sorted(event.payload["n"] for event in heard)
                short = [event.payload["n"] for event in heard if event.payload["n"] < 30]
                assert list(range(30)) == short


async def test_a_burst_of_ephemeral_events(database_url: str, backplane: dict[str, Any]) -> None:
    """Tries to lose ephemeral events for coming together, more than may wait for its task one by one."""
    async with (
        nodes(database_url, 2, **backplane) as (one, two),
        connect(two.url) as there,
        there.subscribe("chat") as feed,
    ):
        for n in range(4 * CHANNEL_BATCHES):
            event = {"id": f"e{n}", "type": "t", "timestamp": n, "topic": "chat", "payload": {"n": n}}
            one.app.nodes.line.send("event", b"chat\n" + orjson.dumps(event))
        with trio.fail_after(LIMIT_S):
            for n in range(4 * CHANNEL_BATCHES):
                assert n == (await anext(aiter(feed))).payload["n"]
        await shows(two, "ngos_ephemeral_dropped_total 0.0")


async def test_all_nodes_are_asked(database_url: str, backplane: dict[str, Any]) -> None:
    """Tries to be told of one node's connections where all are asked for, or to reach only those by a broadcast."""
    async with (
        nodes(database_url, 3, **backplane) as servers,
        connect(servers[0].url, client_id="zero") as zero,
        connect(servers[1].url, client_id="one") as one,
        zero.subscribe("tokens"),
        one.subscribe("tokens"),
        one.subscribe("chat"),
    ):
        expected = {
            "active_connections": 2,
            "topics": {"tokens": 2, "chat": 1},
            "total_subscriptions": 3,
            "nodes": 3,
        }
        for server in servers:
            assert expected == await fetch(server, "/ws/stats")
            listed = await fetch(server, "/ws/connections")
            assert (2, {"zero", "one"}) == (listed["count"], {row["client_id"] for row in listed["connections"]})
            assert 3 == listed["nodes"]
        sent = await fetch(servers[2], "/ws/broadcast", {"type": "notice", "payload": {"text": "x" * 20_000}})
        assert {"status": "broadcasted", "recipients": 2} == sent


async def test_a_broadcast_is_one_message(database_url: str, backplane: dict[str, Any]) -> None:
    """Tries to have one broadcast be another on each node, by its id or its time."""
    async with (
        nodes(database_url, 2, **backplane) as (one, two),
        raw_socket(one.http) as here,
        raw_socket(two.http) as there,
    ):
        for socket in (here, there):
            await socket.message()  # the greeting
        await fetch(one, "/ws/broadcast", {"type": "notice", "payload": {"text": "to all"}})
        message = await here.message()
        assert message == await there.message()
        assert ("notice", {"text": "to all"}) == (message["type"], message["payload"])


@pytest.mark.parametrize(
    "question",
    [
        *(b"null", b'["notice"]', b'[7, {}, "b1", 1]', b'["notice", [], "b1", 1]', b'["notice", {}, 1, 1]'),
        *(b'["notice", {}, "b1"]', b'["notice", {}, "b1", "now"]', b'["notice", {}, "b1", 1e300]'),
    ],
)
async def test_a_broadcast_of_another_version(database_url: str, question: bytes) -> None:
    """Tries to have clients be sent what is no message, or a node end, by a broadcast that is made otherwise."""
    async with nodes(database_url, 2, backplane="postgres") as (one, two), raw_socket(two.http) as there:
        await there.message()  # the greeting
        with structlog.testing.capture_logs() as logs:
            one.app.nodes.line.send("ask", b'["0", "broadcast", %s]' % question)
            one.app.nodes.line.send("ask", b'["1", "broadcast", ["notice", {"from": "before"}]]')
            message = await there.message()
        assert ("notice", {"from": "before"}) == (message["type"], message["payload"])
        assert ["ask"] == [line["kind"] for line in logs if line["event"] == "backplane.defect"]


@pytest.mark.parametrize("backplane", ["postgres"], indirect=True)
async def test_status_is_of_all(database_url: str, backplane: dict[str, Any]) -> None:
    """Tries to be told by `system.status` of one node's connections as if they were all."""
    async with (
        nodes(database_url, 2, **backplane, status_interval_s=0.2) as (one, two),
        connect(one.url) as here,
        connect(two.url) as there,
        here.subscribe("system") as feed,
        there.subscribe("tokens"),
    ):
        with trio.fail_after(LIMIT_S):
            async for event in feed:
                told = event.payload
                if (2, 2, 2) == (told["connections"], told["subscriptions"], told["topics"]):
                    break


async def test_a_node_that_dies_is_gone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have the connections of a node that was killed be counted on."""
    monkeypatch.setattr(roster, "GONE_S", 2.5)
    async with (
        running_server(database_url, backplane="postgres") as server,
        daemon(database_url, "--backplane", "postgres") as other,
        connect(other.url, client_id="victim"),
    ):
        await acquainted(server.app, 2)
        assert 1 == (await fetch(server, "/ws/connections"))["count"]
        other.process.kill()
        await other.ends()
        with trio.fail_after(LIMIT_S):
            while server.app.nodes.roster.present():  # noqa: ASYNC110 - as an operator
                await trio.sleep(0.05)
        assert 1 == (await fetch(server, "/ws/stats"))["nodes"]
        assert 0 == (await fetch(server, "/ws/connections"))["count"]


async def test_a_node_that_leaves_is_gone_at_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a node that has ended be asked, and waited for."""
    # On a busy machine Postgres may take longer for the goodbye than a stop takes for it.
    monkeypatch.setattr("ngos.gateway.nodes.LEAVE_S", LIMIT_S)
    async with running_server(database_url, backplane="postgres") as server:
        async with running_server(database_url, backplane="postgres"):
            await acquainted(server.app, 2)
        with trio.fail_after(roster.GONE_S / 2):
            while server.app.nodes.roster.present():  # noqa: ASYNC110 - as an operator
                await trio.sleep(0.01)


async def degraded(server: Running, *, yes: bool) -> None:
    """Wait until a node says that it does without its backplane, or does not any more."""
    with trio.fail_after(LIMIT_S):
        while ("degraded" in await fetch(server, "/readyz")) != yes:  # noqa: ASYNC110 - as an operator
            await trio.sleep(0.02)


async def test_without_the_bus_the_log_is_read(database_url: str) -> None:
    """Tries to lose events while Redis is gone, to be told that all is well then, or that the server can't serve."""
    async with redis_server() as redis:
        settings = {"backplane": "redis", "redis_url": ts.SecretStr(redis.url)}
        async with (
            nodes(database_url, 2, **settings) as (one, two),
            connect(one.url) as here,
            connect(two.url) as there,
            there.subscribe("tokens") as feed,
        ):
            await create(here, 3)
            await redis.kill()
            await degraded(two, yes=True)
            await create(here, 3)
            await came(feed, 6)
            await redis.start()
            for server in (one, two):
                await degraded(server, yes=False)
                await acquainted(server.app, 2)
            await create(here, 3)
            await came(feed, 3, first=7)
            await shows(two, "ngos_backplane_breaks_total 1.0", "ngos_backplane_works 1.0", "ngos_nodes 2.0")
            await shows(one, 'ngos_backplane_sent_total{kind="log"}', "ngos_backplane_forged_total 0.0")


async def shows(server: Running, *lines: str) -> None:
    """Look for lines in what a node tells Prometheus."""
    async with httpx.AsyncClient(base_url=server.http, timeout=LIMIT_S) as http:
        text = (await http.get("/metrics")).text
    for line in lines:
        assert line in text


async def create(client: Client, count: int) -> None:
    for _ in range(count):
        await client.request("token.create", {})


async def came(feed: Any, count: int, first: int = 1) -> None:
    with trio.fail_after(LIMIT_S):
        for seq in range(first, first + count):
            event = await anext(aiter(feed))
            assert seq == event.seq


async def test_redis_that_is_held_up_holds_up_nobody(database_url: str) -> None:
    """Tries to have a command wait for a Redis that takes everything and answers nothing."""
    async with redis_server() as redis:
        settings = {"backplane": "redis", "redis_url": ts.SecretStr(redis.url)}
        async with (
            nodes(database_url, 2, **settings) as (one, two),
            connect(one.url) as here,
            connect(two.url) as there,
            there.subscribe("tokens") as feed,
        ):
            redis.stop()
            try:
                began = trio.current_time()
                await create(here, 5)
                assert trio.current_time() - began < SEND_S
                await came(feed, 5)
            finally:
                redis.go_on()


async def test_what_redis_is_told_by_strangers(database_url: str) -> None:
    """Tries to have clients be given an event that only somebody at the bus has made up."""
    async with redis_server() as redis:
        settings = {"backplane": "redis", "redis_url": ts.SecretStr(redis.url)}
        async with (
            nodes(database_url, 1, **settings) as (one,),
            connect(one.url) as here,
            here.subscribe("chat") as feed,
        ):
            channel = await channel_of(redis)
            for body in (b'["chat"]', b"0" * 48 + b'[["event",9]]\nchat\n{}', b"\xff" * 100):
                await say(redis, channel, body)
            with trio.fail_after(LIMIT_S):
                while one.app.nodes.line.forged < 3:  # noqa: ASYNC110 - Redis may tell its subscribers last
                    await trio.sleep(0.01)
            await here.request("publish", {"topic": "chat", "type": "true"})
            with trio.fail_after(LIMIT_S):
                assert "true" == (await anext(aiter(feed))).type
            assert one.app.nodes.line.forged == 3


async def channel_of(redis: RedisServer) -> str:
    async with open_redis(parse(redis.url)) as client:
        (channel,) = await client.pubsub_channels("ngos:*")
        return str(channel.decode())


async def say(redis: RedisServer, channel: str, body: bytes) -> None:
    async with open_redis(parse(redis.url)) as client:
        await client.publish(channel, body)
