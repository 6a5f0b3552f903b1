"""The command line: what people type, what they get, and never a traceback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from ngos import __version__
from ngos.__main__ import main
from ngos.client.backoff import Backoff
from ngos.client.feed import Event
from ngos.config import FIELDS
from ngos.loading import flag, variable
from ngos.terminal import harmless
from ngos.watch import cells, plain_line
from tests.client.fakes import Peer, serve, token

NGOS = [sys.executable, "-m", "ngos"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*map(variable, FIELDS), "NGOS_CONFIG", "NGOS_URL", "NGOS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


async def run(*arguments: str) -> int:
    """Run a command line in a thread, where its own `trio.run` can be."""
    return await trio.to_thread.run_sync(main, arguments)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Check that standard error is one line of ours, and return it without its beginning."""
    err = capsys.readouterr().err
    assert err.startswith("ngos: ")
    assert 1 == err.count("\n")
    return err.removeprefix("ngos: ").rstrip("\n")


def test_help_names_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """`ngos serve --help` has a flag and a variable for each setting there is."""
    assert 0 == main(["serve", "--help"])
    out = capsys.readouterr().out
    for name in FIELDS:
        assert flag(name) in out
        assert variable(name) in out


def test_help_names_what_is_no_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to lose a command's own options where it takes settings, too."""
    assert 0 == main(["verify", "--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--database-url", "--journal", "--complete", "--json"))


