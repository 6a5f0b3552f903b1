"""A server under test: what a contestant is, and how it is started and stopped.

Promises: each server has the core that its contestant says, core 0 without more; it is ready when `start` returns, and
stopped when the nursery ends. A Redis that is asked for is ours alone. Knows no contestant by name.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import attrs
import trio
from chaos_parts.processes import ChaosError
from chaos_parts.server import quiet_port

HERE = Path(__file__).resolve().parent

START_S = 30.0
REDIS_S = 10.0
LAST_WORDS_BYTES = 4000
FILES_BESIDE = 100  # what a server or a load has open beside its connections


class BenchError(Exception):
    """The benchmark can't be trusted or can't go on; the text says why."""


@attrs.frozen
class Place:
    """Where a server is to be: its port, and its database and Redis, if it asked for them."""

    port: int
    database_url: str
    redis_url: str


def _none() -> None:
    return None


@attrs.frozen
class Contestant:
    """A server to measure: its name, how to start it, and what it speaks."""

    name: str
    command: Callable[[Place], Sequence[str]]
    environment: Callable[[Place], dict[str, str]] = lambda _place: {}
    dialect: str = "plain"
    cores: tuple[int | None, ...] = (0,)  # a server on each, all on one database; None: where the kernel wants
    needs_database: bool = False
    needs_redis: bool = False
    prepare: Callable[[str], Awaitable[None]] | None = None  # what its database has to hold before it starts
    ready_path: str | None = None  # without one, it is ready when it accepts connections
    missing: Callable[[], str | None] = _none  # what keeps it from running here; may install it, and block


@attrs.frozen
class Node:
    """One process of a contestant, with all below it."""

    place: Place
    pid: int
    _log: IO[bytes]

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LAST_WORDS_BYTES))
        return self._log.read().decode(errors="replace")


@attrs.frozen
class Running:
    """A contestant that answers, on each of its nodes."""

    contestant: Contestant
    database_url: str
    nodes: Sequence[Node]

    @property
    def name(self) -> str:
        return self.contestant.name

    def last_words(self) -> str:
        """The end of what its nodes wrote to stderr."""
        return "\n".join(words for node in self.nodes if (words := node.last_words().strip()))


def pinned(core: int | None, command: Sequence[str]) -> list[str]:
    """The command on the first (0) or the last (1) core that we may use; unpinned for None, and where we can't say."""
    if core is None or not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
        return list(command)
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[-1] if core else cores[0]), *command]


def allow_connections(number: int) -> None:
    """Let us, and so all that we start, open as many files as we may; raises BenchError where that is not enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < number + FILES_BESIDE:
        raise BenchError(
            f"{number} connections need more open files than the hard limit, {hard} (ulimit -Hn): raise it"
        )


async def start(nursery: trio.Nursery, contestant: Contestant, database_url: str, redis_url: str) -> Running:
    """Start a contestant's servers, one by one, and wait until they are ready. The nursery's end stops them."""
    nodes = [
        await _start(nursery, contestant, core, Place(free_port(), database_url, redis_url))
        for core in contestant.cores
    ]
    return Running(contestant, database_url, nodes)


async def _start(nursery: trio.Nursery, contestant: Contestant, core: int | None, place: Place) -> Node:
    log = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process
    process: trio.Process = await nursery.start(
        partial(
            trio.run_process,
            pinned(core, contestant.command(place)),
            env={**os.environ, **contestant.environment(place)},
            cwd=HERE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,  # if it ends too soon, who talks to it will notice
        )
    )
    node = Node(place, process.pid, log)
    if await _is_ready_in(START_S, process, place.port, contestant.ready_path):
        return node
    raise BenchError(f"{contestant.name} did not get ready: {node.last_words()}")


async def start_redis(nursery: trio.Nursery) -> str:
    """Start a Redis that keeps nothing, and wait until it is there; returns its URL. The nursery's end stops it."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    try:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.DEVNULL, check=False)
        )
    except OSError as exc:
        raise BenchError(f"no Redis: {exc}") from None
    if await _is_ready_in(REDIS_S, process, port, None):
        return f"redis://127.0.0.1:{port}"
    raise BenchError("Redis did not start")


async def _is_ready_in(seconds: float, process: trio.Process, port: int, path: str | None) -> bool:
    """Wait for it; whether it became ready in that time."""
    deadline = trio.current_time() + seconds
    while process.poll() is None and trio.current_time() < deadline:
        if await trio.to_thread.run_sync(_is_ready, port, path):
            return True
        await trio.sleep(0.05)
    return False


def free_port() -> int:
    """A port that nobody has: where it can be, one that nobody is given either, until a server of ours is there."""
    try:
        return quiet_port()
    except (ChaosError, OSError):  # the kernel gives them all, or is not Linux
        pass
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_ready(port: int, path: str | None) -> bool:
    try:
        if path is None:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False
