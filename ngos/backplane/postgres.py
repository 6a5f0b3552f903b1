"""The backplane on Postgres: LISTEN and NOTIFY, on one connection.

NOTIFY takes less than 8,000 bytes: what is longer is put into a table for a minute, and its number is told. That a
bundle is sent costs no flush to disk, since its transaction writes nothing else.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import psycopg
import trio
from attrs import define, field
from psycopg import Notify
from psycopg.rows import TupleRow

from ngos.backplane.bundle import HEAD_BYTES, PART_BYTES
from ngos.backplane.line import SEND_S, Cluster, Line
from ngos.errors import StorageUnavailable
from ngos.postgres.driver import TrioConnection
from ngos.postgres.pool import Configure, connect_within

CHANNEL: Final = "ngos"
NOTIFY_BYTES: Final = 7_900
HEARD_AT_ONCE: Final = 10_000
"""After more than so many notifications without a pause, the connection is given up.

Whoever may connect to the database may NOTIFY, and no rights of ours keep him from it. What has come is told by psycopg
in one go, while no other task runs: eight seconds of a flood took half a minute. Another connection begins after it.
"""
WAITING: Final = 1_000
"""Notifications that wait until a parcel before them is fetched, 8 MB at most; past it the next ones are not heard."""
PARCEL_MARK: Final = "parcel:"
NUMBER_DIGITS: Final = 18
"""Of a parcel; what is longer no bigint holds, and somebody else made it up."""

_NOTIFY: Final = "select pg_notify('ngos', %s)"
_SEND_PARCEL: Final = """
with old as (delete from parcels where created_at < now() - interval '1 minute'),
    parcel as (insert into parcels (message) values (%s) returning parcel_id)
select pg_notify('ngos', 'parcel:' || parcel_id) from parcel
"""
_FETCH_PARCEL: Final = "select message from parcels where parcel_id = %s"


@define(eq=False)
class PostgresCarrier:
    """See the module."""

    _conninfo: str
    _connect_s: float
    _query_s: float
    _configure: Configure
    bundle_bytes: int = field(init=False, default=NOTIFY_BYTES - HEAD_BYTES - PART_BYTES)

    async def carry(self, line: Line, cluster: Cluster) -> None:
        """As `ngos.backplane.line.Carrier` has it."""
        try:
            connection = await connect_within(
                self._connect_s, self._conninfo, query_s=self._query_s, configure=self._configure
            )
            try:
                await self._exchange(connection, line)
            finally:
                connection.close_now()
        except psycopg.Error as exc:
            raise StorageUnavailable(f"{type(exc).__name__}: {' '.join(str(exc).split())[:200]}") from exc

    async def _exchange(self, connection: TrioConnection[TupleRow], line: Line) -> None:
        heard = 0
        waiting: deque[int | bytes] = deque()  # a parcel's number, and what came after it

        def hear(notification: Notify) -> None:
            nonlocal heard
            heard += 1
            if heard > HEARD_AT_ONCE:
                raise psycopg.OperationalError(f"more than {HEARD_AT_ONCE:,} notifications at once")
            number = notification.payload.removeprefix(PARCEL_MARK)
            is_parcel = number.isdecimal() and len(number) <= NUMBER_DIGITS
            if not is_parcel and not waiting:
                line.hear(notification.payload.encode())
            elif len(waiting) < WAITING:
                waiting.append(int(number) if is_parcel else notification.payload.encode())

        connection.add_notify_handler(hear)
        await connection.execute(f"listen {CHANNEL}")
        line.linked()
        while True:
            # One task, since two can't wait on one socket. What comes while a query runs is read along with its answer,
            # and after each query it is looked whether there is more of it.
            heard = 0
            with trio.move_on_after(SEND_S) as scope:
                if line.outbox:
                    await self._send(connection, line.bundle())
                connection.read_notifications()
                if waiting:
                    await self._fetch(connection, waiting, line)
                    connection.read_notifications()
            if scope.cancelled_caught:
                raise StorageUnavailable(f"no answer within {SEND_S:g} s")
            if not waiting:
                await line.outbox.wait_or_readable(connection.pgconn.socket)

    async def _fetch(self, connection: TrioConnection[TupleRow], waiting: deque[int | bytes], line: Line) -> None:
        """Hear the parcel that all wait for, and what came after it, up to the next one."""
        cursor = await connection.execute(_FETCH_PARCEL, [waiting[0]])
        if (row := await cursor.fetchone()) is not None:
            line.hear(row[0].encode())
        waiting.popleft()
        while waiting and isinstance(heard := waiting[0], bytes):
            line.hear(heard)
            waiting.popleft()

    async def _send(self, connection: TrioConnection[TupleRow], bundle: bytes) -> None:
        statement = _NOTIFY if len(bundle) < NOTIFY_BYTES else _SEND_PARCEL
        await connection.execute(statement, [bundle.decode()])
