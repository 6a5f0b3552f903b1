"""A server under test: what a contestant is, and how it is started and stopped.

Promises: the server has core 0 for itself among our processes; it is ready when `start` returns, and stopped when
the nursery ends. Knows no contestant by name.
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

HERE = Path(__file__).resolve().parent

START_S = 30.0
LAST_WORDS_BYTES = 4000
FILES_BESIDE = 100  # what a server or a load has open beside its connections


class BenchError(Exception):
    """The benchmark can't be trusted or can't go on; the text says why."""


@attrs.frozen
class Place:
    """Where a server is to be: its port, and its database, if it asked for one."""

    port: int
    database_url: str


def _none() -> None:
    return None


@attrs.frozen
class Contestant:
    """A server to measure: its name, how to start it, and what it speaks."""

    name: str
    command: Callable[[Place], Sequence[str]]
    environment: Callable[[Place], dict[str, str]] = lambda _place: {}
    dialect: str = "plain"
    needs_database: bool = False
    prepare: Callable[[str], Awaitable[None]] | None = None  # what its database has to hold before it starts
    ready_path: str | None = None  # without one, it is ready when it accepts connections
    missing: Callable[[], str | None] = _none  # what keeps it from running here; may install it, and block


@attrs.frozen
class Running:
    """A server that answers."""

    contestant: Contestant
    place: Place
    pid: int
    _log: IO[bytes]

    @property
    def name(self) -> str:
        return self.contestant.name

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LAST_WORDS_BYTES))
        return self._log.read().decode(errors="replace")


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command on the first (0) or the last (1) core that we may use; unpinned where that can't be said."""
    if not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
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


async def start(nursery: trio.Nursery, contestant: Contestant, database_url: str) -> Running:
    """Start a server on core 0 and wait until it is ready. The nursery's end stops it."""
    place = Place(free_port(), database_url)
    log = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process
    process: trio.Process = await nursery.start(
        partial(
            trio.run_process,
            pinned(0, contestant.command(place)),
            env={**os.environ, **contestant.environment(place)},
            cwd=HERE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,  # if it ends too soon, who talks to it will notice
        )
    )
    server = Running(contestant, place, process.pid, log)
    deadline = trio.current_time() + START_S
    while process.poll() is None and trio.current_time() < deadline:
        if await trio.to_thread.run_sync(_is_ready, place.port, contestant.ready_path):
            return server
        await trio.sleep(0.05)
    raise BenchError(f"{contestant.name} did not get ready: {server.last_words()}")


def free_port() -> int:
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
