"""One snapshot of the database, read page by page. May import `ngos.postgres` and `ngos.errors`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import orjson
import psycopg
from attrs import define, field, frozen

from ngos.errors import SchemaError, StorageUnavailable
from ngos.postgres.driver import TrioConnection
from ngos.postgres.migrate import read_migrations
from ngos.postgres.pool import connect_within, is_unavailable

PAGE_ROWS: Final = 250
"""Rows that are held at once; each is at most about as big as a message."""
IDLE_S: Final = 600.0
"""How long the transaction may wait for us between two pages, before Postgres ends it."""

Row = tuple[Any, ...]


@frozen
class Topic:
    """A durable topic in the snapshot: its events have the numbers after `pruned`, up to `seq`."""

    topic_id: int
    name: str
    epoch: str
    seq: int
    pruned: int


@define(eq=False)
class Snapshot:
    """A transaction that sees the database as it was when it began, and can only read."""

    _connection: TrioConnection[Row]
    topics: dict[str, Topic] = field(factory=dict)
    _numbers: Iterator[int] = field(init=False, factory=count)

    async def rows(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """The answer to a query that has few rows."""
        return await (await self._connection.execute(query, parameters)).fetchall()

    async def pages(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> AsyncIterator[list[Row]]:
        """The answer to a query that has many, `PAGE_ROWS` at a time. Left early, it ends with the transaction."""
        name = f"ngos_verify_{next(self._numbers)}"
        await self._connection.execute(f"declare {name} no scroll cursor for {query}", parameters)
        while page := await self.rows(f"fetch {PAGE_ROWS} from {name}"):
            yield page
        await self._connection.execute(f"close {name}")

    async def events(self, topic: Topic) -> AsyncIterator[Row]:
        """A topic's events that were not pruned, in order: seq, type, payload as text, sender_id, created_at."""
        query = f"{EVENTS} where topic_id = %s and seq > %s order by seq"
        async for page in self.pages(query, [topic.topic_id, topic.pruned]):
            for row in page:
                yield row


EVENTS: Final = "select seq, type, payload::text, sender_id, created_at from events"


@asynccontextmanager
async def open_snapshot(conninfo: str, *, connect_s: float) -> AsyncIterator[Snapshot]:
    """Connect, and hold one snapshot for the length of the block.

    Raises SchemaError where the schema is not the one that this ngos knows, and StorageUnavailable where the database
    can't be reached, within `connect_s` seconds, or goes away meanwhile.
    """
    try:
        async with await connect_within(connect_s, conninfo, query_s=IDLE_S) as connection:
            await _check_schema(connection)
            await connection.execute("begin isolation level repeatable read, read only")
            # Where little is known of a table, Postgres would compile for a quarter of a second what takes none.
            await connection.execute("set local jit = off")
            # Each answer is read to its end.
            await connection.execute("set local cursor_tuple_fraction = 1")
            snapshot = Snapshot(connection)
            columns = "topic_id, topic, epoch, seq, pruned"
            for row in await snapshot.rows(f"select {columns} from topics order by topic"):
                snapshot.topics[row[1]] = Topic(*row)
            yield snapshot
            await connection.execute("rollback")
    except psycopg.Error as exc:
        text = " ".join(str(exc).split())
        raise (StorageUnavailable if is_unavailable(exc) else SchemaError)(f"can't read the database: {text}") from exc


async def _check_schema(connection: TrioConnection[Row]) -> None:
    try:
        cursor = await connection.execute("select max(version) from ngos_schema")
        row = await cursor.fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    present = row[0] if row is not None else None
    known = len(read_migrations())
    if present is None:
        raise SchemaError("the database has no schema of ngos: there is nothing to verify")
    if present < known:
        raise SchemaError(
            f"the database has schema version {present}, and this ngos verifies version {known}: "
            "`ngos migrate` brings it up to date"
        )
    if present > known:
        raise SchemaError(
            f"the database has schema version {present}, and this ngos knows versions up to {known}: upgrade ngos"
        )


def canonical(value: Any) -> bytes:
    """JSON that is equal for equal values, whatever the order of their keys. Raises ValueError where it is no JSON."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as exc:
        raise ValueError(str(exc)) from exc


def digest(value: Any) -> bytes:
    """16 bytes that stand for a JSON value. Raises as `canonical`."""
    return hashlib.blake2b(canonical(value), digest_size=16).digest()


def load_object(text: str) -> dict[str, Any]:
    """Read a payload. Raises ValueError where it is no JSON object."""
    value = orjson.loads(text)
    if type(value) is not dict:
        raise ValueError("not an object")
    return value
