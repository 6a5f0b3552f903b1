"""The command line of scripts/hunt: what is asked for, how it is shown, how it ends.

Promises: exit code 0 only if there were reads, and each of them was sound; 1 if not, 2 if it was asked for wrongly, 130
if a signal ended it. What it made is gone afterwards.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio
from bench_servers import BenchError
from chaos_parts.processes import ChaosError
from hunt_parts.run import Account, Options, hunt
from interrupts import interruptible

from ngos.errors import NgosError


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(0.5, 3600))
@click.option("--nodes", default=2, show_default=True, type=click.IntRange(1, 8))
@click.option("--readers", default=4, show_default=True, type=click.IntRange(1, 100), help="On each node.")
@click.option("--writers", default=4, show_default=True, type=click.IntRange(1, 100), help="On the first node.")
@click.option(
    "--writes-per-s", default=20.0, show_default=True, type=click.FloatRange(0.1, 5000), help="Of all writers."
)
@click.option("--tokens", default=300, show_default=True, type=click.IntRange(30, 100_000), help="At the start.")
@click.option("--edges", default=3000, show_default=True, type=click.IntRange(30, 1_000_000), help="At the start.")
@click.option("--cache-bytes", default=2**25, show_default=True, type=click.IntRange(0), help="0: without a cache.")
@click.option("--backplane", default="postgres", show_default=True, type=click.Choice(["postgres", "redis"]))
@click.option("--redis/--no-redis", default=True, show_default=True, help="Whether the nodes share a Redis.")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--database-url",
    envvar="NGOS_TEST_DATABASE_URL",
    help="A Postgres server to make the database in; default: an embedded one. [env: NGOS_TEST_DATABASE_URL]",
)
def cli(**given: Any) -> None:
    """Look for reads that are past: some write on one node, others read on all, and each read is compared with the log.

    Every answer of `graph.neighbors`, `graph.path` and `token.list` must be what the events up to the position that it
    claims make, and that must not be before a write that was answered, on whatever node, before the read was sent.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with tempfile.TemporaryDirectory(prefix="ngos-hunt-", ignore_cleanup_errors=True) as directory:
            work = partial(hunt, Options(**given), Path(directory), partial(click.echo, err=True))
            account = trio.run(interruptible, work)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* (BenchError, ChaosError, NgosError) as group:
        raise click.ClickException("; ".join(map(str, _leaves(group)))) from None
    show(account)
    verdict = account.verdict
    sys.exit(int(bool(verdict.stale or verdict.behind or not verdict.reads)))


def show(account: Account) -> None:
    """Print what came of it."""
    verdict = account.verdict
    click.echo(f"writes {account.writes}; refused or not found: {dict(account.refused)}")
    click.echo(f"reads {verdict.reads.total()}: {dict(verdict.reads)}")
    for number, sources in enumerate(account.sources, 1):
        click.echo(f"node {number}: {dict(sources)}")
    for example in verdict.examples:
        click.echo(example)
    click.echo(f"stale {verdict.stale}, behind what was answered {verdict.behind}")


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return found
