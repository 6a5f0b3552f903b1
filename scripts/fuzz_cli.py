"""The command line of scripts/fuzz: what is asked for, where the findings go, how it ends.

Promises: exit code 0 only if nothing was found; 1 if something was, and it is named; 2 if it was asked for wrongly, 130
on Ctrl-C. What it made is gone afterwards, but for the findings.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
import structlog
import trio
from fuzz_parts.attacks import NAMES
from fuzz_parts.findings import Finding
from fuzz_parts.run import TARGETS, Options, Run, replay
from interrupts import interruptible
from rich.console import Console
from rich.table import Table

WIDTH = 120


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH})
@click.option("--minutes", default=5.0, show_default=True, type=click.FloatRange(0.05, 24 * 60), help="About.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="The same seed tries the same.")
@click.option("--only", multiple=True, type=click.Choice(TARGETS), help="A part; may be given several times.")
@click.option("--attack", "named", multiple=True, type=click.Choice(NAMES), help="Of the attacks, only this one.")
@click.option(
    "--findings",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("fuzz-findings"),
    show_default=True,
    help="Where what is found is written, a file each.",
)
@click.option(
    "--replay", "replayed", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Try one again."
)
@click.option("--planted", is_flag=True, hidden=True)
def cli(
    minutes: float,
    seed: int,
    only: tuple[str, ...],
    named: tuple[str, ...],
    findings: Path,
    replayed: Path | None,
    planted: bool,
) -> None:
    """Feed the codec, the frames and a whole server what nobody should send, and see what breaks.

    The codec, cursors and frames by search, guided by coverage where atheris can be imported; then real servers, with
    a Postgres of their own or that of NGOS_TEST_DATABASE_URL: known attacks by name, and random connections. Linux
    only.

    Exit code 0 where nothing was found; else 1, and each finding is a file for --replay.
    """
    # Whoever ends us wants all that we started gone too. Set, because a shell's background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # Short, so that a socket's path fits; not under a private home, so that Postgres may enter it.
    directory = Path(tempfile.mkdtemp(prefix="ngos-fuzz-", dir="/tmp"))
    directory.chmod(0o711)
    console = Console()
    console.width = max(console.width, WIDTH)  # in a pipe, too
    begun = time.monotonic()
    try:
        with (directory / "fuzz.log").open("w") as log:
            structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
            if replayed is not None:
                sys.exit(_replay(replayed, directory))
            options = Options(minutes * 60, seed, only or TARGETS, planted, named or NAMES)
            run = Run(options, directory, findings, lambda line: console.print(line, highlight=False, markup=False))
            trio.run(interruptible, run.run)
    except* KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    _show(console, run, time.monotonic() - begun)
    sys.exit(1 if run.findings else 0)


def _replay(path: Path, directory: Path) -> int:
    try:
        finding = Finding.load(path)
    except ValueError as exc:
        raise click.BadParameter(f"{path}: {exc}") from None
    failure = trio.run(replay, finding, directory)
    click.echo(f"{finding.target}: {finding.what}: {'fails' if failure else 'does not fail any more'}")
    if failure:
        click.echo(failure)
    return 1 if failure else 0


def _show(console: Console, run: Run, seconds: float) -> None:
    table = Table("target", "inputs", "", box=None)
    table.columns[1].justify = "right"
    for row in run.rows:
        table.add_row(row.target, f"{row.inputs:,}", row.remark)
    console.print(table, highlight=False)
    for path, finding in run.findings.items():
        text = f"FOUND: {finding.target}: {finding.what}: {path}"
        console.print(text, style="red", highlight=False, soft_wrap=True, markup=False)
    count = len(run.findings)
    style = "red" if count else "green"
    text = f"{count} finding{'' if count == 1 else 's'}: seed {run.options.seed}, {seconds:.0f} s"
    console.print(text, style=style, highlight=False)
