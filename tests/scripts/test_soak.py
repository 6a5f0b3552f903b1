"""scripts/soak runs, tells what it saw, and leaves nothing behind. How fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from soak_parts.run import Options, Run
from trio.testing import MockClock

from tests.databases import TestServer
from tests.scripts.marked import Script

LIMIT_S = 60.0
SHORT = ("--clients", "12", "--changes-per-s", "40", "--interval-s", "0.5")


@pytest.fixture
def soak(postgres_server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs scripts/soak; no process, no database and no file may be left behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    soak = Script("soak", "--database-url", postgres_server.conninfo)
    yield soak
    assert [] == soak.processes()
    assert [] == list(tmp_path.glob("ngos-*"))
    assert [] == soak.databases(postgres_server.conninfo)


def test_a_short_soak_is_told_soundly(soak: Script, tmp_path: Path) -> None:
    """Tries to have a load without events, clients that never left, or a slope that so short a run can't have."""
    path = tmp_path / "soak.json"
    done = soak("--minutes", "0.07", "--reconnects", "30", *SHORT, "--json", str(path))
    record = json.loads(path.read_bytes())
    assert record["good"] == (0 == done.returncode), done.stdout + done.stderr
    states = {verdict["about"]: verdict["state"] for verdict in record["verdicts"]}
    sure = ("nothing lost", "ngos verify", "commands", "descriptors", "tasks", "connections", "subscriptions")
    assert dict.fromkeys(sure, "good") == {about: states[about] for about in sure}, done.stdout
    assert "not judged" == states["memory"] == states["p99 of replies"] == states["p99 of deliveries"]
    assert 0 < record["readers"]["events"] < record["heads"]["tokens"] * 12 * 2
    assert record["writers"]["due"] == {topic: seq for topic, seq in record["heads"].items() if seq}
    assert 0 < record["readers"]["resumed"] <= record["readers"]["came_back"]
    assert 0 < record["writers"]["answered"] == record["writers"]["sent"]
    assert {} == record["readers"]["ended"] == record["writers"]["ended"] == record["writers"]["errors"]
    # In an interval in which the database stood still, nothing was answered: null.
    last = [sample for sample in record["samples"] if sample["replies"]][-1]
    memory = last["memory"]
    assert 0 < memory["uss_bytes"] <= memory["pss_bytes"] <= memory["rss_bytes"] >= memory["made_bytes"] > 0
    assert 0 < last["replies"]["p50_ms"] <= last["replies"]["p99_ms"] <= last["replies"]["max_ms"]


class Watched:
    """Clients that tell nothing, and note when they were asked; some of their answers are late by so many seconds."""

    def __init__(self, late_s: Mapping[int, float]) -> None:
        self.looks: list[float] = []
        self._late_s = late_s

    async def ask(self, do: str) -> dict[str, float]:
        if do == "look":
            self.looks.append(trio.current_time())
            await trio.sleep(self._late_s.get(len(self.looks), 0.0))
        return dict.fromkeys(("cpu_s", "events", "answered", "decoded", "there", "came_back", "left_out"), 0)


async def test_a_late_look_is_not_followed_at_once(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to have a sample of a moment, in which nothing can have been answered, after one that came late."""
    monkeypatch.setattr("soak_parts.run.scrape", lambda _port: {})
    options = Options(
        minutes=5 / 60, clients=2, changes_per_s=1.0, reconnects=0.0, interval_s=1.0, seed=1, database_url=None
    )
    server = SimpleNamespace(port=1, process=SimpleNamespace(pid=os.getpid(), poll=lambda: None))
    readers, writers = Watched({2: 1.9}), Watched({})
    samples: list[object] = []
    run = Run(options, tmp_path, lambda _line: None, samples.append)
    began = trio.current_time()
    await run._load(server, readers, writers)
    # The second look, due at 2 s, was over at 3.9 s; the fifth is due at 5 s.
    assert [1.0, 3.9, 4.4, 4.9, 5.4] == pytest.approx([look - began for look in writers.looks])
    assert 5 == len(samples)


def test_ctrl_c_brings_the_report_so_far(soak: Script) -> None:
    """Tries to leave anything behind, or to have nothing told, by interrupting it in the midst of the load."""
    with soak.start("--minutes", "10", *SHORT) as process:
        assert "the load has begun" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    assert 130 == process.returncode
    assert "Traceback" not in err
    assert ", interrupted, of 10" in out, out + err
    assert "nothing lost: " in out


def test_a_server_that_dies_is_told(soak: Script, tmp_path: Path) -> None:
    """Tries to have the script hang, or end in a traceback, or find nothing, when the server is killed under it."""
    with soak.start("--minutes", "10", *SHORT) as process:
        assert "the load has begun" in process.stdout.readline()
        (pid,) = [pid for pid, command in commands(tmp_path).items() if "-m ngos serve" in command]
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=LIMIT_S)
    assert 1 == process.returncode, out + err
    assert "FAILED  nothing lost: the server ended by itself" in out
    assert "the server ended with -9" in out
    assert "" == err


def commands(temporary: Path) -> dict[int, str]:
    """What runs with this TMPDIR, by its process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={temporary}\0".encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        except OSError:
            pass  # not ours, or gone
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--minutes", "0"), "is not in the range"),
        (("--clients", "1"), "is not in the range"),
        (("--minutes", "1", "--json", "/"), "is a directory"),
    ],
)
def test_what_makes_no_sense_is_refused(soak: Script, arguments: tuple[str, ...], said: str) -> None:
    """Tries to have a load begin that was asked for wrongly."""
    done = soak(*arguments)
    assert 2 == done.returncode
    assert said in " ".join(done.stderr.split())
