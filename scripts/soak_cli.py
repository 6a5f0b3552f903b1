"""The command line of scripts/soak: what is asked for, how it is shown, how it ends.

Promises: exit code 0 only if every aim that could be judged was met; 1 if not, 2 if it was asked for wrongly, 130 if a
signal ended the load before its time: the report of what was seen till then comes all the same. What it made is gone
afterwards.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import orjson
import structlog
import trio
from bench_servers import BenchError
from chaos_parts.processes import ChaosError
from interrupts import interruptible
from rich.console import Console
from soak_parts.account import State, judge
from soak_parts.report import line, show
from soak_parts.run import Options, Run
from soak_parts.sample import Sample

from ngos.errors import NgosError

WIDTH = 150
SAY_EVERY_S = 60.0


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--minutes",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.05, 7 * 24 * 60),
    help="Minutes of load. Of fewer than 30, the slope of memory is not judged.",
)
@click.option(
    "--clients", default=500, show_default=True, type=click.IntRange(2, 2000), help="Clients that follow `tokens`."
)
@click.option(
    "--changes-per-s",
    default=200.0,
    show_default=True,
    type=click.FloatRange(1, 2000),
    help="Commands a second in all, evenly, that create, change, connect and delete.",
)
@click.option(
    "--reconnects",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 60),
    help="The share of clients that leaves in a minute, and comes back where it was.",
)
@click.option(
    "--interval-s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.5, 600),
    help="Seconds over which everything is measured.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed has the same commands.")
@click.option(
    "--database-url",
    envvar="NGOS_TEST_DATABASE_URL",
    help="A Postgres server to make the database in; default: an embedded one. [env: NGOS_TEST_DATABASE_URL]",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write all samples and the verdicts into this file.",
)
@click.argument("flags", nargs=-1)
def cli(*, json_file: Path | None, **given: Any) -> None:
    """Keep a server busy, evenly and for long, and see what it does to memory, descriptors, tasks and latency.

    FLAGS, after --, go to `ngos serve`. A line a minute tells how it is. Every client must get each event once and in
    order, descriptors and tasks must be what they were, memory may not grow, nor the latency. Ctrl-C ends the load,
    and the report is of what was till then; a second one ends it all. Linux only.
    """
    # Whoever ends us wants all that we started gone too. Set, because a shell's background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    console = Console()
    console.width = max(console.width, WIDTH)  # in a pipe, too
    said_at_s = 0.0

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, style="dim", markup=False)
        sys.stdout.flush()

    def on_sample(sample: Sample) -> None:
        nonlocal said_at_s
        if sample.at_s - said_at_s >= SAY_EVERY_S - sample.seconds / 2:
            said_at_s = sample.at_s
            say(line(sample))

    options = Options(**given)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="ngos-soak-", ignore_cleanup_errors=True) as directory,
            (Path(directory) / "soak.log").open("w") as log,
        ):
            structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
            account = trio.run(interruptible, Run(options, Path(directory), say, on_sample).run)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* (BenchError, ChaosError, NgosError) as group:
        raise click.ClickException("; ".join(map(str, _leaves(group)))) from None
    show(console, account)
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(account.record(), option=orjson.OPT_INDENT_2))
    failed = any(verdict.state is State.FAILED for verdict in judge(account))
    sys.exit(130 if account.interrupted else int(failed))


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return found
