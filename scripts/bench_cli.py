"""The commands of scripts/bench: what is measured against what, the table, and the JSON in bench-results/.

Promises: the table shows medians over the repetitions, with the range of the rate; the JSON has every run. A new
benchmark is a command here, a kind of load in bench_load.py, and contestants.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import click
import orjson
import trio
from bench_frame import HERE, BenchError, Cell, Contestant, Plan, Result, measure, medians, open_postgres, ratio
from rich.console import Console
from rich.table import Table

RESULTS = HERE.parent / "bench-results"
WARM_UP_S = 1.0
WIDTH = 110
BUSY = 0.5

NGOS = Contestant(
    "ngos",
    lambda port, database_url: [
        *(sys.executable, "-m", "ngos", "serve", "--port", str(port), "--database-url", database_url)
    ],
    lambda _port, _database_url: {"NGOS_LOG_LEVEL": "warning"},
)
FASTAPI = Contestant(
    "fastapi+asyncpg",
    lambda port, _database_url: [
        *(sys.executable, "-m", "uvicorn", "bench_peers.fastapi_asyncpg:app", "--port", str(port)),
        *("--loop", "uvloop", "--ws", "websockets-sansio", "--log-level", "warning", "--no-access-log"),
    ],
    lambda _port, database_url: {"DATABASE_URL": database_url},
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure ngos beside its peers, on this machine."""
    # Whoever ends us wants the servers and databases gone too. Set, because a shell's background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _cells(_context: click.Context, _parameter: click.Parameter, text: str) -> list[Cell]:
    cells = []
    for name in text.split(","):
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", name.strip())
        if match is None:
            raise click.BadParameter(f"{name!r} is not CLIENTSxIN_FLIGHT, like 8x16")
        cells.append(Cell(match[0], ("--clients", match[1], "--in-flight", match[2])))
    return cells


@cli.command()
@click.option("--seconds", default=5.0, show_default=True, help="Seconds that each run counts, after 1 s of warm-up.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1), help="Runs of each cell.")
@click.option(
    "--cells",
    default="1x1,1x16,8x16,64x16",
    show_default=True,
    callback=_cells,
    help="CLIENTSxIN_FLIGHT,…: clients, and commands that each keeps in flight.",
)
@click.option(
    "--database-url",
    envvar="NGOS_TEST_DATABASE_URL",
    help="A Postgres server to make the databases in; default: an embedded one. [env: NGOS_TEST_DATABASE_URL]",
)
def create(seconds: float, repeats: int, cells: list[Cell], database_url: str | None) -> None:
    """Durable `token.create` per second and its latency, beside FastAPI + asyncpg on the same Postgres."""
    plan = Plan(cells, [NGOS, FASTAPI], seconds, min(WARM_UP_S, seconds), repeats)
    run("create", plan, database_url, "durable token.create, clients x in flight")


def run(name: str, plan: Plan, database_url: str | None, title: str) -> None:
    """Measure, show the table, write the JSON."""
    console = Console()
    console.width = max(console.width, WIDTH)  # in a pipe, too
    results: list[Result] = []

    def on_result(result: Result) -> None:
        results.append(result)
        n = result.numbers
        console.print(
            f"[dim]{result.cell:>6}  {result.contestant:16} {n['per_s']:8,.0f}/s  p50 {n['p50_ms']:.2f} ms  "
            f"p99 {n['p99_ms']:.2f} ms  cpu {n['server_cpu']:.0%}, load {n['load_cpu']:.0%}[/]",
            highlight=False,
        )

    load_before = os.getloadavg()[0]
    if load_before > BUSY:
        console.print(f"[yellow]the machine is busy (load average {load_before:.1f}): expect noise[/]", highlight=False)
    try:
        about = trio.run(partial(_measure, plan, database_url, on_result))
    except* KeyboardInterrupt:
        sys.exit(130)
    except* BenchError as group:
        raise click.ClickException("; ".join(map(str, _leaves(group)))) from None
    console.print(table(plan, results, title))
    path = _write(name, plan, results, {"postgres": about, "load_average_before": load_before})
    console.print(f"[dim]{path.relative_to(HERE.parent)}[/]")


async def _measure(plan: Plan, database_url: str | None, on_result: Any) -> dict[str, Any]:
    async with open_postgres(database_url) as server_url:
        return await measure(plan, server_url, on_result)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return found


def table(plan: Plan, results: Sequence[Result], title: str) -> Table:
    """Medians of every contestant in every cell, and how the first compares with each of the others."""
    first = plan.contestants[0]
    shown = Table(title=f"{title}; median of {plan.repeats} x {plan.seconds:g} s", title_justify="left")
    shown.add_column("cell", justify="right")
    shown.add_column("server")
    for heading in ("per s", "min-max", "p50 ms", "p99 ms", "server cpu", f"{first.name} is"):
        shown.add_column(heading, justify="right")
    for cell in plan.cells:
        for contestant in plan.contestants:
            m = medians(results, cell.name, contestant.name)
            shown.add_row(
                cell.name,
                contestant.name,
                f"{m['per_s']:,.0f}",
                f"{m['per_s_min']:,.0f}-{m['per_s_max']:,.0f}",
                f"{m['p50_ms']:.2f}",
                f"{m['p99_ms']:.2f}",
                f"{m['server_cpu']:.0%}",
                "" if contestant is first else f"{ratio(results, cell.name, first.name, contestant.name):.2f}x",
                end_section=contestant is plan.contestants[-1],
            )
    return shown


def _write(name: str, plan: Plan, results: Sequence[Result], about: dict[str, Any]) -> Any:
    first, *others = plan.contestants
    document = {
        "benchmark": name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        **about,
        "seconds": plan.seconds,
        "repeats": plan.repeats,
        "medians": {
            cell.name: {other.name: medians(results, cell.name, other.name) for other in plan.contestants}
            for cell in plan.cells
        },
        "ratios": {
            cell.name: {other.name: ratio(results, cell.name, first.name, other.name) for other in others}
            for cell in plan.cells
        },
        "runs": [attrs.asdict(result) for result in results],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path
