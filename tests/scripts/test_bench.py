"""scripts/bench runs, cleans up, and what it writes makes sense. How fast anything is, is not tested."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.databases import TestServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(postgres_server: TestServer):
    """Runs scripts/bench on the tests' Postgres; returns the finished process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "bench"), *arguments]
        command += ["--database-url", postgres_server.conninfo]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)

    return run


def test_create_measures_both_servers_and_drops_its_databases(bench, postgres_server: TestServer):
    """`create` counts replies of ngos and of its peer, writes them down, and leaves no database behind."""
    done = bench("create", "--seconds", "0.5", "--repeats", "1", "--cells", "1x1")
    assert done.returncode == 0, done.stdout + done.stderr

    path = ROOT / re.findall(r"bench-results/create-\S+\.json", done.stdout)[-1]
    document = json.loads(path.read_text())
    path.unlink()
    assert {run["contestant"] for run in document["runs"]} == {"ngos", "fastapi+asyncpg"}
    for run in document["runs"]:
        numbers = run["numbers"]
        assert 0 < numbers["counted"] <= numbers["replies"]
        assert 0 < numbers["p50_ms"] <= numbers["p99_ms"] <= numbers["max_ms"]
        assert numbers["per_s"] > 0
    assert document["medians"]["1x1"]["ngos"]["per_s"] == document["runs"][0]["numbers"]["per_s"]
    assert document["postgres"]["fsync"] == "on"

    with psycopg.connect(postgres_server.conninfo) as connection:
        left = connection.execute("select datname from pg_database where datname like 'ngos_bench_%'").fetchall()
    assert left == []


def test_a_cell_that_makes_no_sense_is_refused(bench):
    """A cell is CLIENTSxIN_FLIGHT; anything else is said to be wrong before anything starts."""
    done = bench("create", "--cells", "0x16")
    assert done.returncode == 2
    assert "CLIENTSxIN_FLIGHT" in done.stderr
