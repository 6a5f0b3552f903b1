"""What the commands of scripts/bench share: their options, and how a plan is run and shown."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
import trio
from bench_frame import Cell, Plan, Result, measure
from bench_report import Column, line, table, write
from bench_servers import HERE, BenchError
from interrupts import interruptible
from rich.console import Console

WARM_UP_S = 1.0
LONGEST_S = 12.0  # servers ping a silent client after 20 s, and fan-out counts bytes, not kinds of frames
WIDTH = 150
BUSY = 0.5


def as_cells(_context: click.Context, _parameter: click.Parameter, text: str) -> list[Cell]:
    cells = []
    for name in text.split(","):
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", name.strip())
        if match is None:
            raise click.BadParameter(f"{name!r} is not CLIENTSxIN_FLIGHT, like 8x16")
        cells.append(Cell(match[0], ("--clients", match[1], "--in-flight", match[2])))
    return cells


def as_numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if wrong := [name for name in names if not re.fullmatch(r"[1-9]\d*", name)]:
        raise click.BadParameter(f"{wrong[0]!r} is not a number above zero")
    return names


def as_seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> list[float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of seconds, like 0,0.5") from None
    if not all(0 <= value <= LONGEST_S for value in values):
        raise click.BadParameter(f"seconds are from 0 to {LONGEST_S:g}")
    return values


def fanout_cells(subscribers: int, payload_bytes: int, in_flight: Sequence[str]) -> list[Cell]:
    """What the load `fanout` is asked for: a cell for each number of messages in flight."""
    fixed = ("--subscribers", str(subscribers), "--payload-bytes", str(payload_bytes))
    return [Cell(name, (*fixed, "--in-flight", name)) for name in in_flight]


def common(seconds_s: float | None, repeats: int = 3) -> Callable[[Any], Any]:
    """The options that every benchmark has, or every one that counts for a time."""
    options = [
        click.option(
            "--repeats", default=repeats, show_default=True, type=click.IntRange(min=1), help="Runs of each cell."
        ),
        click.option(
            "--database-url",
            envvar="NGOS_TEST_DATABASE_URL",
            help="A Postgres server to make the databases in; default: an embedded one. [env: NGOS_TEST_DATABASE_URL]",
        ),
    ]
    if seconds_s is not None:
        options.append(
            click.option(
                "--seconds",
                default=seconds_s,
                show_default=True,
                type=click.FloatRange(min=0.1, max=LONGEST_S),
                help="Seconds that each run counts, after 1 s of warm-up.",
            )
        )
    return lambda command: _apply(options, command)


def peers(possible: Sequence[str]) -> Callable[[Any], Any]:
    """The option that says who runs beside ngos."""
    return click.option(
        "--peers", help=f"Peers to run, of {','.join(possible)}; empty: none. Default: all that can run here."
    )


def cells(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--cells",
        default=default,
        show_default=True,
        callback=as_cells,
        help="CLIENTSxIN_FLIGHT,…: clients, and messages that each keeps in flight.",
    )


def _apply(options: Sequence[Callable[[Any], Any]], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def run(plan: Plan, database_url: str | None, columns: Sequence[Column]) -> None:
    """Measure, show the table, write the JSON."""
    console = Console()
    console.width = max(console.width, WIDTH)  # in a pipe, too
    results: list[Result] = []

    def on_result(result: Result) -> None:
        results.append(result)
        console.print(f"[dim]{line(result, columns)}[/]", highlight=False, soft_wrap=True)

    load_before = os.getloadavg()[0]
    if load_before > BUSY:
        console.print(f"[yellow]the machine is busy (load average {load_before:.1f}): expect noise[/]", highlight=False)
    try:
        about = trio.run(interruptible, partial(measure, plan, database_url, on_result))
    except* KeyboardInterrupt:
        sys.exit(130)
    except* BenchError as group:
        raise click.ClickException("; ".join(map(str, _leaves(group)))) from None
    console.print(table(plan, columns, results))
    path = write(plan, results, {"postgres": about, "load_average_before": load_before})
    console.print(f"[dim]{path.relative_to(HERE.parent)}[/]")


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return found
