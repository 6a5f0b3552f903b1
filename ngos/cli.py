"""The command line: what an operator and a curious person type. Floor 10.

Server code is imported only by the commands that serve, so that the clients' commands work without it, and theirs only
by them, so that a server starts sooner. Exceptions go through: `ngos.__main__` makes a line and an exit code of them.
"""

from __future__ import annotations

import difflib
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import orjson
import trio
from attrs import asdict

from ngos import __version__
from ngos.client.errors import CommandError
from ngos.config import FIELDS
from ngos.flags import Command, settings_flags
from ngos.loading import load, load_settings, shown
from ngos.operate import check_config, doctor, migrate, missing_server, verify
from ngos.place import Place
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.codec import Envelope
from ngos.token_cli import token_group

DEFAULT_URL: Final = "ws://127.0.0.1:8000/ws"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ngos", message="%(prog)s %(version)s")
def cli() -> None:
    """Real-time server of NeuroGraph OS: tokens and their graph over one WebSocket, nothing lost.

    Exit codes: 0 done, 1 failed, 2 asked for wrongly, 130 interrupted.
    """


@cli.command()
@settings_flags()
def serve(given: dict[str, str], config_file: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C; then drain, within --drain-s.

    Without --database-url the server runs its own Postgres in --data-dir. Flags go before NGOS_… variables, those
    before the file. The address is printed once connections are answered.

    Example: ngos serve --port 8000 --durable-topics 'chat.*'
    """
    place = Place.of(os.environ)
    loaded = load(given, config_file)
    settings = loaded.settings
    reread = partial(load_settings, given, config_file)
    on_ready = partial(_say_ready, hints=settings.log_format == "console")
    try:
        if settings.workers > 1 and place is None:
            from ngos.workers import supervise

            by = loaded.sources["backplane"]
            sys.exit(trio.run(partial(supervise, settings, backplane_by=by, reread=reread, on_ready=on_ready)))
        from ngos.daemon import serve as run
    except ImportError as exc:
        raise missing_server(exc, "serve") from exc
    trio.run(partial(run, settings, place=place, reread=reread, on_ready=on_ready))


cli.add_command(migrate)
cli.add_command(verify)
cli.add_command(doctor)
cli.add_command(token_group)


def _say_ready(address: str, *, hints: bool) -> None:
    """The address, for programs, on stdout; what to try next, for people, on stderr."""
    print(address, flush=True)  # noqa: T201
    url = address.replace("http", "ws", 1) + "/ws"
    option = "" if url == DEFAULT_URL else f" --url {url}"
    if hints:
        click.echo(f"\n  The WebSocket is {url}. Try, in another terminal:", err=True)
        click.echo(f"      ngos watch tokens graph{option}\n      ngos demo{option}", err=True)
        click.echo("  Ctrl-C stops the server.\n", err=True)


@cli.command()
@click.option("--check", is_flag=True, help="Print `ok`, or each fault in a line; exit code 2 then.")
@settings_flags()
def config(given: dict[str, str], config_file: Path | None, check: bool) -> None:
    """Print each setting that is in force and where it comes from, secrets masked.

    --check says whether `ngos serve` would start with them, as far as that can be told without a network: before a
    restart, or a reload.

    Example: NGOS_PORT=9000 ngos config --drain-s 30
    """
    if check:
        check_config(given, config_file)
        return
    loaded = load(given, config_file)
    values = {name: shown(getattr(loaded.settings, name)) for name in FIELDS}
    width = max(map(len, values)), min(40, max(map(len, values.values())))
    for name, value in values.items():
        click.echo(f"{name:{width[0]}}  {value:{width[1]}}  {loaded.sources[name]}")


def client_options(command: Command) -> Command:
    """Add what every client command needs to find the server and to be let in."""
    for option in (
        click.option("--token", envvar="NGOS_TOKEN", help="Sent as `Authorization: Bearer`. [env: NGOS_TOKEN]"),
        click.option("--client-id", help="The name that others see; default: one is made."),
        click.option(
            "--url", default=DEFAULT_URL, envvar="NGOS_URL", help=f"The server. [default: {DEFAULT_URL}; env: NGOS_URL]"
        ),
    ):
        command = option(command)
    return command


@cli.command()
@click.option("--token", envvar="NGOS_TOKEN", help="Sent as `Authorization: Bearer`. [env: NGOS_TOKEN]")
@click.option("--url", default=DEFAULT_URL, envvar="NGOS_URL", help="The server, by http:// or ws://. [env: NGOS_URL]")
@click.option("--over-s", default=1.0, type=click.FloatRange(0.1, 60), help="Seconds to take rates over. [default: 1]")
@click.option("--json", "as_json", is_flag=True, help="One object of JSON, for programs.")
@click.option("--watch", "again", is_flag=True, help="Again and again, until Ctrl-C.")
def status(url: str, token: str | None, over_s: float, as_json: bool, again: bool) -> None:
    """Show how a running server is: connections, topics, rates, latencies, who talks most.

    Needs an administrator's token; where the server asks for none, it must be asked from its own machine. Exit code 0
    where it is ready, 1 where it is not, or can't be asked.

    Example: ngos status --watch
    """
    from rich.console import Console

    from ngos.status import look, table
    from ngos.status import watch as follow

    if again and as_json:
        raise click.UsageError("--watch is for people, --json for programs")
    console = Console()
    if again:
        trio.run(follow, url, token, over_s, console)
    report = trio.run(look, url, token, over_s)
    if as_json:
        _write(report.to_json() + b"\n")
    else:
        console.print(table(url, report))
    if report.now["reasons"]:
        sys.exit(1)


@cli.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@client_options
@click.option("--json", "as_json", is_flag=True, help="One event's envelope a line, for pipes.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events, of all topics together.")
@click.option(
    "--journal",
    "journal_file",
    type=click.Path(path_type=Path),
    help="Also append each event, as --json has it, to this file; with one that is there, go on after its last event.",
)
@click.option("--quiet", is_flag=True, help="Show nothing, and say nothing of breaks; with --journal.")
def watch(
    topics: tuple[str, ...],
    url: str,
    client_id: str | None,
    token: str | None,
    as_json: bool,
    count: int | None,
    journal_file: Path | None,
    quiet: bool,
) -> None:
    """Show the events of topics as they come: tokens, graph, experience, system, or your own.

    A table on a terminal, else a line an event. Starts live, what was before is not shown. When the connection
    breaks it comes back by itself, goes on where it was, and says so on standard error. Ends with exit code 1 when it
    may not come back, and when events of a durable topic are lost: then the server's log no longer holds them.

    A journal of durable topics has each event once and in order, however often its watcher was killed and started
    again; `ngos verify --journal` checks that.

    Example: ngos watch tokens graph --json | jq .payload
    """
    from rich.console import Console

    from ngos.client.trio import connect
    from ngos.journal import json_line, open_journal
    from ngos.watch import Show, live_table, plain_line, telling
    from ngos.watch import watch as follow

    if quiet and journal_file is None:
        raise click.UsageError("--quiet without --journal would do nothing")
    topics = tuple(dict.fromkeys(topics))
    console = Console()
    shows: AbstractContextManager[Show]
    if quiet:
        shows = nullcontext(lambda _event: None)
    elif as_json:
        shows = nullcontext(lambda event: _write(json_line(event)))
    elif console.is_terminal:
        shows = live_table(console, f"{', '.join(topics)} at {url}")
    else:
        shows = nullcontext(lambda event: _write(plain_line(event).encode() + b"\n"))

    # As sys.stderr is then: the table puts its own there, so that lines come above it.
    callbacks = None if quiet else telling(lambda line: sys.stderr.write(f"ngos: {line}\n"))

    async def run() -> None:
        with nullcontext() if journal_file is None else open_journal(journal_file, topics) as journal:
            async with connect(url, client_id=client_id, token=token, callbacks=callbacks) as client:
                with shows as show:
                    await follow(client, topics, count, show, journal=journal)

    trio.run(run)


@cli.command()
@click.argument("type_", metavar="TYPE")
@click.argument("payload", metavar="[JSON]", default="{}")
@client_options
@click.option("--id", "id_", help="The command's id: with the same --client-id and --id it takes effect once.")
@click.option("--raw", is_flag=True, help="TYPE is not checked here, and the reply's whole envelope is one line.")
def send(
    type_: str, payload: str, url: str, client_id: str | None, token: str | None, id_: str | None, raw: bool
) -> None:
    """Send one command and print its reply's payload. JSON is the payload; `-` reads it from standard input.

    Exit code 0 for a reply, 1 for an error reply, 2 for what was not sent at all.

    Example: ngos send token.create '{"type": "demo", "coord_x": [1.0]}'
    """
    from ngos.client.trio import connect

    if not raw and type_ not in COMMANDS:
        close = difflib.get_close_matches(type_, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "--raw sends it nevertheless"
        raise click.UsageError(f"no such command: {type_!r}; {hint}")
    try:
        content = orjson.loads(sys.stdin.buffer.read() if payload == "-" else payload)
    except orjson.JSONDecodeError as exc:
        raise click.UsageError(f"the payload is not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise click.UsageError("the payload is not a JSON object")

    async def run() -> Envelope:
        async with connect(url, client_id=client_id, token=token) as client:
            return await client.request(type_, content, id=id_)

    try:
        reply = trio.run(run)
    except CommandError as exc:
        if raw:
            _write(_raw(exc.reply))
        elif exc.details:
            _write(orjson.dumps(exc.details, option=orjson.OPT_INDENT_2) + b"\n")
        raise
    _write(_raw(reply) if raw else orjson.dumps(reply.payload, option=orjson.OPT_INDENT_2) + b"\n")


def _raw(reply: Envelope) -> bytes:
    fields = asdict(reply, recurse=False)
    return (
        orjson.dumps({name: value for name, value in fields.items() if value is not None and value is not False})
        + b"\n"
    )


@cli.command()
@client_options
def demo(url: str, client_id: str | None, token: str | None) -> None:
    """Load Les Misérables: 77 tokens with a place at all eight levels, and 254 edges.

    What is there already stays as it is, so a second run changes nothing. Nothing is deleted.

    Example: ngos demo --url ws://127.0.0.1:8000/ws
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ngos.client.trio import connect
    from ngos.demo import les_miserables, load

    graph = les_miserables()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())

    async def run() -> None:
        async with connect(url, client_id=client_id, token=token) as client:
            with Progress(*columns, console=Console(stderr=True)) as progress:
                for name, commands in (("tokens", graph.tokens), ("edges", graph.edges)):
                    task = progress.add_task(name, total=len(commands))
                    tallies[name] = await load(client, commands, partial(progress.advance, task))

    tallies: dict[str, Any] = {}
    trio.run(run)
    for name, tally in tallies.items():
        click.echo(f"{name}: {tally.created} created, {tally.there} there already")


def _write(data: bytes) -> None:
    """Write to standard output at once, so that a pipe's reader sees it."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
