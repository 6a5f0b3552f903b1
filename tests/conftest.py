"""Fixtures that tests of all folders share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import trio

from tests.console import log_plainly
from tests.databases import TestServer
from tests.histories import History, make_history
from tests.servers import TRANSPORTS, Running, running_server

# How fast the machine is at the moment is no property of ours.
hypothesis.settings.register_profile(
    "ngos", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("ngos")


def pytest_configure() -> None:
    """Set the process up."""
    # What a shell does to a suite in its background: processes that ignore SIGINT pass that on to theirs.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    log_plainly()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no process has one alone at the end: those that start whole servers."""
    ranks = {"scripts": 0, "tests": 1, "conformance": 1}
    items.sort(key=lambda item: ranks.get(item.path.parent.name, 2))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    """One Postgres for the whole session."""
    server = TestServer()
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            # The machine's own pg_dump may be older than the Postgres that is dumped.
            patch.setenv("PATH", os.pathsep.join(filter(None, (server.programs, os.environ["PATH"]))))
            yield server
    finally:
        server.stop()


@pytest.fixture
def database_url(postgres_server: TestServer) -> Iterator[str]:
    """A fresh database with ngos's schema."""
    conninfo = postgres_server.create_database()
    yield conninfo
    postgres_server.drop_database(conninfo)


@pytest.fixture
def empty_database_url(postgres_server: TestServer) -> Iterator[str]:
    """A fresh database with nothing in it."""
    conninfo = postgres_server.create_database(migrated=False)
    yield conninfo
    postgres_server.drop_database(conninfo)


@pytest.fixture(params=TRANSPORTS)
async def server(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """A server on a fresh database, with the default settings but for those of a mark; over each of the transports."""
    marks = request.node.get_closest_marker("settings")
    async with running_server(database_url, transport=request.param, **(marks.kwargs if marks else {})) as running:
        yield running


@pytest.fixture(scope="session")
def made_history(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """The history, made once; what tests get are copies."""
    url = postgres_server.create_database()
    journal = tmp_path_factory.mktemp("history") / "seen.jsonl"
    trio.run(make_history, url, journal)
    yield History(url, journal)
    postgres_server.drop_database(url)


@pytest.fixture
def history(made_history: History, postgres_server: TestServer, tmp_path: Path) -> Iterator[History]:
    """A copy of the history, this test's own."""
    url = postgres_server.create_database(like=made_history.url)
    yield History(url, Path(shutil.copy(made_history.journal, tmp_path / "seen.jsonl")))
    postgres_server.drop_database(url)
