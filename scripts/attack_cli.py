"""The command line of scripts/attack: what is asked for, how it is shown, how it ends.

Promises: exit code 0 only if the server is as it was and no honest client was harmed; 1 if not, 2 if it was asked for
wrongly, 130 on Ctrl-C. What it made is gone afterwards.
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
from attack_parts.account import MIB, judge
from attack_parts.kinds import KINDS
from attack_parts.report import show
from attack_parts.run import AFTER_S, HELD_S, Options, Run
from bench_servers import BenchError
from chaos_parts.processes import ChaosError
from interrupts import interruptible
from rich.console import Console

from ngos.errors import NgosError

WIDTH = 150


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(1, 600), help="Seconds that the attack lasts."
)
@click.option(
    "--before-seconds",
    default=20.0,
    show_default=True,
    type=click.FloatRange(1, 600),
    help="Seconds that honest clients are measured before it.",
)
@click.option(
    "--after-seconds",
    default=AFTER_S,
    show_default=True,
    type=click.FloatRange(0, 600),
    help="Seconds after it in which descriptors and tasks must be what they were.",
)
@click.option(
    "--held-seconds",
    default=HELD_S,
    show_default=True,
    type=click.FloatRange(0, 60),
    help="Seconds that the attackers are stopped, their sockets open, before they go: what their mere presence costs.",
)
@click.option("--honest", default=100, show_default=True, type=click.IntRange(1, 1000), help="Honest clients.")
@click.option(
    "--attackers",
    default=64,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Tasks that attack, shared among the kinds; each kind has one at least, some hold 16 sockets.",
)
@click.option(
    "--seed", default=1, show_default=True, help="The same seed has the same attacks, if not the same timing."
)
@click.option("--only", multiple=True, type=click.Choice(list(KINDS)), help="A kind of attack. Default: all.")
@click.option(
    "--memory-mib",
    default=64,
    show_default=True,
    type=click.IntRange(min=0),
    help="MiB that the server may have grown by, when all is over.",
)
@click.option("--jwt", is_flag=True, help="Honest clients have tokens; of the attackers half have one, the same.")
@click.option(
    "--database-url",
    envvar="NGOS_TEST_DATABASE_URL",
    help="A Postgres server to make the database in; default: an embedded one. [env: NGOS_TEST_DATABASE_URL]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record, for programs.")
@click.argument("flags", nargs=-1)
def cli(*, as_json: bool, only: tuple[str, ...], memory_mib: int, **given: Any) -> None:
    """Attack a server from one address with everything at once, and see what 100 honest clients notice.

    FLAGS, after --, go to `ngos serve`. Descriptors and tasks must be back, no honest client may get an error or be
    disconnected, nothing may be logged as an error, and memory may grow only so far; how much slower the honest ones
    were is told. All on the loopback, the attackers from 127.0.0.2. Linux only.
    """
    # Whoever ends us wants all that we started gone too. Set, because a shell's background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    console = Console(stderr=as_json)
    console.width = max(console.width, WIDTH)  # in a pipe, too
    options = Options(only=only or tuple(KINDS), memory_bytes=memory_mib * MIB, **given)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="ngos-attack-", dir="/tmp", ignore_cleanup_errors=True) as directory,
            (Path(directory) / "attack.log").open("w") as log,
        ):
            structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
            run = Run(options, Path(directory), lambda line: console.print(line, highlight=False, style="dim"))
            account = trio.run(interruptible, run.run)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* (BenchError, ChaosError, NgosError) as group:
        raise click.ClickException("; ".join(map(str, _leaves(group)))) from None
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(account.record(), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        show(console, account)
    sys.exit(1 if judge(account) else 0)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return found
