"""What comes out: a line per run, a table of medians, a JSON file with every run in bench-results/.

Promises: the table shows medians over the repetitions, and where it is the load that was measured rather than the
server, it says so.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from typing import Any

import attrs
import orjson
from bench_frame import Numbers, Plan, Result, medians, ratio
from bench_servers import HERE
from rich.table import Table

RESULTS = HERE.parent / "bench-results"
FULL_LOAD, IDLE_SERVER = 0.95, 0.90


@attrs.frozen
class Column:
    """One number of the table: its heading, and how it reads."""

    heading: str
    show: Callable[[Numbers], str]


def number(heading: str, name: str, style: str) -> Column:
    """A column of one number, formatted as f-strings do."""
    return Column(heading, lambda m: format(m[name], style))


def _range(m: Numbers) -> str:
    return f"{m['per_s_min']:,.0f}-{m['per_s_max']:,.0f}" if "per_s_min" in m else ""


def _load_cpu(m: Numbers) -> str:
    bound = m["load_cpu"] > FULL_LOAD and m["server_cpu"] < IDLE_SERVER
    return f"{m['load_cpu']:.0%}" + (" load-bound" if bound else "")


def _costs(m: Numbers) -> list[float]:
    """Microseconds of CPU for one operation: of the server, of the load, of Postgres. Without any, no number."""
    return [m[f"{who}_cpu"] / (m["per_s"] or nan) * 1e6 for who in ("server", "load", "postgres")]


def _at_most(m: Numbers) -> float:
    """What all cores together could do a second at these costs, and the server's processes, on a core each."""
    costs = _costs(m)
    return min((os.cpu_count() or 1) / (sum(costs) or nan), m["processes"] / (costs[0] or nan)) * 1e6


def _waits(who: str, *phases: str, style: str = ".1f") -> list[Column]:
    return [
        Column(
            f"{who} {phase} p50/p99 ms".strip(),
            lambda m, phase=phase: "/".join(format(m[f"{phase}_{q}_ms"], style) for q in ("p50", "p99")),
        )
        for phase in phases
    ]


def _rss(*names: str) -> Column:
    return Column("RSS MB", lambda m: "/".join(f"{m[name]:.0f}" for name in names))


RATE = (number("per s", "per_s", ",.0f"), Column("min-max", _range))
LATENCY = (number("p50 ms", "p50_ms", ".2f"), number("p99 ms", "p99_ms", ".2f"))
MEMORY = (
    number("kB per connection", "kb_per_connection", ".1f"),
    number("before MB", "before_mb", ".0f"),
    number("connected MB", "connected_mb", ".0f"),
    number("left MB", "left_mb", ".0f"),
    number("connect s", "connect_s", ".1f"),
)
PHASES = ("before", "during", "after")
WHICH = ("first", "median", "last")
STALL = (
    number("events per s", "per_s", ",.0f"),
    Column("cut in s", lambda m: f"{m['cut_first_s']:.1f}-{m['cut_last_s']:.1f}"),
    *_waits("", *PHASES),
    _rss(*(f"{phase}_rss_mb" for phase in PHASES)),
)
REPLAY = (
    number("events per s", "per_s", ",.0f"),
    number("first ms", "first_ms", ",.0f"),
    *_waits("ping", "before", "during"),
    _rss("before_rss_mb", "during_rss_mb", "left_mb"),
)
RESUME = (
    number("resumed", "resumed", ",.0f"),
    number("missed", "missed_mean", ",.0f"),
    *(
        Column(f"{name} s", lambda m, name=name: "/".join(f"{m[f'{name}_{which}_s']:.2f}" for which in WHICH))
        for name in ("subscribed", "replayed", "level")
    ),
    *_waits("writer", "before", "back"),
    _rss("before_rss_mb", "back_rss_mb", "left_mb"),
)
NODES_CPU = (Column("nodes cpu", lambda m: f"{m['node_1_cpu']:.0%}/{m['node_2_cpu']:.0%}"),)
NODES = (
    number("there per s", "per_s", ",.0f"),
    *_waits("", "reply", "here", "there", style=".2f"),
    number("max ms", "there_max_ms", ".0f"),
    number("level s", "level_s", ".1f"),
    Column("holes/found", lambda m: f"{m['holes']:,.0f}/{m['found']:,.0f}"),
    *NODES_CPU,
    Column("load cpu", _load_cpu),
    number("others cpu", "others_cpu", ".0%"),
)
COSTS = (
    Column("server/load/Postgres µs each", lambda m: "/".join(f"{us:.2f}" for us in _costs(m))),
    Column("at most", lambda m: f"{_at_most(m):,.0f}"),
)
READS = (
    number("kB", "kb", ".1f"),
    Column("hits", lambda m: f"{m['memory_share'] + m['redis_share'] + m['joined_share']:.0%}"),
    Column("memory/redis/joined", lambda m: "/".join(f"{m[f'{s}_share']:.0%}" for s in ("memory", "redis", "joined"))),
)
CPU = (
    number("server cpu", "server_cpu", ".0%"),
    Column("load cpu", _load_cpu),
    number("others cpu", "others_cpu", ".0%"),
)


def line(result: Result, columns: Sequence[Column]) -> str:
    """One run, as it ends."""
    shown = "  ".join(f"{c.heading} {text}" for c in columns if (text := c.show(result.numbers)))
    return f"{result.cell:>8}  {result.contestant:16} {shown}"


def table(plan: Plan, columns: Sequence[Column], results: Sequence[Result]) -> Table:
    """Medians of every contestant in every cell, and how the first compares with each of the others."""
    first = plan.contestants[0]
    shown = Table(title=plan.title + plan.extent(), title_justify="left")
    shown.add_column("cell", justify="right")
    shown.add_column("server")
    for column in columns:
        shown.add_column(column.heading, justify="right", overflow="fold")  # no figure is cut short
    if len(plan.contestants) > 1:
        shown.add_column(f"{first.name} is", justify="right")
    for cell in plan.cells:
        for contestant in plan.contestants:
            m = medians(plan, results, cell.name, contestant.name)
            row = [cell.name, contestant.name, *(column.show(m) for column in columns)]
            if contestant is not first:
                row.append(f"{ratio(plan, results, cell.name, first.name, contestant.name):.2f}x")
            shown.add_row(*row, end_section=contestant is plan.contestants[-1])
    return shown


def write(plan: Plan, results: Sequence[Result], about: dict[str, Any]) -> Path:
    """Write it all down; returns where."""
    first, *others = plan.contestants
    document = {
        "benchmark": plan.name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        **about,
        "seconds": plan.seconds,
        "repeats": plan.repeats,
        "compared": plan.compared,
        "medians": {
            cell.name: {other.name: medians(plan, results, cell.name, other.name) for other in plan.contestants}
            for cell in plan.cells
        },
        "ratios": {
            cell.name: {other.name: ratio(plan, results, cell.name, first.name, other.name) for other in others}
            for cell in plan.cells
        },
        "runs": [attrs.asdict(result) for result in results],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{plan.name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path