@pytest.mark.parametrize("command", ["serve", "migrate", "verify", "config", "watch", "send", "demo"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help shows how it is typed."""
    assert 0 == main([command, "--help"])
    assert f"ngos {command}" in capsys.readouterr().out.split("Example:")[1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version tells the package's version."""
    assert 0 == main(["--version"])
    assert f"ngos {__version__}\n" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sned"], "sned"),
        (["serve", "--prot", "1"], "--prot"),
        (["serve", "--port", "http"], "--port: must be an integer from 0 to 65535, not 'http'"),
        (["config", "--config", "/no/such.toml"], "/no/such.toml: No such file or directory"),
        (["send"], "Missing argument 'TYPE'"),
        (["send", "token.crate"], "no such command: 'token.crate'; did you mean token.create?"),
        (["send", "ping", "{"], "the payload is not JSON"),
        (["send", "ping", "[]"], "the payload is not a JSON object"),
        (["watch"], "Missing argument 'TOPIC...'"),
        (["watch", "tokens", "--count", "0"], "--count"),
    ],
)
def test_asked_for_wrongly(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is one line and exit code 2, before anything is done."""
    assert 2 == main(arguments)
    assert expected in one_line(capsys)


def test_wrong_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong variable is named."""
    monkeypatch.setenv("NGOS_LOG_LEVEL", "loud")
    assert 2 == main(["serve"])
    assert one_line(capsys).startswith("NGOS_LOG_LEVEL: must be one of debug, info")


@pytest.mark.parametrize("arguments", [["send", "ping"], ["watch", "tokens"], ["demo"]])
def test_no_server(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server each client command is one line that says so, exit code 1."""
    assert 1 == main([*arguments, "--url", "ws://127.0.0.1:1/ws"])
    assert "can't connect to ws://127.0.0.1:1/ws: connection refused: is the server running?" == one_line(capsys)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("serve", "ngos serve needs the server: pip install 'ngos[server]'"),
        ("migrate", "ngos migrate needs the server: pip install 'ngos[server]'"),
        ("verify", "ngos verify needs the server: pip install 'ngos[server]'"),
        ("demo", "ngos demo needs networkx: pip install 'ngos[demo]'"),
    ],
)
def test_missing_extras(command: str, expected: str) -> None:
    """What needs an extra that is not installed says how to install it."""
    # In a process of its own: what was imported again would stay, and other tests would patch that and not what runs.
    program = f"""
import sys
sys.modules.update(dict.fromkeys(("hypercorn", "psycopg", "networkx")))
from ngos.__main__ import main
sys.exit(main([{command!r}]))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    (line,) = told.stderr.splitlines()
    assert (1, "") == (told.returncode, told.stdout)
    assert line.startswith(f"ngos: {expected}")


def test_config_shows_sources_and_masks_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ngos config` tells value and source of all settings, and no secret."""
    file = tmp_path / "ngos.toml"
    file.write_text("[ngos]\ndrain_s = 3\n")
    monkeypatch.setenv("NGOS_DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert 0 == main(["config", "--config", str(file), "--port", "9000"])
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert set(FIELDS) == set(lines)
    assert ["9000", "--port"] == lines["port"]
    assert ["*****", "NGOS_DATABASE_URL"] == lines["database_url"]
    assert ["3.0", f"{file}:", "drain_s"] == lines["drain_s"]
    assert ["127.0.0.1", "default"] == lines["host"]


async def test_send(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """`ngos send` prints the reply's payload, or with --raw its envelope as one line."""
    seen: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        command = await peer.receive()
        seen.append(command)
        await peer.reply(command, "token.created", token(type="demo"))

    url = await serve(nursery, script)
    assert 0 == await run("send", "token.create", '{"type": "demo"}', "--url", url, "--id", "one")
    assert "demo" == json.loads(capsys.readouterr().out)["type"]
    assert 0 == await run("send", "token.future", "--url", url, "--raw")
    (line,) = capsys.readouterr().out.splitlines()
    assert "token.created" == json.loads(line)["type"]
    assert ["token.create", "token.future"] == [command["type"] for command in seen]
    assert ("one", {"type": "demo"}) == (seen[0]["id"], seen[0]["payload"])
    nursery.cancel_scope.cancel()


async def test_send_is_refused(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """An error reply is one line on standard error, its details on standard output, exit code 1."""

    async def script(peer: Peer) -> None:
        await peer.fail(await peer.receive(), "conflict", "there is\none", connection_id="c")

    url = await serve(nursery, script)
    assert 1 == await run("send", "ping", "--url", url)
    captured = capsys.readouterr()
    assert "ngos: conflict: there is one\n" == captured.err
    assert {"connection_id": "c"} == json.loads(captured.out)
    nursery.cancel_scope.cancel()


async def events(peer: Peer, *, then_close: bool = False) -> None:
    """Agree to two subscriptions, then three events on the one, one on the other."""
    for _ in range(2):
        await peer.agree(await peer.receive())
    for seq in (1, 2, 3):
        await peer.event("tokens", "token.created", seq, token_id="0198c0de-0000-7000-8000-000000000000", weight=1.0)
    await peer.event("chat.x", "said\x1b[2J", None, text="hi")
    if then_close:
        await peer.socket.aclose(1008, "enough")


async def test_watch_json(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """`ngos watch --json --count` prints whole envelopes, one a line, and stops by itself."""
    url = await serve(nursery, events)
    assert 0 == await run("watch", "tokens", "chat.x", "--url", url, "--json", "--count", "3")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert 3 == len(lines)
    first = lines[0]
    assert ("tokens", 1, "0000000a", "other") == (first["topic"], first["seq"], first["epoch"], first["sender_id"])
    assert {"id", "type", "timestamp", "payload"} < set(first)
    nursery.cancel_scope.cancel()


async def test_watch_loses_the_connection(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """What came before is shown; then, as it may not come back, one line says why it ended, exit code 1."""
    url = await serve(nursery, partial(events, then_close=True))
    assert 1 == await run("watch", "tokens", "chat.x", "--url", url)
    captured = capsys.readouterr()
    assert 4 == len(captured.out.splitlines())
    assert "\x1b" not in captured.out
    assert "ngos: connection lost: enough (1008)\n" == captured.err
    nursery.cancel_scope.cancel()


async def test_watch_survives_a_break(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tries to have `ngos watch` show an event twice or not at all over a break, or end without a word at a hole."""
    monkeypatch.setattr("ngos.client.session.Backoff", lambda: Backoff(lambda _a, _b: 0.0))
    asked: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        command = await peer.receive()
        asked.append(command["payload"])
        match len(asked):
            case 1:
                await peer.agree(command)
                await peer.event("tokens", "x", 1)
                await peer.socket.aclose(1012)
            case 2:
                await peer.agree(command, seq=2, recovered=True, replay=1)
                await peer.event("tokens", "x", 2)
                await peer.socket.aclose(1012)
            case _:
                await peer.agree(command, seq=9, epoch="0000000b")

    url = await serve(nursery, script)
    assert 1 == await run("watch", "tokens", "--url", url, "--json")
    captured = capsys.readouterr()
    assert [1, 2] == [json.loads(line)["seq"] for line in captured.out.splitlines()]
    assert [None, 1, 2] == [payload.get("since") for payload in asked]
    lost = "ngos: connection lost: restarting: reconnect after the time that system.draining named (1012)"
    assert [
        f"{lost}; trying again in 0.0 s",
        "ngos: connected again",
        "ngos: tokens goes on where it was, 1 missed event first",
        f"{lost}; trying again in 0.0 s",
        "ngos: connected again",
    ] == captured.err.splitlines()[:-1]
    assert captured.err.splitlines()[-1].startswith("ngos: events on 'tokens' after seq 2 of epoch 0000000a are lost")
    nursery.cancel_scope.cancel()


async def test_watch_on_a_terminal(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the events are in a table, and the cursor is given back."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    url = await serve(nursery, events)
    assert 0 == await run("watch", "tokens", "chat.x", "--url", url, "--count", "4")
    out = capsys.readouterr().out
    assert "token.created" in out
    assert "4 events" in out
    assert "\x1b[2J" not in out
    assert out.rfind("\x1b[?25h") > out.rfind("\x1b[?25l")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("close_pipe", [False, True], ids=["interrupt", "closed pipe"])
async def test_watch_ends_silently(nursery: trio.Nursery, close_pipe: bool) -> None:
    """Ctrl-C and a reader that has enough end `ngos watch` without a word."""
    more = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.receive())
        await peer.event("tokens", "x", 1)
        await more.wait()
        await peer.event("tokens", "x", 2)

    url = await serve(nursery, script)
    command = [*NGOS, "watch", "tokens", "--json", "--url", url]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert b'"seq":1' in await process.stdout.receive_some()
    if close_pipe:
        await process.stdout.aclose()
        more.set()
    else:
        process.send_signal(signal.SIGINT)
    assert b"" == await process.stderr.receive_some()
    assert (0 if close_pipe else 130) == await process.wait()
    await process.stderr.aclose()
    await process.stdout.aclose()
    nursery.cancel_scope.cancel()


async def test_demo_twice(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo loads 77 tokens before 254 edges; when it is run again nothing is made twice, and nothing fails."""
    commands: list[dict[str, Any]] = []
    known: set[str] = set()

    async def script(peer: Peer) -> None:
        while True:
            command = await peer.receive()
            commands.append(command)
            key = json.dumps(command["payload"])
            if key in known:
                await peer.fail(command, "conflict")
            else:
                known.add(key)
                await peer.reply(command, command["type"], {})

    url = await serve(nursery, script)
    assert 0 == await run("demo", "--url", url)
    assert "tokens: 77 created, 0 there already\nedges: 254 created, 0 there already\n" == capsys.readouterr().out
    assert ["token.create"] * 77 + ["graph.connect"] * 254 == [command["type"] for command in commands]
    created = [command["payload"] for command in commands[:77]]
    assert 77 == len({payload["token_id"] for payload in created})
    for payload in created:
        for axis in ("coord_x", "coord_y", "coord_z"):
            assert 8 == len(payload[axis])
            assert all(-1 <= number <= 1 for number in payload[axis])
    assert 0 == await run("demo", "--url", url)
    assert "tokens: 0 created, 77 there already\nedges: 0 created, 254 there already\n" == capsys.readouterr().out
    nursery.cancel_scope.cancel()


async def test_demo_fails_in_one_line(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """Many tasks that fail for one reason are one line, not a group."""

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.aclose(1008)

    url = await serve(nursery, script)
    assert 1 == await run("demo", "--url", url)
    assert capsys.readouterr().err.splitlines()[-1].startswith("ngos: connection lost: policy")
    nursery.cancel_scope.cancel()


def test_what_others_sent_does_not_steer_the_terminal() -> None:
    """Control characters of a payload, a type or a sender are replaced, and an absurd time does no harm."""
    event = Event(id="1", type="a\x1b[2J", topic="t", timestamp_ms=10**30, sender_id="\x9b", payload={"k": "\r\nx"})
    assert all(cell.isprintable() for cell in cells(event))
    assert "?" == cells(event)[0]
    assert plain_line(event).isprintable()
    assert "plain ü" == harmless("plain ü")
