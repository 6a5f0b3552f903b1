"""Everybody who takes part in a run, started in the order in which they need each other.

Promises: when `begin` returns, all nodes serve, who watches is subscribed, and the writers run. Runs on Trio.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

from chaos_parts.faults import Victims
from chaos_parts.listener import READY
from chaos_parts.mix import WATCHED
from chaos_parts.plan import Kind
from chaos_parts.postgres import Postgres
from chaos_parts.probe import Probe
from chaos_parts.processes import Tended, until
from chaos_parts.redis import make_redis
from chaos_parts.server import Node, clean_environment, make_node, serving
from chaos_parts.watchers import Watcher, tended_watcher

SUBSCRIBE_S = 30.0


@attrs.frozen(kw_only=True)
class Options:
    """What is asked for."""

    seed: int
    kills: int
    seconds: float
    writers: int
    watchers: int
    kinds: Sequence[Kind]
    per_s: float
    slots: int
    keep: bool
    nodes: int = 1
    backplane: str = "none"
    lasting_s: float | None = None
    around_s: float = 0.0
    """Seconds before, during and after each fault in which latencies are measured; 0: they are not."""


@attrs.frozen
class Listener:
    """A process that writes down when events came, at one node."""

    process: Tended
    journal: Path

    def lines(self) -> list[bytes]:
        return self.journal.read_bytes().split(b"\n")[:-1]


@attrs.frozen
class Cast:
    """Those who are hurt, and those who only listen."""

    victims: Victims
    listeners: Sequence[Listener]

    def servers(self) -> list[Tended]:
        """The servers' processes."""
        return [node.server for node in self.victims.nodes]

    def all(self) -> list[Tended]:
        """Every process that is not to end by itself."""
        victims = self.victims
        redis = [] if victims.redis is None else [victims.redis.process]
        clients = [writer for writer, _ in victims.writers] + [watcher.process for watcher in victims.watchers]
        return [*self.servers(), *redis, *clients, *(listener.process for listener in self.listeners)]


async def begin(
    nursery: trio.Nursery, options: Options, directory: Path, postgres: Postgres, disk: Path | None
) -> Cast:
    """Start Redis, the nodes, who watches, and then who writes. Raises ChaosError."""
    redis = None
    if options.backplane == "redis":
        redis = make_redis(directory)
        await nursery.start(redis.process.run)
        await redis.answering()
    names = ["server"] if options.nodes == 1 else [f"node-{number}" for number in range(options.nodes)]
    redis_url = None if redis is None else redis.url
    nodes = [make_node(name, postgres.url, options.backplane, redis_url, directory, options.kinds) for name in names]
    for node in nodes:
        await nursery.start(node.proxy.serve)
        await nursery.start(node.server.run)
    for node in nodes:
        await serving(node.port, node.server)
    watchers = [tended_watcher(number, nodes, directory) for number in range(options.watchers)]
    listeners = [_listener(number, node, directory) for number, node in enumerate(nodes) if options.around_s]
    for process in (*(watcher.process for watcher in watchers), *(listener.process for listener in listeners)):
        await nursery.start(process.run)
    for watcher in watchers:
        await _subscribed(watcher)
    for listener in listeners:
        await _listening(listener.process)
    writers = [_writer(number, options, nodes, directory) for number in range(options.writers)]
    for writer, _ in writers:
        await nursery.start(writer.run)
    probe = Probe([node.proxy_url for node in nodes], directory / "probe.jsonl")
    return Cast(Victims(nodes, postgres, redis, writers, watchers, disk, probe), listeners)


async def _subscribed(watcher: Watcher) -> None:
    await until(
        lambda: watcher.has_all(dict.fromkeys(WATCHED, 0)),
        SUBSCRIBE_S,
        lambda: f"{watcher.process.name} did not subscribe: {watcher.process.last_words()}",
    )


async def _listening(process: Tended) -> None:
    await until(
        lambda: process.last_words().startswith(READY),
        SUBSCRIBE_S,
        lambda: f"{process.name} did not subscribe: {process.last_words()}",
    )


def writers_nodes(number: int, nodes: int) -> list[int]:
    """The places of a writer's nodes, in its order. Every other one begins at its own and goes on to the next.

    The others, for whom the client comes back by itself, stay at one: a client has one address.
    """
    first = number % nodes
    return [first] if number % 2 else [(first + step) % nodes for step in range(nodes)]


def _writer(number: int, options: Options, nodes: Sequence[Node], directory: Path) -> tuple[Tended, Path]:
    name = f"w{number}"
    journal = directory / f"{name}.jsonl"
    urls = [nodes[place].proxy_url for place in writers_nodes(number, len(nodes))]
    command = [sys.executable, "-m", "chaos_parts.writer", "--url", *urls, "--journal", str(journal)]
    command += ["--client-id", name, "--seed", str(options.seed)]
    command += ["--per-s", str(options.per_s), "--slots", str(options.slots)]
    command += ["--steady"] if number % 2 else []
    return Tended(name, command, clean_environment(), directory / f"{name}.log"), journal


def _listener(number: int, node: Node, directory: Path) -> Listener:
    name = f"listener-{number}"
    journal = directory / f"{name}.jsonl"
    command = [sys.executable, "-m", "chaos_parts.listener", "--url", node.url, "--journal", str(journal)]
    command += ["--client-id", name]
    return Listener(Tended(name, command, clean_environment(), directory / f"{name}.log"), journal)
