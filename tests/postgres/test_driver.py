"""psycopg's API, driven by Trio."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow, dict_row

from ngos.postgres import addresses
from ngos.postgres.driver import TrioConnection


@asynccontextmanager
async def connected(conninfo: str, **kwargs: Any) -> AsyncIterator[TrioConnection[TupleRow]]:
    async with await TrioConnection.connect(conninfo, autocommit=True, **kwargs) as connection:
        yield connection


async def one(connection: TrioConnection[TupleRow], query: str, *parameters: object) -> Any:
    cursor = await connection.execute(query, parameters or None)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_query_with_parameters(empty_database_url: str) -> None:
    """The common case: a query, its parameters, its rows."""
    async with connected(empty_database_url) as connection:
        cursor = await connection.execute("select n, n * %s from generate_series(1, 3) n", [10])
        assert [(1, 10), (2, 20), (3, 30)] == await cursor.fetchall()


async def test_connect_takes_psycopgs_arguments(empty_database_url: str) -> None:
    """Row factory and keywords mean what they mean to psycopg."""
    connection = await TrioConnection.connect(
        empty_database_url, autocommit=True, row_factory=dict_row, application_name="x", prepare_threshold=0
    )
    async with connection:
        cursor = await connection.execute("select current_setting('application_name') as name")
        assert {"name": "x"} == await cursor.fetchone()
        assert 0 == connection.prepare_threshold


async def test_a_megabyte_each_way(empty_database_url: str) -> None:
    """What does not fit a socket buffer is written and read in turns."""
    text = "x" * 20_000_000
    async with connected(empty_database_url) as connection:
        assert len(text) == len(await one(connection, "select %s::text", text))


async def test_two_tasks_share_a_connection(empty_database_url: str) -> None:
    """The lock lets one query at a time through, in whatever order."""
    answers = []
    async with connected(empty_database_url) as connection, trio.open_nursery() as nursery:

        async def ask(number: int) -> None:
            answers.append(await one(connection, "select %s::int from pg_sleep(0.001)", number))

        for number in range(20):
            nursery.start_soon(ask, number)
    assert list(range(20)) == sorted(answers)


async def test_cancelled_query_leaves_the_connection_usable(empty_database_url: str) -> None:
    """A cancelled query ends in the server, and the next one finds a clean line."""
    started = trio.current_time()
    async with connected(empty_database_url) as connection:
        with trio.move_on_after(0.1) as scope:
            await connection.execute("select pg_sleep(60)")
        assert scope.cancelled_caught
        assert "here" == await one(connection, "select 'here'")
        assert connection.idle
    assert trio.current_time() - started < 10


async def test_cancellation_before_the_query_sends_nothing(empty_database_url: str) -> None:
    """A task that is cancelled already must not have an effect."""
    async with connected(empty_database_url) as connection:
        await connection.execute("create table t (n int)")
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.execute("insert into t values (1)")
        assert scope.cancelled_caught
        assert 0 == await one(connection, "select count(*) from t")


async def test_many_cancellations_at_random_moments(empty_database_url: str) -> None:
    """Whenever a query is cancelled, the next answer belongs to the next question."""
    async with connected(empty_database_url) as connection:
        for number in range(60):
            with trio.move_on_after(0.0001 * number):
                await connection.execute("select 'old', pg_sleep(0.003)")
            assert number == await one(connection, "select %s::int", number)


async def test_transaction_commits_and_rolls_back(empty_database_url: str) -> None:
    """A block that ends is committed, one that raises is not, and a savepoint rolls back alone."""
    async with connected(empty_database_url) as connection:
        await connection.execute("create table t (n int)")
        async with connection.transaction():
            await connection.execute("insert into t values (1)")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("insert into t values (2)")
                    raise ZeroDivisionError
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with connection.transaction():
                await connection.execute("insert into t values (3)")
                await connection.execute("select * from nowhere")
        cursor = await connection.execute("select n from t")
        assert [(1,)] == await cursor.fetchall()
        assert connection.idle


@pytest.mark.parametrize("where", ["in a query", "between queries", "at the end"])
async def test_cancelled_transaction_is_rolled_back(empty_database_url: str, where: str) -> None:
    """Wherever cancellation hits a transaction, nothing of it stays and the connection is idle again."""
    async with connected(empty_database_url) as connection:
        await connection.execute("create table t (n int)")
        with trio.CancelScope() as scope:
            async with connection.transaction():
                await connection.execute("insert into t values (1)")
                scope.cancel()
                if where == "in a query":
                    scope.deadline = trio.current_time() + 0.05
                    await connection.execute("select pg_sleep(5)")
                if where == "between queries":
                    await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert connection.idle
        assert 0 == await one(connection, "select count(*) from t")


async def test_pipeline(empty_database_url: str) -> None:
    """In a pipeline every query gets its own answer, and an error is raised at its end."""
    async with connected(empty_database_url) as connection:
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", [number]) for number in range(500)]
        assert [(number,) for number in range(500)] == [await cursor.fetchone() for cursor in cursors]
        with pytest.raises(psycopg.errors.DivisionByZero):
            async with connection.pipeline():
                await connection.execute("select 1/0")
        async with connection.pipeline(), connection.transaction():
            await connection.execute("select 1")
        assert connection.idle


@pytest.mark.parametrize("fetch", [True, False])
async def test_cancelled_pipeline_leaves_the_connection_usable(empty_database_url: str, fetch: bool) -> None:
    """A pipeline that is cancelled is over: no mode and no answer of it is left behind."""
    async with connected(empty_database_url) as connection:
        with trio.move_on_after(0.1) as scope:
            async with connection.pipeline():
                for number in range(20):
                    cursor = await connection.execute("select pg_sleep(%s)", [number * 5])
                if fetch:
                    await cursor.fetchone()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert connection.idle
        assert 7 == await one(connection, "select 7")


async def test_failed_pipeline_forgets_what_was_not_prepared(empty_database_url: str) -> None:
    """A statement that was to be prepared behind an error is not taken for prepared afterwards."""
    async with connected(empty_database_url, prepare_threshold=1) as connection:
        await connection.execute("select 1")  # counted; the next one prepares it
        for _ in range(3):
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with connection.pipeline():
                    await connection.execute("select 1/0")
                    await connection.execute("select 1")
                    await connection.execute("select 2", prepare=True)
            for _ in range(3):
                assert 1 == await one(connection, "select 1")
                await connection.execute("select 2", prepare=True)
        with trio.move_on_after(0.05):
            async with connection.pipeline():
                await connection.execute("select pg_sleep(5)")
                await connection.execute("select 1")
                await connection.execute("select 3", prepare=True)
                await trio.sleep_forever()
        assert 1 == await one(connection, "select 1")
        await connection.execute("select 3", prepare=True)
        await connection.execute("select 3", prepare=True)


async def test_failed_executemany_forgets_what_was_not_prepared(empty_database_url: str) -> None:
    """The same within executemany, which is a pipeline inside."""
    async with connected(empty_database_url, prepare_threshold=1) as connection, connection.cursor() as cursor:
        await connection.execute("create table t (n int check (n > 0))")
        for _ in range(3):
            with pytest.raises(psycopg.errors.CheckViolation):
                await cursor.executemany("insert into t values (%s)", [[0], [1], [2]])
            await cursor.executemany("insert into t values (%s)", [[1], [2]])
        assert 6 == await one(connection, "select count(*) from t")


async def test_executemany_and_copy(empty_database_url: str) -> None:
    """The two bulk ways in: executemany, which is a pipeline inside, and COPY; and the one out."""
    async with connected(empty_database_url) as connection:
        await connection.execute("create table t (n int)")
        async with connection.cursor() as cursor:
            await cursor.executemany("insert into t values (%s)", [[number] for number in range(100)])
            async with cursor.copy("copy t from stdin") as copy:
                for number in range(100, 5000):
                    await copy.write_row([number])
            async with cursor.copy("copy t to stdout") as copy:
                assert 5000 == len([row async for row in copy.rows()])
        assert 5000 == await one(connection, "select count(*) from t")


async def test_notifies(empty_database_url: str) -> None:
    """LISTEN and NOTIFY, across connections, and the lock is free again after `aclosing`."""
    async with connected(empty_database_url) as listener, connected(empty_database_url) as speaker:
        await listener.execute("listen tidings")
        for payload in "abc":
            await speaker.execute("select pg_notify('tidings', %s)", [payload])
        heard = []
        async with aclosing(listener.notifies()) as notifies:
            async for notify in notifies:
                heard.append(notify.payload)
                if len(heard) == 3:
                    break
        assert ["a", "b", "c"] == heard
        assert 1 == await one(listener, "select 1")


async def test_notifies_times_out_and_is_cancelled(empty_database_url: str) -> None:
    """Waiting for what does not come ends by its timeout, or by cancellation, and harms nothing."""
    async with connected(empty_database_url) as listener:
        await listener.execute("listen tidings")
        async with aclosing(listener.notifies(timeout=0.05)) as notifies:
            assert [] == [notify async for notify in notifies]
        with trio.move_on_after(0.05) as scope:
            async with aclosing(listener.notifies()) as notifies:
                async for _ in notifies:
                    pass
        assert scope.cancelled_caught
        assert 1 == await one(listener, "select 1")


async def test_stream(empty_database_url: str) -> None:
    """Rows one by one; leaving early stops the query."""
    async with connected(empty_database_url) as connection:
        rows: Any = connection.cursor().stream("select generate_series(1, 1000000)")
        async with aclosing(rows):
            async for row in rows:
                if row[0] == 3:
                    break
        assert 1 == await one(connection, "select 1")


async def test_close_wakes_who_waits(empty_database_url: str) -> None:
    """A task that waits on a connection that another one closes gets an error, not silence."""
    async with connected(empty_database_url) as connection, trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("select pg_sleep(5)")

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        connection.close_now()
        assert connection.closed


async def test_backend_that_is_terminated_is_an_operational_error(empty_database_url: str) -> None:
    """The server's goodbye, in the middle of a query, is an error of the database."""
    async with connected(empty_database_url) as connection, connected(empty_database_url) as killer:

        async def sleep() -> None:
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("select pg_sleep(5)")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            await trio.testing.wait_all_tasks_blocked()
            await one(killer, "select pg_terminate_backend(%s)", connection.info.backend_pid)
        assert connection.closed


