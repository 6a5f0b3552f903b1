"""The commands of scripts/bench: what is measured against what.

A new benchmark is a command here, a load in bench_loads/, and contestants in bench_contestants.py.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import click
import trio
from bench_contestants import FASTAPI_ASYNCPG, LOGGED_TOPIC, NGOS, NGOS_LOGGED, NGOS_ONCE, choose
from bench_frame import Cell, Plan, Result, measure
from bench_postgres import fill_log
from bench_report import CPU, LATENCY, MEMORY, RATE, REPLAY, RESUME, STALL, Column, line, table, write
from bench_servers import HERE, BenchError, Contestant
from rich.console import Console

WARM_UP_S = 1.0
LONGEST_S = 12.0  # servers ping a silent client after 20 s, and fan-out counts bytes, not kinds of frames
WIDTH = 150
BUSY = 0.5

ALL = ("fastapi", "websockets", "node-ws", "nats", "hypercorn")
ECHOING = ("fastapi", "websockets", "node-ws", "hypercorn")


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


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if wrong := [name for name in names if not re.fullmatch(r"[1-9]\d*", name)]:
        raise click.BadParameter(f"{wrong[0]!r} is not a number above zero")
    return names


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> list[float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of seconds, like 0,0.5") from None
    if not all(0 <= value <= LONGEST_S for value in values):
        raise click.BadParameter(f"seconds are from 0 to {LONGEST_S:g}")
    return values


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
        callback=_cells,
        help="CLIENTSxIN_FLIGHT,…: clients, and messages that each keeps in flight.",
    )


def _apply(options: Sequence[Callable[[Any], Any]], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@cells("1x1,1x16,8x16,64x16")
@common(5.0)
def create(seconds: float, repeats: int, cells: list[Cell], database_url: str | None) -> None:
    """Durable `token.create` per second and its latency, beside FastAPI + asyncpg on the same Postgres.

    "ngos, once" has clients with a name of their own, whose commands take effect once however often they are sent.
    """
    plan = Plan(
        name="create",
        title="durable token.create, clients x in flight",
        load="create",
        cells=cells,
        contestants=[NGOS, NGOS_ONCE, FASTAPI_ASYNCPG],
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        counts_rows=True,
    )
    run(plan, database_url, [*RATE, *LATENCY, *CPU])


@cli.command()
@cells("1x1,1x16,64x1,64x16")
@peers(ECHOING)
@common(3.0)
def echo(seconds: float, repeats: int, cells: list[Cell], peers: str | None, database_url: str | None) -> None:
    """Round trips per second: ngos answers `ping` with `pong`, the peers echo the same bytes."""
    plan = Plan(
        name="echo",
        title="round trips, clients x in flight",
        load="echo",
        cells=cells,
        contestants=choose(peers, ECHOING),
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
    )
    run(plan, database_url, [*RATE, *LATENCY, *CPU])


@cli.command()
@click.option("--subscribers", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--in-flight", default="1,16,64", show_default=True, callback=_numbers, help="Messages on their way.")
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(12, 60_000))
@peers(ALL)
@common(3.0)
def fanout(
    subscribers: int,
    in_flight: list[str],
    payload_bytes: int,
    seconds: float,
    repeats: int,
    peers: str | None,
    database_url: str | None,
) -> None:
    """Deliveries per second from one publisher to many subscribers, with N messages not yet delivered to all.

    The peers pass a text on as it came; ngos parses it, wraps it in its envelope, and knows topics and limits.
    `--peers ceiling` runs the fastest server we can think of instead: what the load itself can count.
    """
    fixed = ("--subscribers", str(subscribers), "--payload-bytes", str(payload_bytes))
    plan = Plan(
        name="fanout",
        title=f"deliveries of {payload_bytes} bytes to {subscribers} subscribers, messages in flight",
        load="fanout",
        cells=[Cell(name, (*fixed, "--in-flight", name)) for name in in_flight],
        contestants=choose(peers, ALL),
        connections=subscribers,
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
    )
    run(plan, database_url, [*RATE, *LATENCY, *CPU])


@cli.command()
@click.option("--connections", default=5000, show_default=True, type=click.IntRange(1, 25_000))
@peers(ALL)
@common(None, repeats=1)
def memory(connections: int, repeats: int, peers: str | None, database_url: str | None) -> None:
    """The server's memory per idle connection, and what it keeps when all have left.

    With ngos and NATS each connection is subscribed to two topics; with the other peers it just connects.
    """
    plan = Plan(
        name="memory",
        title="memory with idle connections",
        load="memory",
        compared="kb_per_connection",
        cells=[Cell(str(connections), ("--connections", str(connections)))],
        contestants=choose(peers, ALL),
        repeats=repeats,
        connections=connections,
        fresh_servers=True,
    )
    run(plan, database_url, MEMORY)


@cli.command()
@click.option("--concurrency", default="1,64", show_default=True, callback=_numbers, help="Connections under way.")
@peers(ALL)
@common(3.0)
def accept(concurrency: list[str], seconds: float, repeats: int, peers: str | None, database_url: str | None) -> None:
    """Connections per second: connect, upgrade, Close. ngos's counts once `connection.established` has come."""
    plan = Plan(
        name="accept",
        title="connections, so many under way",
        load="accept",
        cells=[Cell(name, ("--concurrency", name)) for name in concurrency],
        contestants=choose(peers, ALL),
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
    )
    run(plan, database_url, [*RATE, *LATENCY, *CPU])


@cli.command()
@click.option("--readers", default=500, show_default=True, type=click.IntRange(min=2))
@click.option("--stalled", default=50, show_default=True, type=click.IntRange(min=1), help="Clients that never read.")
@click.option("--events-per-s", default=2000.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(100, 60_000))
@common(5.0, repeats=1)
def stall(
    readers: int,
    stalled: int,
    events_per_s: float,
    payload_bytes: int,
    seconds: float,
    repeats: int,
    database_url: str | None,
) -> None:
    """When clients that never read are cut, and what those that do read notice of them. ngos alone.

    `--seconds` is for the windows before and after; the one between lasts until the last is cut.
    """
    fixed = ("--events-per-s", str(events_per_s), "--payload-bytes", str(payload_bytes))
    plan = Plan(
        name="stall",
        title=f"{events_per_s:g} events/s of {payload_bytes} bytes to readers, and clients that never read",
        load="stall",
        compared="cut_last_s",
        cells=[Cell(f"{readers}+{stalled}", ("--readers", str(readers), "--stalled", str(stalled), *fixed))],
        contestants=[NGOS],
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        connections=readers + stalled,
        fresh_servers=True,
    )
    run(plan, database_url, [*STALL, *CPU])


@cli.command()
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


@cli.command()
@click.option("--clients", default=2000, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(min=1), help="Events written a second.")
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(12, 60_000))
@click.option("--away", default=1.0, show_default=True, type=click.FloatRange(0.05, 10), help="Seconds.")
@click.option(
    "--jitter",
    "jitters",
    default="0,0.5",
    show_default=True,
    callback=_seconds,
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


@cli.command()
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
        about = trio.run(partial(measure, plan, database_url, on_result))
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
