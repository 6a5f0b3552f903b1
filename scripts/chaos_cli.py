"""The command line of scripts/chaos: what is asked for, where the files go, how it ends.

Promises: exit code 0 only if every count that must be zero is; 1 if not, 2 if it was asked for wrongly, 130 on
Ctrl-C. What it made is gone afterwards, unless it is to be kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import orjson
import structlog
import trio
from chaos_parts.cast import Options
from chaos_parts.disk import enter_own_mounts
from chaos_parts.plan import OF_REDIS, Kind
from chaos_parts.processes import ChaosError
from chaos_parts.report import show
from chaos_parts.run import Run
from interrupts import interruptible
from rich.console import Console

from ngos.errors import NgosError

WIDTH = 120


def _kinds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> list[Kind] | None:
    if text is None:
        return None
    try:
        return [Kind(name.strip()) for name in text.split(",")]
    except ValueError as exc:
        raise click.BadParameter(f"{exc}; there are {','.join(kind.value for kind in Kind)}") from None


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH})
@click.option("--seed", default=1, show_default=True, help="The same seed has the same plan, if not the same timing.")
@click.option("--kills", default=20, show_default=True, type=click.IntRange(min=1), help="Faults, of all kinds.")
@click.option(
    "--seconds", default=1800.0, show_default=True, type=click.FloatRange(min=0), help="After that, no more faults."
)
@click.option("--writers", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--watchers", default=4, show_default=True, type=click.IntRange(min=0))
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 16), help="Servers on one database.")
@click.option(
    "--backplane",
    type=click.Choice(["none", "postgres", "redis"]),
    help="How they tell each other. Default: none for one node, redis for more.",
)
@click.option("--per-s", default=40.0, show_default=True, type=click.FloatRange(0.1, 500), help="Commands of a writer.")
@click.option("--slots", default=6, show_default=True, type=click.IntRange(1, 64), help="Of them in flight at once.")
@click.option(
    "--faults",
    "kinds",
    callback=_kinds,
    help="Kinds to choose from, with commas between. Default: all, those of Redis where it is the backplane.",
)
@click.option(
    "--lasting",
    "lasting_s",
    type=click.FloatRange(0.1, 120),
    help="Seconds that each fault lasts, of those that are not over at once. Default: a few, by kind and seed.",
)
@click.option(
    "--measure",
    "around_s",
    default=0.0,
    type=click.FloatRange(0, 60),
    help="Measure latencies for so many seconds before, in and after each fault, and wait that much longer between.",
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the record there.")
@click.option("--keep", is_flag=True, help="Keep the files: journals, logs, and what the database said.")
def cli(
    json_path: Path | None, kinds: Sequence[Kind] | None, keep: bool, nodes: int, backplane: str | None, **given: Any
) -> None:
    """Kill, stop, cut and fill, and count what was lost, repeated, or out of order. All must be 0.

    A server, or several nodes, and a Postgres and a Redis of its own; writers that send again what was not answered,
    here or at the next node, watchers with journals; and one fault after the other, each when the system has recovered
    from the last. Ends with `ngos verify` and with an account of every command. Linux only.

    Where only Redis is hurt, clients may notice latency and nothing else:
    --nodes 2 --faults kill-redis,sleep-redis,flush-redis,fill-redis --kills 4 --lasting 30 --measure 10
    """
    backplane = backplane or ("none" if nodes == 1 else "redis")
    if nodes > 1 and backplane == "none":
        raise click.UsageError("several nodes need a backplane: postgres or redis")
    if kinds is None:
        kinds = [kind for kind in Kind if kind not in OF_REDIS or backplane == "redis"]
    elif backplane != "redis" and (unused := OF_REDIS & set(kinds)):
        names = ", ".join(sorted(kind.value for kind in unused))
        raise click.UsageError(f"nobody uses Redis: {names} needs --backplane redis")
    if Kind.DISK_FULL in kinds:
        enter_own_mounts()
    # Whoever ends us wants all that we started gone too. Set, because a shell's background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # Short, so that a socket's path fits; not under a private home, so that Postgres may enter it.
    directory = Path(tempfile.mkdtemp(prefix=f"ngos-chaos-{os.getpid()}-", dir="/tmp"))
    directory.chmod(0o711)
    console = Console()
    console.width = max(console.width, WIDTH)  # in a pipe, too
    try:
        run = Run(
            Options(kinds=kinds, keep=keep, nodes=nodes, backplane=backplane, **given),
            directory,
            lambda line: console.print(line, highlight=False),
        )
        with (directory / "chaos.log").open("w") as log:
            structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
            trio.run(interruptible, run.run)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* (ChaosError, NgosError) as group:
        raise click.ClickException("; ".join(map(str, _leaves(group)))) from None
    finally:
        if keep:
            click.echo(f"kept: {directory}", err=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    show(console, run.outcome)
    if json_path is not None:
        json_path.write_bytes(orjson.dumps(run.outcome.record(), option=orjson.OPT_INDENT_2))
    sys.exit(0 if run.outcome.good else 1)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return found
