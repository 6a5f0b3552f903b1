"""The pool: bounded, in time, and honest about whose fault it is."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
import pytest
import trio
import trio.testing
from psycopg.rows import TupleRow

from ngos.errors import StorageUnavailable
from ngos.postgres import pool as pool_module
from ngos.postgres.driver import TrioConnection
from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.pool import Pool, PoolStats, is_unavailable, open_pool


@asynccontextmanager
async def pool_of(conninfo: str, *, max_size: int = 4, query_s: float = 5) -> AsyncIterator[Pool]:
    async with open_pool(conninfo, max_size=max_size, connect_s=2, query_s=query_s) as pool:
        yield pool


async def pid_of(pool: Pool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A backend that neither works nor dies, for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_opening_needs_no_database() -> None:
    """The pool opens without a database, and using it says quickly that there is none."""
    started = trio.current_time()
    async with pool_of("host=/nowhere user=x", query_s=60) as pool:
        assert PoolStats(0, 0, 0) == pool.stats()
        with pytest.raises(StorageUnavailable, match="/nowhere"):
            async with pool.connection():
                pass
        assert PoolStats(0, 0, 0) == pool.stats()
    assert trio.current_time() - started < 10


async def test_connections_are_as_promised(empty_database_url: str) -> None:
    """Autocommit, UTC, UTF-8 and our name, on every connection."""
    async with pool_of(empty_database_url) as pool, pool.connection() as connection:
        assert connection.autocommit
        names = ["timezone", "client_encoding", "application_name"]
        cursor = await connection.execute("select current_setting(n) from unnest(%s::text[]) n", [names])
        assert [("UTC",), ("UTF8",), ("ngos",)] == await cursor.fetchall()


async def test_configure_sees_each_new_connection_once(empty_database_url: str) -> None:
    """What is registered for types and the like is on every connection, and done once."""
    seen = []

    async def configure(connection: TrioConnection[TupleRow]) -> None:
        await connection.execute("select 1")
        seen.append(connection)

    async with open_pool(empty_database_url, max_size=2, connect_s=2, query_s=2, configure=configure) as pool:
        for _ in range(3):
            async with pool.connection() as connection:
                pass
        assert [connection] == seen


async def test_last_in_first_out(empty_database_url: str) -> None:
    """The connection that was used last is the next one: it is the warm one."""
    async with pool_of(empty_database_url) as pool:
        async with pool.connection(), pool.connection() as inner:
            assert PoolStats(2, 0, 0) == pool.stats()
            inner_pid = inner.info.backend_pid
        async with pool.connection() as outer:
            outer_pid = outer.info.backend_pid
        assert PoolStats(2, 2, 0) == pool.stats()
        assert inner_pid != outer_pid
        assert outer_pid == await pid_of(pool)


async def test_many_tasks_never_more_than_max_size(empty_database_url: str) -> None:
    """A hundred tasks get by with three connections, each its own answer."""
    answers, sizes = [], []
    async with pool_of(empty_database_url, max_size=3) as pool:

        async def ask(number: int) -> None:
            async with pool.connection() as connection:
                cursor = await connection.execute("select %s::int", [number])
                answers.append(await cursor.fetchone())
                sizes.append(pool.stats().size)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        assert [(number,) for number in range(100)] == sorted(answer for answer in answers if answer)
        assert max(sizes) <= 3
        assert pool.stats().idle == pool.stats().size


async def test_too_many_wait_within_their_deadline(empty_database_url: str) -> None:
    """Who waits for a connection in vain is told so in time, and is no longer in the queue."""
    async with pool_of(empty_database_url, max_size=1, query_s=60) as pool, pool.connection():
        started = trio.current_time()
        with pytest.raises(StorageUnavailable, match=r"0\.1 s"):
            async with pool.connection(query_s=0.1):
                pytest.fail("there was none to have")
        assert trio.current_time() - started < 10
        assert PoolStats(1, 0, 0) == pool.stats()


async def test_waiting_is_counted(empty_database_url: str) -> None:
    """`stats` shows who waits."""
    async with pool_of(empty_database_url, max_size=1) as pool, trio.open_nursery() as nursery, pool.connection():
        nursery.start_soon(pid_of, pool)
        nursery.start_soon(pid_of, pool)
        await trio.testing.wait_all_tasks_blocked()
        assert PoolStats(1, 0, 2) == pool.stats()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is kept where Postgres answers: how soon it does is the machine's, not the pool's."""
    monkeypatch.setattr(pool_module, "GIVE_UP_S", 20.0)


@pytest.mark.usefixtures("patient")
async def test_slow_query_is_cancelled_and_its_connection_kept(empty_database_url: str) -> None:
    """A query past its deadline is StorageUnavailable, and costs no connection."""
    async with pool_of(empty_database_url) as pool:
        pid = await pid_of(pool)
        started = trio.current_time()
        with pytest.raises(StorageUnavailable, match=r"0\.1 s"):
            async with pool.connection(query_s=0.1) as connection:
                await connection.execute("select pg_sleep(60)")
        assert trio.current_time() - started < 10
        assert pid == await pid_of(pool)


@pytest.mark.usefixtures("patient")
async def test_cancellation_passes_as_cancellation(empty_database_url: str) -> None:
    """A client that leaves is no failure of the database."""
    async with pool_of(empty_database_url) as pool:
        await pid_of(pool)  # so that it is a query that is cancelled, and not the making of a connection
        with trio.move_on_after(0.05) as scope:
            async with pool.connection() as connection:
                await connection.execute("select pg_sleep(5)")
        assert scope.cancelled_caught
        assert PoolStats(1, 1, 0) == pool.stats()


