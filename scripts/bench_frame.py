"""The frame of every benchmark: contestants, cells, runs in turn, medians.

Promises: the server under test has core 0 for itself among our processes, the load core 1. Postgres is not pinned:
it is one server for all contestants, often not ours to move, and with two cores any core of its own would be the
one of the server or of the load; so the kernel places it, by the same rule for everyone. Contestants take turns
within each repetition, and who begins changes, so that what else happens on the machine meets them alike. Each has
a fresh database, with ngos's own migrations, so the same tables and indexes; before each run there is a checkpoint,
so that no run pays for the one before it. The number of rows is checked against the number of replies. Whatever
was started is stopped and whatever was made is dropped, on Ctrl-C too.

Runs on Trio. Imports ngos.postgres only.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import IO, Any
from urllib.parse import quote, urlencode
from urllib.request import urlopen

import attrs
import orjson
import psycopg
import trio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ngos.postgres.driver import TrioConnection
from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.migrate import migrate

HERE = Path(__file__).resolve().parent

START_S = 30.0
PATIENCE_S = 40.0
DROP_S = 10.0
LAST_WORDS_BYTES = 4000

Numbers = dict[str, float]


class BenchError(Exception):
    """The benchmark can't be trusted or can't go on; the text says why."""


@attrs.frozen
class Contestant:
    """A server to measure: its name, and how to start it on a port and a database."""

    name: str
    command: Callable[[int, str], Sequence[str]]
    environment: Callable[[int, str], dict[str, str]] = lambda _port, _database_url: {}


@attrs.frozen
class Cell:
    """One load: its name in the table, and its arguments to bench_load.py."""

    name: str
    load: tuple[str, ...]


@attrs.frozen
class Plan:
    """What to measure, and for how long."""

    cells: Sequence[Cell]
    contestants: Sequence[Contestant]
    seconds: float
    warm_up_s: float
    repeats: int


@attrs.frozen
class Result:
    """One run of one contestant in one cell."""

    cell: str
    contestant: str
    numbers: Numbers


@attrs.frozen
class _Running:
    name: str
    port: int
    pid: int
    database_url: str
    log: IO[bytes]

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        self.log.seek(max(0, self.log.tell() - LAST_WORDS_BYTES))
        return self.log.read().decode(errors="replace")


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command on the first (0) or the last (1) core that we may use; unpinned where that can't be said."""
    if not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
        return list(command)
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[-1] if core else cores[0]), *command]


async def measure(plan: Plan, server_url: str, on_result: Callable[[Result], None]) -> dict[str, Any]:
    """Run the plan against one Postgres; return how that is set up. `on_result` hears of each run as it ends."""
    async with _admin(server_url) as admin:
        about = await _durability(admin)
        made: list[str] = []
        try:
            async with trio.open_nursery() as nursery:
                servers = []
                for contestant in plan.contestants:
                    made.append(database_url := await _create_database(admin, server_url))
                    servers.append(await _start(nursery, contestant, database_url))
                for repeat in range(plan.repeats):
                    for cell in plan.cells:
                        for server in servers if repeat % 2 == 0 else reversed(servers):
                            await admin.execute("checkpoint")
                            on_result(Result(cell.name, server.name, await _run(plan, cell, server)))
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(DROP_S, shield=True):
                await _drop_databases(admin, made)
    return about


async def _run(plan: Plan, cell: Cell, server: _Running) -> Numbers:
    """One window of load on a server that runs; the rows it says it made are really there."""
    before = await _rows(server.database_url)
    command = pinned(1, [sys.executable, str(HERE / "bench_load.py")])
    command += ["--url", f"ws://127.0.0.1:{server.port}/ws", "--server-pid", str(server.pid)]
    command += ["--seconds", str(plan.seconds), "--warm-up", str(plan.warm_up_s), *cell.load]
    with trio.fail_after(plan.seconds + plan.warm_up_s + PATIENCE_S):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        said = f"{done.stderr.decode(errors='replace').strip()}\n{server.last_words()}"
        raise BenchError(f"{server.name}, {cell.name}: {said}")
    numbers: Numbers = orjson.loads(done.stdout)
    made = await _rows(server.database_url) - before
    if made != numbers["replies"]:
        raise BenchError(f"{server.name}, {cell.name}: {numbers['replies']} replies, but {made} rows")
    return numbers


