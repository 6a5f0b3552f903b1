"""scripts/bench runs, cleans up, and what it writes makes sense. How fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import TestServer

ROOT = Path(__file__).resolve().parents[2]
# Of the peers those that are Python: the others are not on every machine, or would have to be fetched.
PYTHON_PEERS = {"fastapi", "websockets", "hypercorn"}


class Bench:
    """Starts scripts/bench on the tests' Postgres, and finds what it started by a mark in the environment."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._mark = f"NGOS_BENCH_MARK={uuid.uuid4().hex}"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "scripts" / "bench"), *arguments, "--database-url", self._database_url]
        environment = os.environ | dict([self._mark.split("=")])
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=90)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def processes(self) -> list[str]:
        """Command lines of what runs with our mark."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (path / "environ").read_bytes():
                    found.append((path / "cmdline").read_text().replace("\0", " "))
            except OSError:
                pass  # not ours, or gone
        return found


@pytest.fixture
def bench(postgres_server: TestServer):
    """Runs scripts/bench; no process and no database may be left behind."""
    bench = Bench(postgres_server.conninfo)
    yield bench
    assert bench.processes() == []
    with psycopg.connect(postgres_server.conninfo) as connection:
        left = connection.execute("select datname from pg_database where datname like 'ngos_bench_%'").fetchall()
    assert left == []


def written(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON that a benchmark wrote, taken away again."""
    assert done.returncode == 0, done.stdout + done.stderr
    path = ROOT / re.findall(r"bench-results/\w+-\S+\.json", done.stdout)[-1]
    document = json.loads(path.read_text())
    path.unlink()
    return document


def contestants(document: dict[str, Any]) -> set[str]:
    return {run["contestant"] for run in document["runs"]}


def test_create_measures_both_servers(bench):
    """`create` counts replies of ngos, with and without names, and of its peer, checks their rows, writes them down."""
    document = written(bench("create", "--seconds", "0.3", "--repeats", "1", "--cells", "1x1"))
    assert contestants(document) == {"ngos", "ngos, once", "fastapi+asyncpg"}
    for run in document["runs"]:
        numbers = run["numbers"]
        assert 0 < numbers["counted"] <= numbers["replies"]
        assert 0 < numbers["p50_ms"] <= numbers["p99_ms"] <= numbers["max_ms"]
        assert numbers["per_s"] > 0
    assert document["medians"]["1x1"]["ngos"]["per_s"] == document["runs"][0]["numbers"]["per_s"]
    assert document["postgres"]["fsync"] == "on"


def test_fanout_counts_deliveries(bench):
    """`fanout` brings every message to every subscriber, or fails; ngos's messages are longer by their envelope."""
    peers = PYTHON_PEERS | ({"nats"} if shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin") else set())
    document = written(
        bench(
            *("fanout", "--seconds", "0.3", "--repeats", "1", "--subscribers", "5", "--in-flight", "4"),
            *("--peers", ",".join(peers)),
        )
    )
    assert contestants(document) == {"ngos"} | peers
    for run in document["runs"]:
        numbers = run["numbers"]
        assert 0 < numbers["counted"] < numbers["published"] * 5
        assert 0 < numbers["p50_ms"] <= numbers["p99_ms"] <= numbers["max_ms"]
        match run["contestant"]:
            case "ngos":
                assert numbers["message_bytes"] > 204
            case "nats":
                assert numbers["message_bytes"] == len("MSG bench 1 200\r\n") + 200 + len("\r\n")
            case _:
                assert numbers["message_bytes"] == 204  # a header of four bytes and what was published


def test_echo_counts_round_trips(bench):
    """`echo` gets to each message the answer that was due."""
    document = written(
        bench("echo", "--seconds", "0.3", "--repeats", "1", "--cells", "2x4", "--peers", ",".join(PYTHON_PEERS))
    )
    assert contestants(document) == {"ngos"} | PYTHON_PEERS
    for run in document["runs"]:
        assert run["numbers"]["counted"] > 0
        assert 0 < run["numbers"]["p50_ms"] <= run["numbers"]["p99_ms"] <= run["numbers"]["max_ms"]


def test_memory_is_what_the_kernel_counts(bench):
    """`memory` sees a server of plausible size, before, with and after its connections."""
    document = written(bench("memory", "--connections", "20", "--repeats", "1", "--peers", ""))
    assert contestants(document) == {"ngos"}
    for run in document["runs"]:
        numbers = run["numbers"]
        assert all(5 < numbers[name] < 2000 for name in ("before_mb", "connected_mb", "left_mb"))
        assert numbers["kb_per_connection"] * 20 == pytest.approx(
            (numbers["connected_mb"] - numbers["before_mb"]) * 1024
        )


def test_accept_counts_connections(bench):
    """`accept` has every connection established, and closed by the server, or fails."""
    document = written(
        bench(
            *("accept", "--seconds", "0.3", "--repeats", "1", "--concurrency", "4"),
            *("--peers", ",".join(PYTHON_PEERS)),
        )
    )
    assert contestants(document) == {"ngos"} | PYTHON_PEERS
    for run in document["runs"]:
        assert run["numbers"]["counted"] > 0
        assert 0 < run["numbers"]["p50_ms"] <= run["numbers"]["p99_ms"]


def test_stall_sees_the_stalled_cut_and_the_readers_served(bench):
    """`stall` ends when those that never read are cut, and the readers have got every event."""
    document = written(
        bench(
            *("stall", "--seconds", "0.3", "--readers", "5", "--stalled", "2"),
            *("--events-per-s", "300", "--payload-bytes", "30000"),
        )
    )
    (run,) = document["runs"]
    numbers = run["numbers"]
    assert 0 < numbers["cut_first_s"] <= numbers["cut_last_s"] < 30
    for phase in ("before", "during", "after"):
        assert numbers[f"{phase}_samples"] > 0
        assert 0 < numbers[f"{phase}_p50_ms"] <= numbers[f"{phase}_p99_ms"]
        assert 5 < numbers[f"{phase}_rss_mb"] < 2000


def test_ctrl_c_leaves_nothing_behind(bench):
    """Interrupted while servers and load run, it stops them all and drops its databases."""
    with bench.start("fanout", "--seconds", "10", "--peers", "websockets") as process:
        deadline = time.monotonic() + 20
        while not any("bench_loads.fanout" in line for line in bench.processes()):
            assert time.monotonic() < deadline, bench.processes()
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--cells", "0x16"), "CLIENTSxIN_FLIGHT"),
        (("fanout", "--in-flight", "1,many"), "'many' is not a number above zero"),
        (("echo", "--peers", "postgres"), "'postgres' is not one of fastapi, websockets"),
    ],
)
def test_what_makes_no_sense_is_refused(bench, arguments: tuple[str, ...], said: str):
    """A wrong argument is said to be wrong before anything starts."""
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
