"""What is measured of several nodes on one database: the way from one to the other, and what a second worker gives.

On a machine of two cores the load, Postgres and all nodes share them, so the tables say what each of them uses for one
operation: what the cores can do at most follows from it.
"""

from __future__ import annotations

import re
import shutil

import attrs
import click
from bench_contestants import LOGGED_TOPIC, NGOS, NGOS_LOGGED
from bench_frame import Cell, Plan
from bench_options import WARM_UP_S, as_numbers, cells, common, fanout_cells, run
from bench_report import COSTS, CPU, LATENCY, NODES, NODES_CPU, RATE
from bench_servers import Contestant, Place, free_port

BOTH = (0, 1)  # a node on each core; the load shares the other node's


def as_paces(_context: click.Context, _parameter: click.Parameter, text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Each with its name in the table, and what the load is told."""
    paces = []
    for name in map(str.strip, text.split(",")):
        match = re.fullmatch(r"x([1-9]\d*)|([1-9]\d*)/s", name)
        if match is None:
            raise click.BadParameter(f"{name!r} is neither like 50/s nor like x16")
        paces.append((name, ("--in-flight", match[1]) if match[1] else ("--per-s", match[2])))
    return paces


def _of_two(name: str, backplane: str, redis_url: str | None = None) -> Contestant:
    """Two nodes that hear of each other this way; `redis_url`: another Redis than the bench's own."""

    def environment(place: Place) -> dict[str, str]:
        made = NGOS_LOGGED.environment(place) | {"NGOS_BACKPLANE": backplane}
        return made | ({"NGOS_REDIS_URL": redis_url or place.redis_url} if backplane == "redis" else {})

    needs_redis = backplane == "redis" and redis_url is None
    return attrs.evolve(NGOS_LOGGED, name=name, environment=environment, cores=BOTH, needs_redis=needs_redis)


BACKPLANES = ("postgres", "redis", "lost")


def as_backplanes(_context: click.Context, _parameter: click.Parameter, text: str) -> list[Contestant]:
    """Those of them that can run here."""
    names = list(dict.fromkeys(map(str.strip, text.split(","))))
    if unknown := [name for name in names if name not in BACKPLANES]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(BACKPLANES)}")
    if "redis" in names and shutil.which("redis-server") is None:
        click.echo("without redis: redis-server is not installed", err=True)
        names.remove("redis")
    if not names:
        raise click.BadParameter("none of them can run here")
    nowhere = f"redis://127.0.0.1:{free_port()}"
    return [_of_two("lost", "redis", nowhere) if name == "lost" else _of_two(name, name) for name in names]


@click.command()
@click.option(
    "--paces",
    default="50/s,500/s,x16",
    show_default=True,
    callback=as_paces,
    help="N/s: events written a second. xN: as fast as it goes, with N in flight.",
)
@click.option(
    "--backplanes",
    default=",".join(BACKPLANES),
    show_default=True,
    callback=as_backplanes,
    help="lost: a Redis that is not there, so that a node asks the log by itself.",
)
@click.option("--subscribers", default=200, show_default=True, type=click.IntRange(min=1), help="Of the fan-out.")
@click.option("--in-flight", default="16", show_default=True, callback=as_numbers, help="The fan-out's messages.")
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(12, 60_000))
@common(5.0)
def nodes(
    paces: list[tuple[str, tuple[str, ...]]],
    backplanes: list[Contestant],
    subscribers: int,
    in_flight: list[str],
    payload_bytes: int,
    seconds: float,
    repeats: int,
    database_url: str | None,
) -> None:
    """From a commit on one node to the delivery on another, and ephemeral fan-out to another, by backplane.

    Durable events: times are from the writer's reply. "here" is a subscriber on the writer's node, "there" one on the
    other. Fan-out: the publisher is on one node, all subscribers are on the other.
    """
    durable = Plan(
        name="nodes",
        title=f"from the reply on a node to an event of {payload_bytes} bytes on another",
        load="across",
        compared="there_p50_ms",
        cells=[
            Cell(name, ("--topic", LOGGED_TOPIC, "--payload-bytes", str(payload_bytes), *pace)) for name, pace in paces
        ],
        contestants=backplanes,
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
    )
    ephemeral = Plan(
        name="nodes-fanout",
        title=f"deliveries of {payload_bytes} bytes to {subscribers} subscribers of another node, messages in flight",
        load="fanout",
        cells=fanout_cells(subscribers, payload_bytes, in_flight),
        contestants=[contestant for contestant in backplanes if contestant.name != "lost"],
        connections=subscribers,
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
    )
    run(durable, database_url, NODES)
    if ephemeral.contestants:
        run(ephemeral, database_url, [*RATE, *LATENCY, *NODES_CPU, *CPU[1:]])


def _of_workers(number: int) -> Contestant:
    """So many processes on one port, wherever the kernel puts them."""
    name = f"{number} worker{'s' if number > 1 else ''}"
    return attrs.evolve(
        NGOS, name=name, command=lambda place: [*NGOS.command(place), "--workers", str(number)], cores=(None,)
    )


@click.command()
@cells("8x16,64x16")
@click.option("--subscribers", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--in-flight", default="16", show_default=True, callback=as_numbers, help="The fan-out's messages.")
@click.option("--payload-bytes", default=200, show_default=True, type=click.IntRange(12, 60_000))
@common(5.0, repeats=5)
def workers(
    cells: list[Cell],
    subscribers: int,
    in_flight: list[str],
    payload_bytes: int,
    seconds: float,
    repeats: int,
    database_url: str | None,
) -> None:
    """Two workers beside one: durable `token.create`, and ephemeral fan-out. Load and Postgres use the same cores.

    Nothing is pinned. `at most` is what the cores could do a second if each operation costs what it did here, and they
    did nothing else: on a machine that others use, its ratio says more than that of what was counted.
    """
    contestants = [_of_workers(2), _of_workers(1)]
    create = Plan(
        name="workers-create",
        title="durable token.create, clients x in flight",
        load="create",
        cells=cells,
        contestants=contestants,
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        load_core=None,
        counts_rows=True,
    )
    fanout = Plan(
        name="workers-fanout",
        title=f"deliveries of {payload_bytes} bytes to {subscribers} subscribers on all workers, messages in flight",
        load="fanout",
        cells=fanout_cells(subscribers, payload_bytes, in_flight),
        contestants=contestants,
        connections=subscribers,
        seconds=seconds,
        warm_up_s=min(WARM_UP_S, seconds),
        repeats=repeats,
        load_core=None,
    )
    for plan in (create, fanout):
        run(plan, database_url, [*RATE, *LATENCY, *COSTS, *CPU])
