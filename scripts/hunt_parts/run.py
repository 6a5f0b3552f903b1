"""A hunt, from an empty database to the verdict: nodes, a Redis of their own, those who write, those who read.

Promises: who writes does so on the first node, who reads on all. Whatever happens, what it started is gone afterwards.
Runs on Trio.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import urlopen

import trio
from attrs import define, field, frozen
from bench_contestants import WITHOUT_LIMITS
from bench_postgres import open_databases
from chaos_parts.processes import ChaosError, Tended
from chaos_parts.server import clean_environment, quiet_port, serving

from hunt_parts.judge import Verdict, Written, judge
from hunt_parts.traffic import World, mark_of
from ngos.client.trio import connect
from ngos.log import store
from ngos.postgres.driver import TrioConnection

LIMIT_S = 30.0
SETTINGS = {
    **WITHOUT_LIMITS,
    "NGOS_LOG_LEVEL": "warning",
    "NGOS_RETENTION_AGE_S": "1e9",
    "NGOS_RETENTION_EVENTS": "1000000000",
}
_ANSWERS = re.compile(r'^ngos_cache_answers_total\{source="(\w+)"\} (\S+)', re.MULTILINE)
_INVALIDATED = re.compile(r"^ngos_cache_invalidated_total (\S+)", re.MULTILINE)


@frozen(kw_only=True)
class Options:
    """What is asked for. `cache_bytes` 0: without a cache, to compare with."""

    seconds: float
    nodes: int
    readers: int
    writers: int
    writes_per_s: float
    tokens: int
    edges: int
    cache_bytes: int
    backplane: str
    redis: bool
    seed: int
    database_url: str | None


@define(eq=False)
class Account:
    """What a hunt came to. `sources` has where each node's answers came from."""

    verdict: Verdict
    writes: int
    refused: Counter[str]
    sources: list[Counter[str]] = field(factory=list)


async def hunt(options: Options, directory: Path, say: Callable[[str], None]) -> Account:
    """Do it. Raises BenchError and ChaosError where it can't go on."""
    async with open_databases(options.database_url) as databases, AsyncExitStack() as stack:
        database_url = await databases.create()
        nursery = await stack.enter_async_context(_killed_at_end())
        redis_url = await _redis(nursery, directory) if options.redis else None
        ports = [
            await _node(nursery, number, options, database_url, redis_url, directory) for number in _nodes(options)
        ]
        say(f"{len(ports)} nodes serve")
        world = World(Random(options.seed))
        await _traffic(world, options, ports, say)
        sources = [await trio.to_thread.run_sync(_sources, port) for port in ports]
        log, epochs = await _log(database_url)
        say(f"{len(world.reads)} reads and {len(world.sent)} writes to be judged")
        verdict = judge(world.reads, _written(world, log), log, epochs)
        return Account(verdict, len(world.sent), world.refused, sources)


def _nodes(options: Options) -> range:
    return range(1, options.nodes + 1)


async def _traffic(world: World, options: Options, ports: list[int], say: Callable[[str], None]) -> None:
    async with AsyncExitStack() as stack:

        async def client(port: int) -> Any:
            return await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/ws"))

        writers = [await client(ports[0]) for _ in range(options.writers)]
        await world.fill(writers[0], options.tokens, options.edges)
        say(f"{len(world.tokens)} tokens and {len(world.edges)} edges are there")
        readers = [(await client(port), node) for node, port in enumerate(ports, 1) for _ in range(options.readers)]
        with trio.move_on_after(options.seconds):
            async with trio.open_nursery() as nursery:
                for writer in writers:
                    nursery.start_soon(world.write, writer, options.writes_per_s / options.writers)
                for reader, node in readers:
                    nursery.start_soon(world.read, reader, node)


def _written(world: World, log: dict[str, list[tuple[str, dict[str, Any]]]]) -> list[Written]:
    numbers = {
        mark_of(type_, payload): (topic, seq)
        for topic, events in log.items()
        for seq, (type_, payload) in enumerate(events, 1)
    }
    return [Written(sent.sent_s, sent.answered_s, *numbers[sent.mark]) for sent in world.sent]


async def _log(database_url: str) -> tuple[dict[str, list[tuple[str, dict[str, Any]]]], set[str]]:
    """The events of both topics, in order."""
    found = {}
    connection: TrioConnection[Any] = await TrioConnection.connect(database_url, autocommit=True)
    async with connection:
        # One snapshot: a write that was in flight when the time was over may be committed between two of these queries.
        await connection.execute("begin isolation level repeatable read, read only")
        for topic in ("graph", "tokens"):
            rows = await connection.execute(
                "select type, payload from events join topics using (topic_id) where topic = %s order by events.seq",
                [topic],
            )
            found[topic] = [(type_, payload) for type_, payload in await rows.fetchall()]
        extents = await store.read_extents(connection, ["graph", "tokens"])
    for topic, extent in extents.items():
        if extent.seq != len(found[topic]):
            raise ChaosError(f"the log of {topic} is at {extent.seq}, and has {len(found[topic])} events")
    return found, {extent.epoch for extent in extents.values()}


@asynccontextmanager
async def _killed_at_end() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


async def _node(
    nursery: trio.Nursery, number: int, options: Options, database_url: str, redis_url: str | None, directory: Path
) -> int:
    port = quiet_port()
    environment = clean_environment() | SETTINGS
    environment |= {"NGOS_DATABASE_URL": database_url, "NGOS_BACKPLANE": options.backplane}
    environment |= {"NGOS_CACHE_BYTES": str(options.cache_bytes)}
    if redis_url is not None:
        environment["NGOS_REDIS_URL"] = redis_url
    command = [sys.executable, "-m", "ngos", "serve", "--port", str(port)]
    node = Tended(f"node {number}", command, environment, directory / f"node{number}.log")
    await nursery.start(node.run)
    await serving(port, node)
    return port


async def _redis(nursery: trio.Nursery, directory: Path) -> str:
    program = shutil.which("redis-server")
    if program is None:
        raise ChaosError("redis-server is not installed: --no-redis hunts without it")
    port = quiet_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    await nursery.start(Tended("redis", command, clean_environment(), directory / "redis.log").run)
    with trio.move_on_after(LIMIT_S):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.02)
            else:
                await stream.aclose()
                return f"redis://127.0.0.1:{port}"
    raise ChaosError(f"redis-server does not answer within {LIMIT_S:g} s")


def _sources(port: int) -> Counter[str]:
    """Where a node's answers came from. Blocks."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT_S) as response:
        text = response.read().decode()
    found = Counter({source: int(float(count)) for source, count in _ANSWERS.findall(text)})
    return found + Counter({"invalidated": int(float(_INVALIDATED.findall(text)[0]))})
