"""scripts/bench runs, cleans up, and what it writes makes sense. How fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from typing import Any

import psycopg
import pytest

from tests.databases import TestServer
from tests.scripts.marked import ROOT, Script

# Of the peers those that are Python: the others are not on every machine, or would have to be fetched.
PYTHON_PEERS = {"fastapi", "websockets", "hypercorn"}


@pytest.fixture
def bench(postgres_server: TestServer):
    """Runs scripts/bench; no process and no database may be left behind."""
    bench = Script("bench", "--database-url", postgres_server.conninfo)
    yield bench
    assert bench.processes() == []
    with psycopg.connect(postgres_server.conninfo) as connection:
        left = connection.execute("select datname from pg_database where datname like 'ngos_bench_%'").fetchall()
    assert left == []


def all_written(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON that a benchmark wrote, taken away again."""
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [ROOT / name for name in re.findall(r"bench-results/\w+-\S+\.json", done.stdout)]
    documents = [json.loads(path.read_text()) for path in paths]
    for path in paths:
        path.unlink()
    return documents


def written(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The same of one that writes once."""
    (document,) = all_written(done)
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


def test_replay_gets_every_event(bench):
    """Tries to have a replay count other events than those of the log, or a slow reader cut or given all at once."""
    document = written(
        bench("replay", "--events", "3000", "--repeats", "1", "--seconds", "0.5", "--slow-kb-per-s", "100")
    )
    fast, slow = (run["numbers"] for run in document["runs"])
    assert 3000 == fast["counted"]
    assert 0 < slow["counted"] * slow["event_bytes"] < 100_000
    for numbers in (fast, slow):
        assert 200 < numbers["event_bytes"] < 600
        for phase in ("before", "during"):
            assert 0 < numbers[f"{phase}_p50_ms"] <= numbers[f"{phase}_p99_ms"]
        assert all(5 < numbers[name] < 2000 for name in ("before_rss_mb", "during_rss_mb", "left_mb"))


def test_resume_brings_everybody_back(bench):
    """Tries to have a client not come back, or miss what was written while it was away."""
    document = written(
        bench(
            *("resume", "--clients", "20", "--rate", "100", "--away", "0.5", "--seconds", "0.3"),
            *("--jitter", "0,0.2"),
        )
    )
    assert ["at once", "in 0.2 s"] == [run["cell"] for run in document["runs"]]
    for run in document["runs"]:
        numbers = run["numbers"]
        assert 20 == numbers["resumed"]
        assert 40 < numbers["missed_mean"] < numbers["written"]
        for which in ("first", "median", "last"):
            subscribed, replayed, level = (numbers[f"{what}_{which}_s"] for what in ("subscribed", "replayed", "level"))
            assert 0 < subscribed <= replayed <= level < 10
        assert 0 < numbers["back_p50_ms"] <= numbers["back_p99_ms"]


def test_log_compares_a_long_log_with_an_empty_one(bench):
    """Tries to have the logs hold something else than they should, in both of its tables."""
    append, replay = all_written(
        bench(
            *("log", "--events", "2000", "--replayed", "500", "--repeats", "1", "--seconds", "0.3"),
            *("--cells", "2x2"),
        )
    )
    assert {"ngos, 2,000", "ngos, 0"} == contestants(append)
    assert {"ngos, 2,000", "ngos, 500"} == contestants(replay)
    assert append["ratios"]["2x2"]["ngos, 0"] > 0
    for run in replay["runs"]:
        assert 500 == run["numbers"]["counted"]


@pytest.mark.parametrize(
    ("arguments", "until"),
    [
        (("fanout", "--seconds", "10", "--peers", "websockets"), "bench_loads.fanout"),
        (("resume", "--seconds", "10", "--clients", "5"), "bench_loads.beside"),
    ],
    ids=("fanout", "resume"),
)
def test_ctrl_c_leaves_nothing_behind(bench, arguments: tuple[str, ...], until: str):
    """Interrupted while servers and load run, it stops them all and drops its databases."""
    with bench.start(*arguments) as process:
        deadline = time.monotonic() + 20
        while not any(until in line for line in bench.processes()):
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
        (("resume", "--jitter", "0,soon"), "'0,soon' is not a list of seconds"),
        (("log", "--events", "10", "--replayed", "11"), "there are only 10 events"),
        (("echo", "--peers", "postgres"), "'postgres' is not one of fastapi, websockets"),
    ],
)
def test_what_makes_no_sense_is_refused(bench, arguments: tuple[str, ...], said: str):
    """A wrong argument is said to be wrong before anything starts."""
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
