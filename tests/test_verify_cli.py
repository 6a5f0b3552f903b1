"""`ngos verify` and `ngos watch --journal` as they are typed: exit codes, one line for what goes wrong, kills."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
import trio

from ngos.__main__ import main
from ngos.client.feed import Event
from ngos.client.trio import Client, connect
from ngos.config import FIELDS
from ngos.journal import Opened, json_line, open_journal, read
from ngos.loading import variable
from ngos.verify import verify
from tests.client.fakes import Peer, serve
from tests.histories import DURABLE, History
from tests.servers import running_server
from tests.test_cli import one_line, run
from tests.test_journal import files_at_most

WATCH = [sys.executable, "-m", "ngos", "watch"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*map(variable, FIELDS), "NGOS_CONFIG", "NGOS_URL", "NGOS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_sound(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to get another exit code than 0, or a report that can't be read, of what is sound."""
    arguments = ["verify", "--database-url", history.url, "--journal", str(history.journal), "--complete"]
    assert 0 == main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert ["sound"] * 6 == [line.split()[0] for line in lines[:6]]
    expected = ["numbers", "changes", "trajectories", "replies", "identity", "journals"]
    assert expected == [line.split()[1] for line in lines[:6]]
    assert "nothing lost, nothing twice" == lines[-1]
    assert 0 == main([*arguments, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (True, 0) == (report["sound"], report["faults"])
    assert {"epoch", "seq", "pruned"} == set(report["topics"]["tokens"])
    keys = {"name", "unit", "looked_at", "unchecked", "faults", "first", "remarks"}
    assert all(keys == set(check) for check in report["checks"])


def test_faulty(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to get exit code 0, or more than a screen, or control characters, out of many faults."""
    history.execute("update replies set subject = subject || E'\\x1b[2J', seq = 99")
    arguments = ["verify", "--database-url", history.url]
    assert 1 == main(arguments)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[3].startswith("FAULTY  replies")
    assert 5 + 10 + 1 + 1 + 1 == len(lines)  # the checks, the first faults, how many more, a remark, the sum
    assert lines[-1].endswith(" faults")
    assert 1 == main([*arguments, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert not report["sound"]
    assert report["faults"] == report["checks"][3]["faults"] > 10 == len(report["checks"][3]["first"])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("drop table ngos_schema", "no schema of ngos"),
        ("delete from ngos_schema where version > 1", "version 1, and this ngos verifies version"),
        ("insert into ngos_schema (version, name) values (9999, 'x')", "versions up to"),
        ("drop table replies", 'can\'t read the database: relation "replies" does not exist'),
    ],
)
def test_another_schema(database_url: str, damage: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to get a verdict, or a traceback, of a database that this ngos does not know."""
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(damage)
    assert 1 == main(["verify", "--database-url", database_url])
    assert expected in one_line(capsys)


def test_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to have a database made, or more than a line said, where there is none, or a server runs on it."""
    assert 1 == main(["verify", "--database-url", "postgresql://127.0.0.1:1/x"])
    assert "connection refused" in one_line(capsys).lower()
    assert 1 == main(["verify", "--data-dir", str(tmp_path / "none")])
    assert "no database is there" in one_line(capsys)
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "postgres").mkdir()
    with (tmp_path / "ngos.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert 1 == main(["verify", "--data-dir", str(tmp_path)])
    assert "another ngos runs on" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["verify", "--journal", "/no/such.jsonl"], "does not exist"),
        (["verify", "--journal", "/"], "is a directory"),
        (["watch", "tokens", "--quiet"], "--quiet without --journal would do nothing"),
    ],
)
def test_asked_for_wrongly(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to have a wrong command line do anything."""
    assert 2 == main(arguments)
    assert expected in one_line(capsys)


def test_a_journal_that_is_no_file(database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to have it wait for ever for somebody to write."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert 1 == main(["verify", "--database-url", database_url, "--journal", str(pipe)])
    assert f"{pipe}: not a file" == one_line(capsys)


def test_journal_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to have a second watcher write to a journal."""
    file = tmp_path / "j"
    with open_journal(file, ["tokens"]):
        assert 1 == main(["watch", "tokens", "--journal", str(file)])
    assert f"{file}: another ngos watch is writing this journal" == one_line(capsys)


async def test_the_log_is_shorter_than_the_journal(
    nursery: trio.Nursery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tries to go on with a journal where the server can't, or to say it in more than a line."""
    file = tmp_path / "j"
    with open_journal(file, ["tokens"]) as journal:
        journal.write(Event(id="1", type="x", topic="tokens", seq=5, epoch="0000000a", timestamp_ms=1))
    asked = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.receive())
        await peer.agree(asked[0], seq=9, recovered=False)

    url = await serve(nursery, script)
    assert 1 == await run("watch", "tokens", "--journal", str(file), "--quiet", "--url", url)
    assert {"topic": "tokens", "since": 5, "epoch": "0000000a"} == asked[0]["payload"]
    assert "tokens" in one_line(capsys)
    nursery.cancel_scope.cancel()


async def test_the_disk_is_full(nursery: trio.Nursery, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to have a watcher go on without its journal, show what is not in it, or say more than a line."""
    file = tmp_path / "j"

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.receive())
        for seq in range(1, 9):
            await peer.event("tokens", "x", seq)

    url = await serve(nursery, script)
    with files_at_most(300):
        assert 1 == await run("watch", "tokens", "--journal", str(file), "--json", "--url", url)
    captured = capsys.readouterr()
    assert f"ngos: {file}: File too large\n" == captured.err
    seen = [entry for _, entry in read(file)]
    assert [Opened("tokens", "0000000a", 0)] == seen[:1]
    assert [json_line(entry).decode() for entry in seen[1:] if isinstance(entry, Event)] == (
        captured.out.splitlines(keepends=True)
    )
    nursery.cancel_scope.cancel()


async def test_a_watcher_that_is_killed_again_and_again(database_url: str, tmp_path: Path) -> None:
    """Tries to lose an event, or to have one twice, by SIGKILLs of the watcher while events come without pause."""
    file = tmp_path / "seen.jsonl"
    topics = ("tokens", "experience", "chat.x")

    async def write_for_ever(client: Client) -> None:
        while True:
            await client.create_token()
            await client.record_experience("step", trajectory_id="way")
            await client.publish("chat.x", "said", {"text": "\0\n"})

    async def watch_until(lines: int, *, kill: bool = True, arguments: tuple[str, ...] = ()) -> int:
        command = [*WATCH, *topics, "--url", server.url, "--journal", str(file), "--json", *arguments]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with trio.fail_after(30):
            seen = 0
            while seen < lines and (data := await process.stdout.receive_some()):
                seen += data.count(b"\n")
            if kill:
                process.kill()
            await process.stdout.aclose()
            return await process.wait()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(database_url, durable_topics=DURABLE))
        client = await stack.enter_async_context(connect(server.url, client_id="busy"))
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(write_for_ever, client)
            for lines in (1, 100, 333, 7):
                assert -9 == await watch_until(lines)
                with file.open("r+b") as journal:  # as if the kill had come in the midst of a line
                    journal.truncate(journal.seek(0, os.SEEK_END) - lines % 50)
            nursery.cancel_scope.cancel()
        await client.list_tokens()  # comes after all that was sent before
        report = await verify(database_url, [file])
        assert report.sound
        positions: dict[str | None, int | None] = {}
        for _, entry in read(file):
            if isinstance(entry, Opened | Event):
                positions[entry.topic] = entry.seq
        left = sum(report.topics[topic]["seq"] - (positions[topic] or 0) for topic in topics)
        assert 0 == await watch_until(left, kill=False, arguments=("--count", str(left)))
    report = await verify(database_url, [file], complete=True)
    assert report.sound, report.checks[-1].first
    assert report.checks[-1].looked_at > 400
