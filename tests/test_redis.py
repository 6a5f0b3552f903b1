"""Redis by its addresses: a single server, a Cluster, Sentinels."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
from coredis.tokens import PureToken
from hypothesis import given
from hypothesis import strategies as st

from ngos.errors import RedisUnavailable, SetupError
from ngos.redis import Address, Client, open_publisher, open_redis, parse
from tests.backplane.test_line import lines, on_redis
from tests.programs import needed
from tests.redis_server import RedisServer, redis_server

LIMIT_S = 20.0


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address("redis", (("h", 6379),))),
        ("redis://u:p%40%2F@[::1]:7/3", Address("redis", (("::1", 7),), db=3, username="u", password="p@/")),
        ("rediss://:p@h", Address("redis", (("h", 6379),), is_tls=True, password="p")),
        ("redis+sentinel://a,b:1/main/2", Address("redis+sentinel", (("a", 26379), ("b", 1)), service="main", db=2)),
        ("rediss+cluster://u:p@a:1,b", Address("redis+cluster", (("a", 1), ("b", 6379)), "", "", 0, True, "u", "p")),
        ("unix:///run/redis.sock", Address("unix", path="/run/redis.sock")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    """Tries to have an address be read as another."""
    assert address == parse(url)
    assert "p@" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        *("", "redis", "redis:", "redis://", "redis:///0", "http://h", "redis://a,b", "redis://h/x", "redis://h/1/2"),
        *(
            "redis://h:99999",
            "redis://h:x",
            "redis://h?db=1",
            "redis://h#x",
            "redis+sentinel://h",
            "redis+sentinel:///m",
        ),
        *("redis+cluster://h/1", "redis+cluster://h,,k", "unix://host/path", "unix://", "redis://[::1", "rediss:h"),
    ],
)
def test_no_addresses(url: str) -> None:
    """Tries to start with an address that is none, or to have what may be secret of it be told."""
    with pytest.raises(SetupError, match="the address of Redis is none of"):
        parse(url)


@given(st.text())
def test_any_text(text: str) -> None:
    """Tries to make the reading of an address end in anything but an address or a line that says what one is."""
    for url in (text, f"redis://{text}", f"redis+sentinel://{text}"):
        try:
            parse(url)
        except SetupError:
            pass


async def cli(*arguments: str) -> None:
    await trio.run_process([needed("redis-cli"), *arguments], capture_stdout=True)


async def eventually(succeeds: Callable[[], Awaitable[None]]) -> None:
    """Wait until something that may fail does not any more."""
    with trio.fail_after(LIMIT_S):
        while True:
            try:
                await succeeds()
            except (RedisUnavailable, subprocess.CalledProcessError):
                await trio.sleep(0.1)
            else:
                return


async def asks(url: str) -> None:
    async with open_redis(parse(url)) as client:
        await client.set("ngos-test", b"value")
        assert b"value" == await client.get("ngos-test")


@asynccontextmanager
async def redis_cluster() -> AsyncIterator[list[RedisServer]]:
    """Three servers that are a Cluster."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(redis_server("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"))
            for _ in range(3)
        ]
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        await cli("--cluster", "create", *addresses, "--cluster-yes")
        yield servers


async def test_cluster() -> None:
    """Tries to have the backplane, or a value, not come through where Redis is a Cluster."""
    async with redis_cluster() as servers:
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
        await eventually(partial(asks, url))
        async with lines(on_redis(url), on_redis(url)) as (one, two):
            one.line.send("t", b"by the cluster")
            assert [b"by the cluster"] == await two.has(1)


async def test_cluster_keeps_the_order() -> None:
    """Tries to have bundles of a node go by several members, where one overtakes the other and makes it late."""
    async with redis_cluster() as servers:
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
        await eventually(partial(asks, url))
        async with lines(on_redis(url)) as (one,):
            for number in range(50):
                one.line.send("t", b"%d" % number)
                await one.line.outbox.sent_all()
            publishes = [await published(server) for server in servers]
        assert [0, 0] == sorted(publishes)[:2]
        assert max(publishes) >= 50


async def test_cluster_is_told_nothing_twice() -> None:
    """Tries to have what was under way when its connection broke be published again, which is heard as late."""
    async with redis_cluster() as servers, AsyncExitStack() as stack:
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
        await eventually(partial(asks, url))
        members = [await stack.enter_async_context(open_redis(parse(server.url))) for server in servers]
        for member in members:
            await member.client_pause(60_000, PureToken.WRITE)
        with trio.fail_after(LIMIT_S), pytest.raises(RedisUnavailable):
            await publish_and_be_cut(url, members)


async def publish_and_be_cut(url: str, members: list[Client]) -> None:
    async with open_redis(parse(url)) as client, open_publisher(client) as publisher, trio.open_nursery() as nursery:
        nursery.start_soon(cut_who_publishes, members)
        await publisher.publish("channel", b"once")


async def cut_who_publishes(members: list[Client]) -> None:
    """Wait until a PUBLISH is held up, and end its connection."""
    while True:
        for member in members:
            for connection in await member.client_list():
                if connection["cmd"] == "publish":
                    await member.client_kill(identifier=int(connection["id"]))
                    return
        await trio.lowlevel.checkpoint()


async def published(server: RedisServer) -> int:
    """How often it was told to PUBLISH."""
    async with open_redis(parse(server.url)) as client:
        return int((await client.info("commandstats")).get("cmdstat_publish", {}).get("calls", 0))


async def test_a_defect_of_the_block_is_none_of_redis() -> None:
    """Tries to have what is our own mistake be taken for a Redis that is away, and tried again for ever."""
    async with redis_server() as server:
        for defect in (TypeError, ValueError, LookupError):
            with pytest.RaisesGroup(pytest.RaisesExc(defect, match="ours")):
                async with open_redis(parse(server.url)) as client:
                    await client.ping()
                    raise defect("ours")
        with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="invalid literal")):
            async with open_redis(parse(server.url)) as client:
                await client.set("n", "none")
                int(await client.get("n"))


async def test_sentinel() -> None:
    """Tries to lose the backplane for good when the server that Sentinel named dies, and another takes its place."""
    async with redis_server() as first, redis_server("--replicaof", "127.0.0.1", str(first.port)) as second:
        watched = (
            f"sentinel monitor main 127.0.0.1 {first.port} 1\nsentinel down-after-milliseconds main 60000\n"
            "sentinel failover-timeout main 2000\n"
        )
        async with redis_server("--sentinel", config=watched) as sentinel:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
            await eventually(partial(asks, url))
            await eventually(partial(knows_a_replica, sentinel))
            async with lines(on_redis(url), on_redis(url)) as (one, two):
                one.line.send("t", b"before")
                assert [b"before"] == await two.has(1)
                # Not before: it would take one that stands still for a moment for one that is gone.
                async with open_redis(parse(sentinel.url)) as client:
                    await client.sentinel_set("main", "down-after-milliseconds", 500)
                await first.kill()
                await one.works(yes=False)
                await one.works()
                await two.works()
                one.line.send("t", b"after")
                assert [b"before", b"after"] == await two.has(2)
                assert second.process is not None


async def knows_a_replica(sentinel: RedisServer) -> None:
    async with open_redis(parse(sentinel.url)) as client:
        if not await client.sentinel_replicas("main"):
            raise RedisUnavailable("none yet")
