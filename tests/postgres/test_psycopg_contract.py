"""What ngos.postgres.driver relies on in psycopg that psycopg does not promise. One test per assumption.

When one of these fails after an upgrade of psycopg, the driver is what to read, before anything else breaks.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import psycopg
import psycopg.errors
import pytest
from psycopg import _conninfo_utils, generators, waiting
from psycopg._pipeline_async import AsyncPipeline
from psycopg._pipeline_base import BasePipeline
from psycopg.pq import TransactionStatus
from psycopg.transaction import AsyncTransaction
from psycopg.waiting import Ready, Wait

PSYCOPG = Path(inspect.getfile(psycopg)).parent


def test_version_is_the_one_that_was_read() -> None:
    """The inner names were read in psycopg 3.3."""
    assert (3, 3) == tuple(int(part) for part in psycopg.__version__.split(".")[:2])


def test_libpq_cancels_without_blocking() -> None:
    """Cancelling by a generator needs libpq 17; an older one would leave only a blocking call."""
    assert psycopg.capabilities.has_cancel_safe()


@pytest.mark.parametrize(
    "name",
    ["_connect_gen", "_cancel_gen", "_should_cancel", "_check_connection_ok", "wait", "cancel_safe", "notifies"],
)
def test_connection_has_the_methods_that_are_called_or_replaced(name: str) -> None:
    """A renamed method would be one that asyncio still runs."""
    assert callable(getattr(psycopg.AsyncConnection, name))


def test_lock_is_an_attribute_used_only_as_an_async_context_manager() -> None:
    """Our lock has nothing but `async with`, so psycopg must not ask it for more."""
    asked = [
        line.strip()
        for file in PSYCOPG.glob("*_async.py")
        for line in file.read_text().splitlines()
        if ".lock" in line and "async with" not in line
    ]
    expected = ["self.lock = ALock()", "self._lock = _DummyLock() if _no_lock else conn.lock"]
    assert sorted(expected) == sorted(asked)


def test_asyncio_is_used_only_where_we_replace_it() -> None:
    """A new use of asyncio within a method that we inherit would fail only when it is reached."""
    users = {
        file.name
        for file in PSYCOPG.glob("*.py")
        if any(line.lstrip().startswith(("import asyncio", "from asyncio")) for line in file.read_text().splitlines())
    }
    # _acompat: only its lock is used, and we replace it. errors: CancelledError, to be told apart.
    # waiting, _conninfo_attempts_async and connection_async: wait, connect and cancel_safe are ours.
    assert {
        "_acompat.py",
        "errors.py",
        "waiting.py",
        "_conninfo_attempts_async.py",
        "connection_async.py",
    } == users


def test_everything_async_waits_through_the_connection() -> None:
    """Cursors, copies, transactions and pipelines must call `connection.wait`, not psycopg.waiting."""
    direct = {file.name for file in PSYCOPG.glob("*.py") if "wait_async(" in file.read_text()}
    assert {"waiting.py", "connection_async.py"} == direct


def test_wait_is_called_with_a_generator_and_at_most_a_timeout() -> None:
    """Our `wait` must accept what psycopg's accepts."""
    assert ["self", "gen", "interval", "timeout"] == list(inspect.signature(psycopg.AsyncConnection.wait).parameters)


def test_wait_timeout_exists() -> None:
    """`notifies(timeout=...)` ends by this exception, which our `wait` raises."""
    assert issubclass(psycopg.errors._WaitTimeout, Exception)


def test_wait_and_ready_are_flags() -> None:
    """The states that generators yield and the answers they take are these bits."""
    assert (1, 2, 3, 1, 2, 3) == (Wait.R, Wait.W, Wait.RW, Ready.R, Ready.W, Ready.RW)


def test_ready_now_looks_without_waiting() -> None:
    """`_ready` says at once what a descriptor is ready for."""
    read_fd, write_fd = os.pipe()
    try:
        assert 0 == waiting._ready(read_fd, Wait.R)
        assert Ready.W == waiting._ready(write_fd, Wait.RW)
        os.write(write_fd, b"x")
        assert Ready.R == waiting._ready(read_fd, Wait.RW)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_generators_yield_again_when_nothing_was_ready(empty_database_url: str) -> None:
    """Draining resumes a suspended generator with `next`, which must mean "nothing yet" and lose nothing."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.pgconn.send_query(b"select pg_sleep(0.05)")
        generator = generators.execute(connection.pgconn)
        assert Wait.R == next(generator)
        assert Wait.R == next(generator)
        (result,) = connection.wait(generator)
        assert 1 == result.ntuples


def test_transaction_status_is_active_while_a_query_runs(empty_database_url: str) -> None:
    """Whether there is something to cancel is read from here."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.pgconn.send_query(b"select pg_sleep(0.05)")
        assert TransactionStatus.ACTIVE == connection.pgconn.transaction_status
        connection.wait(generators.execute(connection.pgconn))
        assert TransactionStatus.IDLE == connection.pgconn.transaction_status


def test_connection_has_the_attributes_that_are_set(empty_database_url: str) -> None:
    """`connect` sets what psycopg's sets, by the same names."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        assert connection._autocommit is True
        assert connection._adapters is None
        assert connection._pipeline is None
        assert connection._num_transactions == 0
        assert connection._closed is False


@pytest.mark.parametrize("name", ["get_param", "is_ip_address", "split_attempts"])
def test_conninfo_functions_exist(name: str) -> None:
    """Name resolution is ours, taking a conninfo apart is psycopg's."""
    assert callable(getattr(_conninfo_utils, name))


def test_blocks_end_in_aexit() -> None:
    """Our transaction and pipeline replace `__aexit__` and call psycopg's."""
    parameters = ["self", "exc_type", "exc_val", "exc_tb"]
    assert parameters == list(inspect.signature(AsyncTransaction.__aexit__).parameters)
    assert parameters == list(inspect.signature(AsyncPipeline.__aexit__).parameters)


def test_forgotten_statements_are_deallocated_later(empty_database_url: str) -> None:
    """After a failed pipeline the cache is cleared, which leaves a DEALLOCATE to be sent by `maintain_gen`."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("select 1", prepare=True)
        assert 1 == len(connection._prepared._names)
        connection._prepared.clear()
        assert [None] == list(connection._prepared._to_flush)
        connection.wait(connection._prepared.maintain_gen(connection))
        assert connection.execute("select 1 from pg_prepared_statements", prepare=False).fetchall() == []


def test_pipeline_queues_run_in_step(empty_database_url: str) -> None:
    """Each queued command has an entry for its result, so that what was not sent can be taken off both."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection, connection.pipeline() as pipeline:
        for prepare in (True, False):
            generator = connection.cursor()._execute_gen("select 1", None, prepare=prepare)
            next(generator)  # up to where it would first wait
            generator.close()
            assert len(pipeline.command_queue) == len(pipeline.result_queue) > 0


def test_pipeline_has_the_attributes_that_are_read(empty_database_url: str) -> None:
    """An abandoned pipeline forgets its queue; a stuck one is told by its level and status."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection, connection.pipeline() as pipeline:
        assert isinstance(pipeline, BasePipeline)
        assert 1 == pipeline.level
        assert 0 == len(pipeline.command_queue)
        assert connection.pgconn is pipeline.pgconn
        assert connection is pipeline._conn
