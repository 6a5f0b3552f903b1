"""The commands of scripts/bench: what is measured against what.

A new benchmark is a command here, or in bench_alone.py or bench_cache.py where it has no peer, or in bench_nodes.py
where it has several nodes, a load in bench_loads/, and contestants in bench_contestants.py.
"""

from __future__ import annotations

import signal

import click
from bench_alone import log, replay, resume
from bench_cache import cache
from bench_contestants import FASTAPI_ASYNCPG, NGOS, NGOS_ONCE, choose
from bench_frame import Cell, Plan
from bench_nodes import nodes, workers
from bench_options import WARM_UP_S, as_numbers, cells, common, fanout_cells, peers, run
from bench_report import CPU, LATENCY, MEMORY, RATE, STALL

ALL = ("fastapi", "websockets", "node-ws", "nats", "hypercorn")
ECHOING = ("fastapi", "websockets", "node-ws", "hypercorn")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure ngos beside its peers, on this machine."""
    # Whoever ends us wants the servers and databases gone too. Set, because a shell's background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


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
@click.option("--in-flight", default="1,16,64", show_default=True, callback=as_numbers, help="Messages on their way.")
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
    plan = Plan(
        name="fanout",
        title=f"deliveries of {payload_bytes} bytes to {subscribers} subscribers, messages in flight",
        load="fanout",
        cells=fanout_cells(subscribers, payload_bytes, in_flight),
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
@click.option("--concurrency", default="1,64", show_default=True, callback=as_numbers, help="Connections under way.")
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


for command in (replay, resume, log, nodes, workers, cache):
    cli.add_command(command)
