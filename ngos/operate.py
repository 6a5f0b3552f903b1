"""The commands that an operator types for a database or a server that is to be: `ngos migrate`, `verify`, `doctor`.

Server code is imported when one of them is called, so that the clients' commands work without it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson
import trio
from attrs import asdict

from ngos.config import Settings
from ngos.errors import SetupError
from ngos.flags import settings_flags
from ngos.loading import faults, load_settings

if TYPE_CHECKING:
    from ngos.postgres.migrate import MigrationReport
    from ngos.verify import Report

EMBEDDED_START_S: Final = 30.0
LOCK_S: Final = 60.0
_SERVER_EXTRA: Final = "needs the server: pip install 'ngos[server]'"


@click.command()
@click.option(
    "--new-epochs",
    is_flag=True,
    help="Give every topic a new epoch: after a restore that ngos can't see, of data into the same tables or of files.",
)
@settings_flags("database_url", "data_dir", "database_connect_s")
def migrate(given: dict[str, str], config_file: Path | None, new_epochs: bool) -> None:
    """Bring the database's schema up to date, as `ngos serve` does by itself when it starts.

    Files that were applied stay when a later one fails. Waits up to 60 s for another ngos that is at it. A database
    that was restored gets new epochs: clients then read the state anew, instead of resuming in a log that went back.

    Example: ngos migrate --database-url postgresql://ngos@db/ngos
    """
    settings = load_settings(given, config_file)
    try:
        from ngos.postgres.migrate import migrate as run
    except ImportError as exc:
        raise missing_server(exc, "migrate") from exc

    async def bring_up_to_date() -> MigrationReport:
        async with _database(settings) as conninfo:
            return await run(conninfo, connect_s=settings.database_connect_s, lock_s=LOCK_S, new_epochs=new_epochs)

    report = trio.run(bring_up_to_date)
    for name in report.applied:
        click.echo(f"applied {name}")
    if report.applied:
        click.echo(f"schema {report.from_version} -> {report.to_version}")
    kept = report.kept
    if kept is not None and kept.renewed is not None:
        click.echo(f"new epochs for {kept.topics} topics: {kept.renewed}")
    elif not report.applied:
        click.echo("nothing to do")


@click.command()
@click.option(
    "--journal",
    "journals",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="A file that `ngos watch --journal` wrote, to be checked too; may be given several times.",
)
@click.option("--complete", is_flag=True, help="Each journal must have come to its topics' last events.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
@settings_flags("database_url", "data_dir", "database_connect_s")
def verify(
    given: dict[str, str], config_file: Path | None, journals: tuple[Path, ...], complete: bool, as_json: bool
) -> None:
    """Check that nothing is lost and nothing there twice, in the database and in what watchers saw of it.

    Every change has its event and every event its change, numbers have no holes, replies are what was logged. Reads
    one snapshot, beside a server that runs; only an embedded Postgres can't be verified while `ngos serve` runs on it.

    Exit code 0 where all is sound, 1 where there are faults or it could not be checked.

    Example: ngos verify --database-url postgresql://ngos@db/ngos --journal seen.jsonl
    """
    settings = load_settings(given, config_file)
    try:
        from ngos.verify import verify as run
    except ImportError as exc:
        raise missing_server(exc, "verify") from exc
    if settings.database_url is None and not (settings.data_dir / "postgres").exists():
        raise SetupError(f"{settings.data_dir}: no database is there; name one by --data-dir or --database-url")

    async def check() -> Report:
        async with _database(settings) as conninfo:
            return await run(conninfo, journals, complete=complete, connect_s=settings.database_connect_s)

    report = trio.run(check)
    if as_json:
        click.echo(orjson.dumps(report.to_json()))
    else:
        from rich.console import Console

        report.print(Console())
    if not report.sound:
        sys.exit(1)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One object of JSON a finding and line, for programs.")
@settings_flags()
def doctor(given: dict[str, str], config_file: Path | None, as_json: bool) -> None:
    """Look at all that a server with these settings needs, and say what to do where something is missing.

    Settings, keys, port, file limit, disk, database, schema, clock, Redis. Changes nothing; takes the flags of
    `ngos serve`. Exit code 0 where there are no problems, 1 where there are.

    Example: ngos doctor --config /etc/ngos/ngos.toml
    """
    settings = load_settings(given, config_file)
    try:
        from ngos.doctor import State, examine
        from ngos.logs import configure_logging
    except ImportError as exc:
        raise missing_server(exc, "doctor") from exc
    configure_logging(settings)  # to stderr: what a check's defect has to say
    found = trio.run(examine, settings)
    if as_json:
        for finding in found:
            click.echo(orjson.dumps(asdict(finding)))
    else:
        width = max(len(finding.about) for finding in found)
        for finding in found:
            colour = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red"}[finding.state]
            advice = f": {finding.advice}" if finding.advice else ""
            state = click.style(f"{finding.state:7}", fg=colour)
            click.echo(f"{state}  {finding.about:{width}}  {finding.text}{advice}")
    if any(finding.state is State.PROBLEM for finding in found):
        sys.exit(1)


def check_config(given: dict[str, str], config_file: Path | None) -> None:
    """Print `ok`, or each fault of the settings in a line, and exit with 2."""
    wrong = faults(given, config_file)
    if not wrong:
        try:
            from ngos.doctor.settings import faults as faults_together
        except ImportError as exc:
            raise missing_server(exc, "config --check") from exc
        found = trio.run(faults_together, load_settings(given, config_file))
        wrong = [": ".join(filter(None, (finding.about, finding.text, finding.advice))) for finding in found]
    for line in wrong:
        click.echo(f"ngos: {line}", err=True)
    if wrong:
        sys.exit(2)
    click.echo("ok")


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    """The database that is set, or the embedded one, which runs for the length of the block; yields its conninfo."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from ngos.postgres.embedded import embedded_postgres

    async with embedded_postgres(settings.data_dir, start_s=EMBEDDED_START_S) as conninfo:
        yield conninfo


def missing_server(exc: ImportError, command: str) -> Exception:
    """What is ours and can't be imported is a defect; what is not, an extra that is not installed."""
    ours = exc.name is not None and exc.name.split(".")[0] == "ngos"
    return exc if ours else SetupError(f"ngos {command} {_SERVER_EXTRA} ({exc})")
