"""What is measured of ngos alone: how fast missed events come, who is back when, and what a long log costs."""

from __future__ import annotations

from functools import partial

import attrs
import click
from bench_contestants import LOGGED_TOPIC, NGOS_LOGGED
from bench_frame import Cell, Plan
from bench_options import WARM_UP_S, as_seconds, cells, common, run
from bench_postgres import fill_log
from bench_report import CPU, LATENCY, RATE, REPLAY, RESUME
from bench_servers import Contestant


@click.command()
@click.option("--events", default=100_000, show_default=True, type=click.IntRange(min=1))
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(12, 60_000))
@click.option(
    "--slow-kb-per-s",
    type=click.FloatRange(min=1),
    help="Also replay to a reader that reads no more than this, for --seconds.",
)
@common(12.0, repeats=3)
def replay(
    events: int,
    payload_bytes: int,
    slow_kb_per_s: float | None,
    seconds: float,
    repeats: int,
    database_url: str | None,
) -> None:
    """Replay of a topic to one client: events per second, memory, and what another client notices. ngos alone."""
    fixed = ("--topic", LOGGED_TOPIC, "--events", str(events))
    cells = [Cell("fast", fixed)]
    if slow_kb_per_s is not None:
        cells.append(Cell(f"{slow_kb_per_s:g} kB/s", (*fixed, "--slow-kb-per-s", str(slow_kb_per_s))))
    plan = Plan(
        name="replay",
        title=f"replay of {events:,} events of {payload_bytes} bytes to one client",
        load="replay",
        cells=cells,
        contestants=[holding(NGOS_LOGGED, events, payload_bytes)],
        seconds=seconds if slow_kb_per_s is not None else 0.0,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        fresh_servers=True,
    )
    run(plan, database_url, [*REPLAY, *CPU])


@click.command()
@click.option("--clients", default=2000, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(min=1), help="Events written a second.")
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(12, 60_000))
@click.option("--away", default=1.0, show_default=True, type=click.FloatRange(0.05, 10), help="Seconds.")
@click.option(
    "--jitter",
    "jitters",
    default="0,0.5",
    show_default=True,
    callback=as_seconds,
    help="Seconds in which they come back, at random; the protocol says 0.5, the worst is 0.",
)
@common(3.0, repeats=1)
def resume(
    clients: int,
    rate: float,
    payload_bytes: int,
    away: float,
    jitters: list[float],
    seconds: float,
    repeats: int,
    database_url: str | None,
) -> None:
    """All clients are cut off at once while events are written, and come back at once. ngos alone.

    Fails unless everybody gets every event once, in order. `--seconds` is for the windows before and after.
    """
    fixed = ("--topic", LOGGED_TOPIC, "--clients", str(clients), "--rate", str(rate), "--away", str(away))
    fixed = (*fixed, "--payload-bytes", str(payload_bytes))
    plan = Plan(
        name="resume",
        title=f"{clients:,} clients cut off for {away:g} s and back, {rate:g} events/s of {payload_bytes} bytes",
        load="resume",
        compared="level_last_s",
        cells=[
            Cell(f"in {jitter:g} s" if jitter else "at once", (*fixed, "--jitter", str(jitter))) for jitter in jitters
        ],
        contestants=[NGOS_LOGGED],
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        connections=clients,
        fresh_servers=True,
    )
    run(plan, database_url, [*RESUME, *CPU])


@click.command()
@click.option("--events", default=1_000_000, show_default=True, type=click.IntRange(min=1), help="In the full log.")
@click.option("--replayed", default=100_000, show_default=True, type=click.IntRange(min=1), help="The last so many.")
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(12, 60_000))
@cells("64x16")
@common(5.0, repeats=5)
def log(
    events: int,
    replayed: int,
    payload_bytes: int,
    cells: list[Cell],
    seconds: float,
    repeats: int,
    database_url: str | None,
) -> None:
    """Whether a log that is long slows anything down: durable `token.create`, then replay, beside an empty one.

    For the replay, the other log holds what is replayed, and nothing before it.
    """
    if replayed > events:
        raise click.BadParameter(f"there are only {events} events", param_hint="--replayed")
    full = f"ngos, {events:,}"
    append = Plan(
        name="log-append",
        title=f"durable token.create with {events:,} events in the log, clients x in flight",
        load="create",
        cells=cells,
        contestants=[
            attrs.evolve(holding(NGOS_LOGGED, events, payload_bytes, "tokens"), name=full),
            attrs.evolve(NGOS_LOGGED, name="ngos, 0"),
        ],
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        counts_rows=True,
    )
    replay = Plan(
        name="log-replay",
        title=f"replay of the last {replayed:,} events of {payload_bytes} bytes",
        load="replay",
        cells=[Cell("fast", ("--topic", LOGGED_TOPIC, "--events", str(replayed)))],
        contestants=[
            attrs.evolve(holding(NGOS_LOGGED, events, payload_bytes), name=full),
            attrs.evolve(holding(NGOS_LOGGED, replayed, payload_bytes), name=f"ngos, {replayed:,}"),
        ],
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        fresh_servers=True,
    )
    run(append, database_url, [*RATE, *LATENCY, *CPU])
    run(replay, database_url, [*REPLAY, *CPU])


def holding(contestant: Contestant, events: int, payload_bytes: int, topic: str = LOGGED_TOPIC) -> Contestant:
    """The same, with so many events in its log when it starts."""
    return attrs.evolve(contestant, prepare=partial(fill_log, topic=topic, events=events, payload_bytes=payload_bytes))
