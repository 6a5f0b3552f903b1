"""Databases for the contestants that need one: a fresh one each, with ngos's own migrations.

Promises: all have the same tables and indexes, on one Postgres that is durable; what was made is dropped, on Ctrl-C
too. Runs on Trio. Imports ngos.postgres only.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import psycopg
import trio
from bench_servers import START_S, BenchError
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ngos.postgres.driver import TrioConnection
from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.migrate import migrate

DROP_S = 10.0


class Databases:
    """Makes databases on one server, counts their rows, drops them."""

    def __init__(self, server_url: str, admin: TrioConnection[Any], about: dict[str, str]) -> None:
        self.about = about
        self._server_url = server_url
        self._admin = admin
        self._names: list[str] = []

    async def create(self) -> str:
        """A fresh database with ngos's schema, as a URL that libpq and asyncpg both read."""
        name = f"ngos_bench_{os.getpid()}_{uuid.uuid4().hex[:12]}"
        await self._admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        self._names.append(name)
        fields = {field: value for field, value in conninfo_to_dict(self._server_url).items() if field != "dbname"}
        database_url = f"postgresql:///{name}?{urlencode(fields, quote_via=quote)}"
        await migrate(database_url, connect_s=START_S, lock_s=START_S)
        return database_url

    async def checkpoint(self) -> None:
        await self._admin.execute("checkpoint")

    async def drop_all(self) -> None:
        for name in self._names:
            await self._admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


async def tokens_in(database_url: str) -> int:
    async with _connected(database_url) as connection:
        row = await (await connection.execute("select count(*) from tokens")).fetchone()
        assert row is not None
        return int(row[0])


_FILL = """
with topic as (
    update topics set seq = seq + %(events)s where topic = %(topic)s returning topic_id, seq - %(events)s as before
)
insert into events (topic_id, seq, type, sender_id, created_at, payload)
select topic_id, before + n, 'bench', 'client_0123456789abcdef', now(), %(payload)s::json
from topic, generate_series(1, %(events)s) as n
"""


async def fill_log(database_url: str, topic: str, events: int, payload_bytes: int) -> None:
    """Append so many events to a durable topic, as the server would have, and leave nothing to be tidied up later."""
    payload = '{"data":"%s"}' % ("x" * (payload_bytes - len('{"data":""}')))
    async with _connected(database_url) as connection:
        await connection.execute("set synchronous_commit = off")
        await connection.execute("insert into topics (topic) values (%s) on conflict do nothing", [topic])
        await connection.execute(_FILL, {"topic": topic, "events": events, "payload": payload})
        # Else Postgres does it by itself, in the midst of the measuring.
        await connection.execute("vacuum (freeze, analyze) events")
        await connection.execute("checkpoint")


_FILL_GRAPH: Final = (
    """
    insert into tokens (token_id, type, weight, flags, x, y, z, metadata, created_at)
    select md5('t' || n)::uuid, 'type' || n %% 10, 1, 0, zeros, zeros, zeros, '{"label": "a token"}',
        now() - n * interval '1 second'
    from generate_series(1, %(tokens)s) as n, array_fill(0.0::float8, array[8]) as zeros
    """,
    """
    insert into edges (connection_id, source_id, target_id, type, weight, bidirectional, metadata)
    select gen_random_uuid(), md5('t' || near)::uuid, md5('t' || far)::uuid, 'generic', 1, false, '{}' from (
        select 1 + floor(random() * %(tokens)s)::int as near, 1 + floor(random() * %(tokens)s)::int as far
        from generate_series(1, %(edges)s)
    ) as ends where near <> far on conflict do nothing
    """,
    """
    insert into edges (connection_id, source_id, target_id, type, weight, bidirectional, metadata)
    select gen_random_uuid(), md5('t1')::uuid, md5('t' || n)::uuid, 'hub', 1, false, '{}'
    from generate_series(2, 1 + %(hub)s) as n
    """,
)


async def fill_graph(database_url: str, tokens: int, edges: int, hub: int) -> None:
    """Put tokens and edges at random into the tables, without events; the first token has `hub` more of them."""
    async with _connected(database_url) as connection:
        await connection.execute("set synchronous_commit = off")
        for statement in _FILL_GRAPH:
            await connection.execute(statement, {"tokens": tokens, "edges": edges, "hub": hub})
        await connection.execute("vacuum (freeze, analyze) tokens, edges")
        await connection.execute("checkpoint")


@asynccontextmanager
async def open_databases(url: str | None) -> AsyncIterator[Databases]:
    """On the server that `url` names, else on an embedded one in a temporary directory."""
    async with _server(url) as server_url, _connected(server_url) as admin:
        databases = Databases(server_url, admin, await _durability(admin))
        try:
            yield databases
        finally:
            with trio.move_on_after(DROP_S, shield=True):
                await databases.drop_all()


@asynccontextmanager
async def _server(url: str | None) -> AsyncIterator[str]:
    if url is not None:
        yield url
        return
    # Short, so that the socket fits; not under a private home, so that Postgres may enter it.
    with tempfile.TemporaryDirectory(prefix="ngos-bench-", dir="/tmp") as directory:
        async with embedded_postgres(Path(directory) / "data", start_s=START_S) as conninfo:
            yield conninfo


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[TrioConnection[Any]]:
    try:
        connection = await TrioConnection.connect(url, autocommit=True)
    except psycopg.Error as exc:
        raise BenchError(f"can't reach Postgres: {str(exc).strip()}") from exc
    async with connection:
        yield connection


async def _durability(admin: TrioConnection[Any]) -> dict[str, str]:
    """What Postgres does for durability; it must do all of it."""
    about = {}
    for name in ("server_version", "shared_buffers", "fsync", "synchronous_commit", "full_page_writes"):
        row = await (await admin.execute("select current_setting(%s)", [name])).fetchone()
        assert row is not None
        about[name] = row[0]
    off = [name for name in ("fsync", "synchronous_commit", "full_page_writes") if about[name] == "off"]
    if off:
        raise BenchError(f"this Postgres is not durable: {', '.join(off)} off")
    return about