@pytest.mark.usefixtures("patient")
async def test_open_transaction_is_rolled_back(empty_database_url: str) -> None:
    """What a block began and did not end is undone before another task gets the connection."""
    async with pool_of(empty_database_url, max_size=1) as pool:
        pid = await pid_of(pool)
        for statement in ("select 1", "create table t ()"):
            async with pool.connection() as connection:
                await connection.execute("begin")
                await connection.execute(statement)
        with pytest.raises(psycopg.errors.SyntaxError):
            async with pool.connection() as connection:
                await connection.execute("begin")
                await connection.execute("no sql")
        async with pool.connection() as connection:
            cursor = await connection.execute("select to_regclass('t')")
            assert (None,) == await cursor.fetchone()
        assert pid == await pid_of(pool)


async def test_backend_terminated_while_idle_is_replaced(empty_database_url: str) -> None:
    """Idle connections that the server closed are not handed out."""
    async with pool_of(empty_database_url) as pool, pool_of(empty_database_url) as other:
        async with pool.connection() as one, pool.connection() as two:
            pids = [one.info.backend_pid, two.info.backend_pid]
        async with other.connection() as killer:
            for pid in pids:
                # The second argument waits, ms, until it is gone.
                await killer.execute("select pg_terminate_backend(%s, 2000)", [pid])
        assert await pid_of(pool) not in pids


async def test_backend_terminated_in_a_query(empty_database_url: str) -> None:
    """A connection lost in use is StorageUnavailable, and the next block gets another one."""
    async with pool_of(empty_database_url) as pool:
        with pytest.raises(StorageUnavailable):
            async with pool.connection() as connection:
                await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        assert PoolStats(0, 0, 0) == pool.stats()
        await pid_of(pool)


async def test_statement_errors_pass(empty_database_url: str) -> None:
    """A refusal by a constraint is the caller's business, and costs no connection."""
    async with pool_of(empty_database_url) as pool:
        async with pool.connection() as connection:
            await connection.execute("create table t (n int primary key)")
            await connection.execute("insert into t values (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with pool.connection() as connection:
                await connection.execute("insert into t values (1)")
        assert PoolStats(1, 1, 0) == pool.stats()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.OperationalError(), True),
        (psycopg.InterfaceError(), True),
        (psycopg.errors.ConnectionTimeout(), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.CannotConnectNow(), True),
        (psycopg.errors.QueryCanceled(), True),
        (psycopg.errors.TooManyConnections(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.SerializationFailure(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.errors.UniqueViolation(), False),
        (psycopg.errors.UndefinedTable(), False),
        (psycopg.errors.ProgramLimitExceeded(), False),
        (psycopg.errors.StringDataRightTruncation(), False),
    ],
)
def test_whose_fault(error: psycopg.Error, expected: bool) -> None:
    """What may pass is the database's fault; what will not is a defect or a refusal."""
    assert expected == is_unavailable(error)


async def test_serialization_failure_is_unavailable(empty_database_url: str) -> None:
    """Two transactions at odds: the loser may try again."""
    async with pool_of(empty_database_url) as pool:
        async with pool.connection() as connection:
            await connection.execute("create table t (n int); insert into t values (1)")
        with pytest.raises(StorageUnavailable):
            async with pool.connection() as one, pool.connection() as two:
                for connection in (one, two):
                    await connection.execute("begin isolation level serializable")
                    await connection.execute("select * from t")
                for connection in (one, two):
                    await connection.execute("insert into t select count(*) from t")
                    await connection.execute("commit")


async def test_closed_pool_hands_out_nothing(empty_database_url: str) -> None:
    """After its block a pool has no connection, and gives none."""
    async with pool_of(empty_database_url) as pool:
        await pid_of(pool)
    assert PoolStats(0, 0, 0) == pool.stats()
    with pytest.raises(StorageUnavailable, match="closed"):
        async with pool.connection():
            pass


@pytest.mark.parametrize("begun", [False, True])
async def test_stopped_backend_does_not_outlast_the_deadline(
    begun: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a backend under SIGSTOP the deadline fires, and the pool gives that connection up."""
    async with (
        embedded_postgres(tmp_path_factory.mktemp("stop"), start_s=20) as conninfo,
        pool_of(conninfo, max_size=2) as pool,
    ):
        with stopped(await pid_of(pool)):
            started = trio.current_time()
            with pytest.raises(StorageUnavailable, match=r"0\.2 s"):
                async with pool.connection(query_s=0.2) as connection:
                    if begun:
                        async with connection.transaction():
                            await connection.execute("select 1")
                    await connection.execute("select 1")
            assert trio.current_time() - started < 10
            assert PoolStats(0, 0, 0) == pool.stats()
            await pid_of(pool)


async def test_stopped_server_does_not_outlast_the_deadline(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the whole server under SIGSTOP, connecting and cancelling are in time too, and all is well afterwards."""
    data_dir = tmp_path_factory.mktemp("stop")
    async with embedded_postgres(data_dir, start_s=20) as conninfo, pool_of(conninfo, max_size=2) as pool:
        backend = await pid_of(pool)
        postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        with stopped(postmaster), stopped(backend):
            for _ in range(2):
                started = trio.current_time()
                with pytest.raises(StorageUnavailable):
                    async with pool.connection(query_s=0.2) as connection:
                        await connection.execute("select 1")
                assert trio.current_time() - started < 10
        assert backend != await pid_of(pool)


async def test_frozen_transaction_is_ended_by_the_server(empty_database_url: str) -> None:
    """Locks of a node that froze in a transaction don't outlast its deadline by much."""
    async with pool_of(empty_database_url, query_s=3) as pool, pool.connection() as connection:
        cursor = await connection.execute("show idle_in_transaction_session_timeout")
        assert ("4s",) == await cursor.fetchone()