async def test_refused_connection_says_so_at_once() -> None:
    """A port where nobody listens is an error at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = trio.current_time()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        await TrioConnection.connect(f"host=127.0.0.1 port={port} user=x")
    assert trio.current_time() - started < 10


async def test_silent_server_is_given_up_when_the_caller_says() -> None:
    """A server that accepts and says nothing can be cancelled."""
    with silent_server() as port:
        with trio.move_on_after(0.1) as scope:
            await TrioConnection.connect(f"host=127.0.0.1 port={port} user=x")
        assert scope.cancelled_caught


async def test_second_host_is_reached_past_a_silent_one(empty_database_url: str) -> None:
    """A silent first host gets its share of the time, and no more."""
    params = psycopg.conninfo.conninfo_to_dict(empty_database_url)
    with silent_server() as port, trio.fail_after(4):
        ports = f"{port},{params.get('port', 5432)}"
        both = make_conninfo(empty_database_url, host=f"127.0.0.1,{params['host']}", port=ports)
        async with connected(both) as connection:
            assert 1 == await one(connection, "select 1")


async def test_all_hosts_fail(empty_database_url: str) -> None:
    """When no host answers, the error says what each one said."""
    with pytest.raises(psycopg.OperationalError, match=r"127\.0\.0\.1:1.*/nowhere:5432"):
        await TrioConnection.connect("host=127.0.0.1,/nowhere port=1,5432 user=x")


async def test_name_resolution_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs holds up its own thread and nobody else."""
    read_fd, write_fd = os.pipe()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: os.read(read_fd, 1))
    with trio.move_on_after(0.1) as scope:
        await TrioConnection.connect("host=example.invalid user=x")
    assert scope.cancelled_caught
    os.close(write_fd)


async def test_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name is an error of the database, that says which name."""

    def unknown(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(psycopg.OperationalError, match=r"example\.invalid"):
        await TrioConnection.connect("host=example.invalid user=x")


async def test_names_become_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address of every name is an attempt; sockets and addresses stay what they are."""
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_args, **_kwargs: [(0, 0, 0, "", ("::1", 1)), (0, 0, 0, "", ("10.0.0.1", 1))],
    )
    attempts = await addresses.attempts_of({"host": "/tmp,127.0.0.1,db", "port": "1,2,3"})
    assert [
        ("/tmp", None, "1"),
        ("127.0.0.1", "127.0.0.1", "2"),
        ("db", "::1", "3"),
        ("db", "10.0.0.1", "3"),
    ] == [(one.get("host"), one.get("hostaddr"), one.get("port")) for one in attempts]
