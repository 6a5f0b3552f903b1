"""scripts/chaos runs, finds nothing lost, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import psycopg
import pytest

from tests.scripts.marked import Script

LIMIT_S = 90.0


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for a condition, for as long as the process runs."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)


def test_a_short_run_is_all_zeros(chaos: Script, tmp_path: Path) -> None:
    """Tries to lose, repeat or disorder a change by one fault of each of five kinds."""
    path = tmp_path / "record.json"
    kinds = ["kill-server", "kill-postgres", "kill-writer", "kill-watcher", "cut"]
    done = chaos(
        *("--seed", "11", "--kills", "5", "--writers", "2", "--watchers", "2", "--faults", ",".join(kinds)),
        *("--json", str(path)),
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "all zeros: seed 11, 5 faults" in done.stdout
    record = json.loads(path.read_text())
    assert Counter(kinds) == Counter(hit["kind"] for hit in record["hits"])
    assert record["good"]
    assert not any(record["account"]["findings"].values())
    assert record["account"]["answered"] == record["account"]["commands"] > 100
    assert record["account"]["resent"] > 0
    for numbers in record["recovery"].values():
        assert 0 < numbers["median_s"] <= numbers["worst_s"] < 20


def test_a_lost_event_is_found(chaos: Script, tmp_path: Path) -> None:
    """Tries to have a run come out well while whose log lost an event that was answered and seen."""
    path = tmp_path / "record.json"
    with chaos.start("--kills", "1", "--faults", "reset", "--watchers", "1", "--json", str(path)) as process:
        until(lambda: any("chaos_parts.writer" in line for line in chaos.processes()), process)
        (directory,) = chaos.directories()
        journal = directory / "watcher-0.jsonl"
        until(lambda: journal.exists() and bool(SEEN.search(journal.read_bytes())), process)
        seen = orjson.loads(SEEN.search(journal.read_bytes()).group())
        with psycopg.connect(host=directory / "data" / "postgres", user="postgres", autocommit=True) as db:
            assert 1 == db.execute(LOSE, seen).rowcount
        out, err = process.communicate(timeout=LIMIT_S)
        assert 1 == process.returncode, out + err
    record = json.loads(path.read_text())
    assert not record["good"]
    assert 1 == len(record["account"]["findings"]["lost"])
    assert 1 == len(record["account"]["findings"]["different"])
    assert not record["verify"]["sound"]


SEEN = re.compile(rb'^{"id":[^\n]*"type":"said"[^\n]*(?=\n)', re.MULTILINE)
LOSE = """
delete from events using topics
where events.topic_id = topics.topic_id and topic = %(topic)s and events.seq = %(seq)s
"""


def test_ctrl_c_leaves_nothing_behind(chaos: Script) -> None:
    """Tries to leave processes, files or a mount behind by interrupting it in the middle of a fault."""
    with chaos.start("--kills", "5", "--faults", "disk-full,stop-watcher") as process:
        until(lambda: any("chaos_parts.writer" in line for line in chaos.processes()), process)
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(20)
        assert "Traceback" not in process.stderr.read()


def test_killed_it_leaves_no_process_behind(chaos: Script) -> None:
    """Tries to leave a server, a client or Postgres behind by killing it before it can clean up."""
    with chaos.start("--kills", "5", "--faults", "stall") as process:
        until(lambda: any("chaos_parts.writer" in line for line in chaos.processes()), process)
        process.kill()
    until(lambda: not chaos.processes())
    for directory in chaos.directories():
        shutil.rmtree(directory)  # that it can't


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--faults", "earthquake"), "'earthquake' is not a valid Kind; there are kill-server,"),
        (("--kills", "0"), "0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(chaos: Script, arguments: tuple[str, ...], said: str) -> None:
    """Tries to have a run begin that was asked for wrongly."""
    done = chaos(*arguments)
    assert 2 == done.returncode
    assert said in re.sub(r"\s+", " ", done.stderr)
