"""scripts/bench runs, cleans up, and what it writes makes sense. How fast anything is, is not tested."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import bench_servers
import pytest

from tests import redis_server
from tests.scripts.benches import contestants, written

# Of the peers those that are Python: the others are not on every machine, or would have to be fetched.
PYTHON_PEERS = {"fastapi", "websockets", "hypercorn"}


def test_create_measures_both_servers(bench):
    """`create` counts replies of ngos, with and without names, and of its peer, checks their rows, writes them down."""
    document = written(bench("create", "--seconds", "0.8", "--repeats", "1", "--cells", "1x1"))
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
            *("fanout", "--seconds", "0.8", "--repeats", "1", "--subscribers", "5", "--in-flight", "4"),
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
        bench("echo", "--seconds", "0.8", "--repeats", "1", "--cells", "2x4", "--peers", ",".join(PYTHON_PEERS))
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
            *("accept", "--seconds", "0.8", "--repeats", "1", "--concurrency", "4"),
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
            *("stall", "--seconds", "0.8", "--readers", "5", "--stalled", "2"),
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
        (("nodes", "--paces", "50/s,often"), "'often' is neither like 50/s nor like x16"),
        (("nodes", "--backplanes", "redis,pigeons"), "'pigeons' is not one of postgres, redis, lost"),
        (("echo", "--peers", "postgres"), "'postgres' is not one of fastapi, websockets"),
    ],
)
def test_what_makes_no_sense_is_refused(bench, arguments: tuple[str, ...], said: str):
    """A wrong argument is said to be wrong before anything starts."""
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("free_port", [bench_servers.free_port, redis_server.free_port])
def test_a_port_is_given_to_nobody_else(free_port: Callable[[], int]) -> None:
    """Tries to be given a port that whoever binds to any, or connects, may be given before the server is there."""
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < lowest_given for _ in range(100))


@pytest.mark.parametrize("idle", ["per_s", "server_cpu", "load_cpu"])
def test_nothing_in_the_time_that_counts_is_told_so(idle: str) -> None:
    """Tries to end a report by a window in which nothing came, or that the kernel's clock did not see go by."""
    from bench_report import COSTS, CPU

    numbers = dict.fromkeys(("per_s", "server_cpu", "load_cpu", "postgres_cpu", "others_cpu", "processes"), 1.0)
    numbers[idle] = 0.0
    shown = [column.show(numbers) for column in (*COSTS, *CPU)]
    assert ("nan" in shown[0]) == (idle == "per_s")