async def _start(nursery: trio.Nursery, contestant: Contestant, database_url: str) -> _Running:
    """Start a server on core 0 and wait until it is ready. The nursery's end stops it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process
    process: trio.Process = await nursery.start(
        partial(
            trio.run_process,
            pinned(0, contestant.command(port, database_url)),
            env={**os.environ, **contestant.environment(port, database_url)},
            cwd=HERE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,  # if it ends too soon, who talks to it will notice
        )
    )
    server = _Running(contestant.name, port, process.pid, database_url, log)
    deadline = trio.current_time() + START_S
    while process.poll() is None and trio.current_time() < deadline:
        if await trio.to_thread.run_sync(_answers, f"http://127.0.0.1:{port}/readyz"):
            return server
        await trio.sleep(0.05)
    raise BenchError(f"{contestant.name} did not get ready: {server.last_words()}")


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@asynccontextmanager
async def open_postgres(url: str | None) -> AsyncIterator[str]:
    """The server that `url` names, else an embedded one in a temporary directory; yields its conninfo."""
    if url is not None:
        yield url
        return
    # Short, so that the socket fits; not under a private home, so that Postgres may enter it.
    with tempfile.TemporaryDirectory(prefix="ngos-bench-", dir="/tmp") as directory:
        async with embedded_postgres(Path(directory) / "data", start_s=START_S) as conninfo:
            yield conninfo


@asynccontextmanager
async def _admin(server_url: str) -> AsyncIterator[TrioConnection[Any]]:
    try:
        connection = await TrioConnection.connect(server_url, autocommit=True)
    except psycopg.Error as exc:
        raise BenchError(f"can't reach Postgres: {str(exc).strip()}") from exc
    async with connection:
        yield connection


async def _durability(admin: TrioConnection[Any]) -> dict[str, str]:
    """What Postgres does for durability; it must do all of it."""
    about = {}
    for name in ("server_version", "shared_buffers", "fsync", "synchronous_commit", "full_page_writes"):
        row = await (await admin.execute("select current_setting(%s)", [name])).fetchone()
        assert row is not None
        about[name] = row[0]
    off = [name for name in ("fsync", "synchronous_commit", "full_page_writes") if about[name] == "off"]
    if off:
        raise BenchError(f"this Postgres is not durable: {', '.join(off)} off")
    return about


async def _create_database(admin: TrioConnection[Any], server_url: str) -> str:
    """A fresh database with ngos's schema, as a URL that libpq and asyncpg both read."""
    name = f"ngos_bench_{uuid.uuid4().hex[:12]}"
    await admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    fields = {field: value for field, value in conninfo_to_dict(server_url).items() if field != "dbname"}
    database_url = f"postgresql:///{name}?{urlencode(fields, quote_via=quote)}"
    try:
        await migrate(database_url, connect_s=START_S, lock_s=START_S)
    except BaseException:
        with trio.move_on_after(DROP_S, shield=True):
            await _drop_databases(admin, [database_url])
        raise
    return database_url


async def _drop_databases(admin: TrioConnection[Any], database_urls: Sequence[str]) -> None:
    for database_url in database_urls:
        name = str(conninfo_to_dict(database_url)["dbname"])
        await admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
    await trio.lowlevel.checkpoint()


async def _rows(database_url: str) -> int:
    async with _admin(database_url) as connection:
        row = await (await connection.execute("select count(*) from tokens")).fetchone()
        assert row is not None
        return int(row[0])


def medians(results: Sequence[Result], cell: str, contestant: str) -> Numbers:
    """The median of each number over the repetitions, and the range of the rate."""
    runs = _runs(results, cell, contestant)
    middle = {name: median(run[name] for run in runs) for name in runs[0]}
    rates = [run["per_s"] for run in runs]
    return middle | {"per_s_min": min(rates), "per_s_max": max(rates)}


def ratio(results: Sequence[Result], cell: str, contestant: str, other: str) -> float:
    """How many times the other's rate: the median over the repetitions, in each of which they ran side by side."""
    pairs = zip(_runs(results, cell, contestant), _runs(results, cell, other), strict=True)
    return median(mine["per_s"] / theirs["per_s"] for mine, theirs in pairs)


def _runs(results: Sequence[Result], cell: str, contestant: str) -> list[Numbers]:
    return [result.numbers for result in results if (result.cell, result.contestant) == (cell, contestant)]
