"""Connections to Postgres, shared by many tasks.

Promises: never more than `max_size` connections; everything in a `connection()` block, the wait for a free
connection included, has one deadline, which holds even if the server is stopped in the middle of an answer; what
comes out is StorageUnavailable when the database is at fault, and psycopg's own error when the statement is.

Imports ngos.errors and ngos.postgres.driver.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import psycopg
import trio
from psycopg.rows import TupleRow

from ngos.distribution import FAST_S, Distribution
from ngos.errors import StorageContention, StorageRefused, StorageUnavailable
from ngos.postgres.driver import TrioConnection

Configure = Callable[[TrioConnection[TupleRow]], Awaitable[None]]

# What a connection that is given back, or whose query ran out of time, may still take before it is closed.
GIVE_UP_S = 0.5

# A statement is prepared when it comes a second time: repeats are a fifth faster for it (tests/postgres/bench.py), and
# a string of many statements, which can't be prepared, still runs.
PREPARE_THRESHOLD = 1

# A server that vanishes without a word is noticed by the kernel. The deadlines below are still the ones that count.
KEEPALIVES: Final[Mapping[str, Any]] = {
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

# SQLSTATE classes and codes that mean "the database, now" and not "this statement". OperationalErrors count as
# well, save class 54: a value that exceeds the server's limits will exceed them the next time too.
_TRANSIENT = ("08", "40", "53", "57", "58", "25006", "25P03", "25P04", "55P03")
_LASTING = ("54",)
# What Postgres and libpq say when they will say the same next time. By their words, since psycopg has no SQLSTATE for a
# connection that did not come about; of a server that speaks another language, we go on waiting and say what it says.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects|SSL was required"
    r"|(role|database) \".*\" (does not exist|is not permitted to log in)|permission denied for database"
    r"|invalid (integer value|port number)|certificate verify failed|root certificate file"
)
# Serialization failure and deadlock. Not the rest of class 40: of 40003 the outcome is unknown.
_CONTENTION = ("40001", "40P01")


@attrs.frozen
class PoolStats:
    """`size`: open connections, `idle`: those of them that nobody uses, `waiting`: tasks that wait for one."""

    size: int
    idle: int
    waiting: int


class Pool:
    """Get one from `open_pool`. `wait_s`: until a connection was there, one that had to be made included."""

    def __init__(
        self,
        conninfo: str,
        *,
        max_size: int,
        connect_s: float,
        query_s: float,
        configure: Configure | None,
    ) -> None:
        self.conninfo = conninfo
        self._connect_s = connect_s
        self._query_s = query_s
        self._configure = configure
        self.max_size = max_size
        self._slots = trio.Semaphore(max_size, max_value=max_size)
        # Last in, first out: the connection used last has its statements prepared and its caches warm.
        self._idle: list[TrioConnection[TupleRow]] = []
        self._in_use: set[TrioConnection[TupleRow]] = set()
        self._closed = False
        self.wait_s = Distribution(FAST_S)

    def stats(self) -> PoolStats:
        """What the pool holds at this moment."""
        idle = len(self._idle)
        return PoolStats(idle + len(self._in_use), idle, self._slots.statistics().tasks_waiting)

    @asynccontextmanager
    async def connection(self, *, query_s: float | None = None) -> AsyncIterator[TrioConnection[TupleRow]]:
        """A connection in autocommit mode, for the length of the block.

        Everything in the block, waiting for a free connection included, has `query_s` seconds (by default the
        pool's). A transaction that the block leaves open is rolled back.

        StorageUnavailable: the database can't be reached, refuses, or ran out of time; whether what was sent had
        its effect is unknown, unless it was in a transaction that had yet to commit. Other psycopg errors pass:
        they are defects, or refusals that the caller expects. Cancellation cancels the query in the server.
        """
        limit_s = self._query_s if query_s is None else query_s
        asked_at = trio.current_time()
        with trio.move_on_after(limit_s) as scope:
            try:
                connection = await self._acquire()
                self.wait_s.observe(trio.current_time() - asked_at)
                try:
                    yield connection
                finally:
                    await self._release(connection)  # noqa: ASYNC102 - shielded and bounded inside
            except psycopg.Error as error:
                if error.sqlstate in _CONTENTION:
                    raise StorageContention(one_line(error)) from error
                if is_unavailable(error):
                    raise StorageUnavailable(one_line(error)) from error
                raise
        if scope.cancelled_caught:
            raise StorageUnavailable(f"no answer from the database within {limit_s:g} s")

    async def _acquire(self) -> TrioConnection[TupleRow]:
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()
        connection = None
        try:
            if self._closed:
                raise StorageUnavailable("the pool is closed")
            while self._idle and connection is None:
                connection = self._idle.pop()
                if not connection.quiet:
                    connection.close_now()
                    connection = None
            if connection is None:
                connection = await self._connect()
            self._in_use.add(connection)
            return connection
        finally:
            if connection is None:
                self._slots.release()

    async def _release(self, connection: TrioConnection[TupleRow]) -> None:
        try:
            if not connection.idle:
                await _tidy(connection)
        finally:
            self._in_use.discard(connection)
            if connection.idle and not self._closed:
                self._idle.append(connection)
            else:
                connection.close_now()
                # What cost us this one has probably cost us the idle ones: they must not each take a deadline.
                self._close_idle()
            self._slots.release()

    async def _connect(self) -> TrioConnection[TupleRow]:
        return await connect_within(self._connect_s, self.conninfo, query_s=self._query_s, configure=self._configure)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close_now()

    def close(self) -> None:
        """Close every connection, those in use too. Never blocks."""
        self._closed = True
        self._close_idle()
        for connection in self._in_use:
            connection.close_now()


@asynccontextmanager
async def open_pool(
    conninfo: str,
    *,
    max_size: int,
    connect_s: float,
    query_s: float,
    configure: Configure | None = None,
) -> AsyncIterator[Pool]:
    """A pool of at most `max_size` connections, closed at the end of the block.

    Nothing is connected yet, so this neither needs the database nor raises. `connect_s`: seconds for one
    connection to come about; `query_s`: seconds for a whole `connection()` block; `configure`: is given each new
    connection, in autocommit mode, within `connect_s`.
    """
    pool = Pool(conninfo, max_size=max_size, connect_s=connect_s, query_s=query_s, configure=configure)
    try:
        yield pool
    finally:
        pool.close()


async def connect(
    conninfo: str,
    *,
    query_s: float,
    configure: Configure | None = None,
    keepalives: Mapping[str, Any] = KEEPALIVES,
) -> TrioConnection[TupleRow]:
    """One connection as the pool makes them, in autocommit mode; its owner closes it. The caller owns time.

    `keepalives`: when the kernel takes the server for gone, by libpq's names of it.

    psycopg.OperationalError if the database can't be reached. Cancellation closes what was begun.
    """
    connection: TrioConnection[TupleRow] = await TrioConnection.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=PREPARE_THRESHOLD,
        application_name="ngos",
        client_encoding="UTF8",
        keepalives=1,
        **keepalives,
    )
    connection.cancel_s = GIVE_UP_S
    try:
        # Not as startup parameters: poolers in between refuse `options`. All that we ask for has an index
        # (tests/services/test_plans.py), and a plan that was made and kept while a table was empty must not read all of
        # it when it has grown. The third is for a node that is frozen in the middle of a transaction: its locks must
        # not hold up the others for longer than its deadline.
        await connection.execute(
            "set timezone = 'UTC'; set enable_seqscan = off;"
            f" set idle_in_transaction_session_timeout = {int(query_s * 1000) + 1000}",
            prepare=False,
        )
        if configure is not None:
            await configure(connection)
    except BaseException:
        connection.close_now()
        raise
    return connection


async def connect_within(
    connect_s: float,
    conninfo: str,
    *,
    query_s: float,
    configure: Configure | None = None,
    keepalives: Mapping[str, Any] = KEEPALIVES,
) -> TrioConnection[TupleRow]:
    """As `connect`, and StorageUnavailable if that takes more than `connect_s` seconds."""
    with trio.move_on_after(connect_s):
        return await connect(conninfo, query_s=query_s, configure=configure, keepalives=keepalives)
    raise StorageUnavailable(f"no connection to the database within {connect_s:g} s")


async def connect_first(connect_s: float, conninfo: str, **options: Any) -> TrioConnection[TupleRow]:
    """As `connect_within`, and StorageRefused, its text without secrets, where waiting will not mend it."""
    try:
        return await connect_within(connect_s, conninfo, **options)
    except psycopg.ProgrammingError as error:
        # Not its text: that has parts of the address, and so perhaps of a password.
        raise StorageRefused("the database's address can't be read: postgresql://user:password@host/name") from error
    except psycopg.Error as error:
        if is_refusal(error):
            raise StorageRefused(f"can't use the database: {one_line(error)}") from error
        raise


def is_unavailable(error: psycopg.Error) -> bool:
    """Whether the database is at fault, and the same statement may succeed later."""
    sqlstate = error.sqlstate or ""
    if sqlstate.startswith(_LASTING):
        return False
    return sqlstate.startswith(_TRANSIENT) or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def is_refusal(error: psycopg.Error) -> bool:
    """Whether waiting will not mend why a connection did not come about; `error` is what `connect` raised."""
    return isinstance(error, psycopg.ProgrammingError) or _REFUSED.search(str(error)) is not None


async def _tidy(connection: TrioConnection[TupleRow]) -> None:
    """Roll back what the block left open. If that is more than a matter of a moment, leave it to be closed."""
    with trio.move_on_after(GIVE_UP_S, shield=True):
        try:
            await connection.rollback()
        except psycopg.Error:
            pass  # it is not idle then, and gets closed


def one_line(error: psycopg.Error) -> str:
    """What Postgres, or psycopg, said, for a line of the log."""
    return " ".join(str(error).split()) or type(error).__name__
