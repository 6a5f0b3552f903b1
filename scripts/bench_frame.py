"""The frame of every benchmark: contestants, cells, runs in turn, medians.

Promises: the server under test has core 0 for itself among our processes, the load core 1, where a contestant or a
plan doesn't say otherwise. Postgres is not pinned: it is one server for all contestants, often not ours to move, and
with two cores any core of its own would be the one of the server or of the load; so the kernel places it, by the same
rule for everyone, and Redis too. Contestants take turns
within each repetition, and who begins changes, so that what else happens on the machine meets them alike. Where rows
are counted, each run begins with a checkpoint, so that none pays for the one before it, and the number of rows is
checked against the number of replies. Whatever was started is stopped, on Ctrl-C too.

Runs on Trio. Knows no kind of load and no contestant by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import attrs
import orjson
import trio
from bench_postgres import Databases, open_databases, tokens_in
from bench_servers import HERE, BenchError, Contestant, Running, allow_connections, pinned, start, start_redis

PATIENCE_S = 120.0

Numbers = dict[str, float]


@attrs.frozen
class Cell:
    """One load: its name in the table, and its arguments to the load's module."""

    name: str
    load: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Plan:
    """What to measure, and for how long."""

    name: str
    title: str
    load: str  # the module in bench_loads/
    compared: str = "per_s"  # the number that tells how contestants compare
    cells: Sequence[Cell]
    contestants: Sequence[Contestant]
    repeats: int
    seconds: float = 0.0  # for a load that counts for a time
    warm_up_s: float = 0.0
    connections: int = 0  # at most, where they are so many that a limit may be in the way
    load_core: int | None = 1
    counts_rows: bool = False  # the load creates tokens: as many rows as replies must be there
    fresh_servers: bool = False  # a new process for each run: for what an earlier run leaves behind in one

    def extent(self) -> str:
        """How much was measured, as the end of a title."""
        each = f" x {self.seconds:g} s" if self.seconds else ""
        return f"; median of {self.repeats}{each}" if self.repeats > 1 or each else "; one run"


@attrs.frozen
class Result:
    """One run of one contestant in one cell."""

    cell: str
    contestant: str
    numbers: Numbers


async def measure(plan: Plan, database_url: str | None, on_result: Callable[[Result], None]) -> dict[str, Any]:
    """Run the plan; return how Postgres is set up. `on_result` hears of each run as it ends."""
    allow_connections(plan.connections)
    async with open_databases(database_url) as databases, trio.open_nursery() as beside:
        redis_url = await start_redis(beside) if any(c.needs_redis for c in plan.contestants) else ""
        urls = {c.name: await databases.create() if c.needs_database else "" for c in plan.contestants}
        for contestant in plan.contestants:
            if contestant.prepare is not None:
                await contestant.prepare(urls[contestant.name])
        if plan.fresh_servers:
            for cell, contestant in _turns(plan):
                async with trio.open_nursery() as nursery:
                    server = await start(nursery, contestant, urls[contestant.name], redis_url)
                    on_result(await _run(plan, cell, server, databases))
                    nursery.cancel_scope.cancel()
        else:
            async with trio.open_nursery() as nursery:
                servers = {c.name: await start(nursery, c, urls[c.name], redis_url) for c in plan.contestants}
                for cell, contestant in _turns(plan):
                    on_result(await _run(plan, cell, servers[contestant.name], databases))
                nursery.cancel_scope.cancel()
        beside.cancel_scope.cancel()
    return databases.about


def _turns(plan: Plan) -> list[tuple[Cell, Contestant]]:
    """Who runs when: each repetition has every contestant in every cell, every other one backwards."""
    return [
        (cell, contestant)
        for repeat in range(plan.repeats)
        for cell in plan.cells
        for contestant in (plan.contestants if repeat % 2 == 0 else reversed(plan.contestants))
    ]


async def _run(plan: Plan, cell: Cell, server: Running, databases: Databases) -> Result:
    """One load on a server that runs; where it says that it made rows, they are really there."""
    before = 0
    if plan.counts_rows:
        await databases.checkpoint()
        before = await tokens_in(server.database_url)
    command = pinned(plan.load_core, [sys.executable, "-m", f"bench_loads.{plan.load}"])
    for node, which in zip(server.nodes, ("", *["other-"] * len(server.nodes)), strict=False):
        command += [f"--{which}url", f"ws://127.0.0.1:{node.place.port}", f"--{which}server-pid", str(node.pid)]
    command += ["--dialect", server.contestant.dialect, "--database", urlsplit(server.database_url).path.lstrip("/")]
    command += ["--seconds", str(plan.seconds), "--warm-up", str(plan.warm_up_s), *cell.load]
    with trio.fail_after(plan.seconds + plan.warm_up_s + PATIENCE_S):
        done = await trio.run_process(command, cwd=HERE, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        said = f"{done.stderr.decode(errors='replace').strip()}\n{server.last_words()}".strip()
        raise BenchError(f"{server.name}, {cell.name}: {said}")
    numbers: Numbers = orjson.loads(done.stdout)
    if plan.counts_rows:
        made = await tokens_in(server.database_url) - before
        if made != numbers["replies"]:
            raise BenchError(f"{server.name}, {cell.name}: {numbers['replies']} replies, but {made} rows")
    return Result(cell.name, server.name, numbers)


def medians(plan: Plan, results: Sequence[Result], cell: str, contestant: str) -> Numbers:
    """The median of each number over the repetitions, and the range of the one that is compared."""
    runs = _runs(results, cell, contestant)
    middle = {name: median(run[name] for run in runs) for name in runs[0]}
    range_ = [run[plan.compared] for run in runs]
    return middle | {f"{plan.compared}_min": min(range_), f"{plan.compared}_max": max(range_)}


def ratio(plan: Plan, results: Sequence[Result], cell: str, contestant: str, other: str) -> float:
    """How many times the other's number: the median over the repetitions, in each of which they ran side by side."""
    pairs = zip(_runs(results, cell, contestant), _runs(results, cell, other), strict=True)
    return median(mine[plan.compared] / (theirs[plan.compared] or float("nan")) for mine, theirs in pairs)


def _runs(results: Sequence[Result], cell: str, contestant: str) -> list[Numbers]:
    return [result.numbers for result in results if (result.cell, result.contestant) == (cell, contestant)]
