"""What the scripts are made of can be imported by their tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console import log_plainly
from tests.databases import TestServer
from tests.scripts.marked import Script

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that is run in this process configures structlog for its own life, which is over before ours."""
    yield
    log_plainly()


@pytest.fixture
def chaos() -> Iterator[Script]:
    """Runs scripts/chaos; no process, no mount and no file may be left behind."""
    chaos = Script("chaos")
    yield chaos
    assert [] == chaos.processes()
    assert [] == chaos.directories()
    assert "ngos-chaos" not in Path("/proc/self/mounts").read_text()


@pytest.fixture
def bench(postgres_server: TestServer) -> Iterator[Script]:
    """Runs scripts/bench; no process and no database may be left behind."""
    bench = Script("bench", "--database-url", postgres_server.conninfo)
    yield bench
    assert [] == bench.processes()
    assert [] == bench.databases(postgres_server.conninfo)
