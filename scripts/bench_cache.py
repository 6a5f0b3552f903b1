"""What the cache of reads gains and costs: the same reads with and without it, while somebody writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import click
from bench_contestants import NGOS, WITHOUT_LIMITS
from bench_frame import Cell, Plan
from bench_options import WARM_UP_S, common, run
from bench_postgres import fill_graph
from bench_report import CPU, LATENCY, RATE, READS
from bench_servers import Contestant

KINDS = "path,hub:10,hub:100,hub:1000,degree,node,list:10,list:100,list:1000,full:100,total:10,get"
SMALL_BYTES = 400_000
"""Room for a page of a thousand tokens, and little beside it: most of what comes again is in Redis then."""


@click.command()
@click.option("--tokens", default=100_000, show_default=True, type=click.IntRange(1000))
@click.option("--edges", default=1_000_000, show_default=True, type=click.IntRange(1000), help="Between them.")
@click.option("--hub", default=10_000, show_default=True, type=click.IntRange(10), help="More edges of one of them.")
@click.option(
    "--kinds", default=KINDS, show_default=True, help="Reads: path, node, degree, get; hub, list, full, total:LIMIT."
)
@click.option("--readers", default=4, show_default=True, type=click.IntRange(1), help="Each has one read under way.")
@click.option("--writes-per-s", default=10.0, show_default=True, type=click.FloatRange(0), help="Changes at random.")
@click.option("--redis-url", help="Also with a Redis, and little room in the process.")
@common(3.0, repeats=3)
def cache(
    tokens: int,
    edges: int,
    hub: int,
    kinds: str,
    readers: int,
    writes_per_s: float,
    redis_url: str | None,
    seconds: float,
    repeats: int,
    database_url: str | None,
) -> None:
    """Latency of reads with the cache and without it, and how many it answers, at a rate of writes. ngos alone."""
    fill = partial(fill_graph, tokens=tokens, edges=edges, hub=hub)
    contestants = [_caching("ngos, cached", fill), _caching("ngos, not", fill, NGOS_CACHE_BYTES="0")]
    if redis_url is not None:
        redis = {"NGOS_CACHE_BYTES": str(SMALL_BYTES), "NGOS_REDIS_URL": redis_url}
        contestants.insert(1, _caching("ngos, redis", fill, **redis))
    fixed = ("--tokens", str(tokens), "--readers", str(readers), "--writes-per-s", str(writes_per_s))
    plan = Plan(
        name="cache",
        title=f"reads of {tokens:,} tokens and {edges:,} edges, {writes_per_s:g} writes/s",
        load="reads",
        cells=[Cell(kind, ("--kind", kind, *fixed)) for kind in kinds.split(",")],
        contestants=contestants,
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        connections=readers,
    )
    run(plan, database_url, [*RATE, *LATENCY, *READS, *CPU])


def _caching(name: str, fill: Callable[[str], Any], **settings: str) -> Contestant:
    environment = {"NGOS_LOG_LEVEL": "warning", **WITHOUT_LIMITS, **settings}
    return attrs.evolve(NGOS, name=name, prepare=fill, environment=lambda _place: environment)
