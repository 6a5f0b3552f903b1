"""The schema: numbered SQL files, each applied once.

Promises: a file is applied as a whole or not at all, in the order of the numbers, and by one server even if many
start at once; a database that is newer than this server is left alone.

After the files, under the same lock, the database's identity is compared with what was noted (`identity`).

Imports ngos.errors, ngos.postgres.driver, ngos.postgres.identity and ngos.postgres.pool.
"""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import attrs
import psycopg
import trio
from psycopg.rows import TupleRow

from ngos.errors import SchemaError, StorageUnavailable
from ngos.postgres.driver import TrioConnection
from ngos.postgres.identity import Kept, keep
from ngos.postgres.pool import connect_first, is_unavailable

MIN_POSTGRES = 14
ENCODING = "UTF8"
ENCODING_ADVICE = f"make the database anew: encoding '{ENCODING}' template template0"

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")

# Held for the session, by one server at a time in the whole database. The number spells "ngos".
_LOCK_KEY = 0x6E676F73

_CREATE_TABLE = """
create table if not exists ngos_schema (
    version integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
)
"""


@attrs.frozen
class Migration:
    """One file: its number, its name without number and suffix, its statements."""

    version: int
    name: str
    sql: str


@attrs.frozen
class MigrationReport:
    """`applied`: the names of what this run applied, in order. Version 0 is a database without a schema.

    `kept`: which database it is, and whether its topics have new epochs; None with a `directory` of the caller's.
    """

    from_version: int
    to_version: int
    applied: tuple[str, ...]
    kept: Kept | None = None


async def migrate(
    conninfo: str,
    *,
    connect_s: float,
    lock_s: float,
    directory: Traversable | None = None,
    new_epochs: bool = False,
) -> MigrationReport:
    """Bring the database's schema to the newest version that this server knows.

    `connect_s`: seconds for the connection to come about; `lock_s`: seconds to wait for another server that is at
    it. How long the files themselves may take, the caller says. `directory`: where they are, by default the ones
    that come with ngos. `new_epochs`: give all topics new epochs, for a log that went back unseen.

    SchemaError: the database is newer than this server, or of another encoding than UTF8, Postgres is older than 14, or
    a file fails; the text says what to do. StorageRefused: it does not let us in. StorageUnavailable: it can't be
    reached, or another server holds the lock. Cancellation leaves whole files applied, and the one under way not at
    all.
    """
    migrations = read_migrations(directory)
    try:
        async with await connect_first(connect_s, conninfo, query_s=connect_s) as connection:
            _check_postgres(connection.info.server_version)
            if (encoding := other_encoding(connection)) is not None:
                raise SchemaError(
                    f"the database {connection.info.dbname!r} has the encoding {encoding}, in which not every letter "
                    f"can be kept: {ENCODING_ADVICE}"
                )
            with trio.move_on_after(lock_s) as waiting:
                await connection.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
            if waiting.cancelled_caught:
                raise StorageUnavailable(f"another ngos has been changing the schema for more than {lock_s:g} s")
            report = await _apply(connection, migrations)
            if directory is None:
                with trio.move_on_after(lock_s) as keeping:
                    report = attrs.evolve(report, kept=await keep(connection, new_epochs=new_epochs))
                if keeping.cancelled_caught:
                    raise StorageUnavailable(f"another has held the topics for more than {lock_s:g} s")
            return report  # closing the connection gives the lock back
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        if is_unavailable(error):
            raise StorageUnavailable(text) from error
        raise SchemaError(f"the schema can't be brought up to date: {text}") from error


def read_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """The files, in order. SchemaError if a number is missing or there twice: then this ngos is broken."""
    found = []
    for file in (directory or files("ngos.postgres") / "migrations").iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))  # noqa: PERF401
    found.sort(key=lambda migration: migration.version)
    numbers = [migration.version for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise SchemaError(f"this ngos is broken, install it anew: its migrations are numbered {numbers}")
    return tuple(found)


def _check_postgres(server_version: int) -> None:
    """SchemaError for a Postgres that is too old. `server_version` as libpq has it: 150020 is 15.20."""
    if server_version < MIN_POSTGRES * 10_000:
        major, minor = divmod(server_version, 10_000)
        raise SchemaError(f"this is Postgres {major}.{minor}, and ngos needs {MIN_POSTGRES} or later")


def other_encoding(connection: TrioConnection[Any]) -> str | None:
    """The database's encoding, by Postgres' name, where it is not UTF8: what clients write could not all be kept."""
    encoding = connection.info.parameter_status("server_encoding")
    return None if encoding == ENCODING else encoding


async def _apply(connection: TrioConnection[TupleRow], migrations: tuple[Migration, ...]) -> MigrationReport:
    await connection.execute(_CREATE_TABLE)
    cursor = await connection.execute("select coalesce(max(version), 0) from ngos_schema")
    row = await cursor.fetchone()
    present: int = row[0] if row else 0
    if present > len(migrations):
        raise SchemaError(
            f"the database has schema version {present}, and this ngos knows versions up to {len(migrations)}: "
            "upgrade ngos or use another database"
        )
    applied = []
    for migration in migrations[present:]:
        async with connection.transaction():
            try:
                # Without parameters the file goes as it is: many statements, and a % is a %.
                await connection.execute(migration.sql, prepare=False)
            except psycopg.Error as error:
                if is_unavailable(error):
                    raise
                raise SchemaError(f"migration {migration.version:04}_{migration.name}.sql fails: {error}") from error
            await connection.execute(
                "insert into ngos_schema (version, name) values (%s, %s)", [migration.version, migration.name]
            )
        applied.append(migration.name)
    return MigrationReport(present, len(migrations), tuple(applied))
