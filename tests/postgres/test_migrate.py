"""The schema: each file once, as a whole, by one server."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio

from ngos.errors import SchemaError, StorageUnavailable
from ngos.postgres import migrate as module
from ngos.postgres.migrate import MigrationReport, migrate, read_migrations


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two migrations, and a file that is none."""
    (tmp_path / "0001_first.sql").write_text("create table a (n int);\ninsert into a values (1); -- 100% \n")
    (tmp_path / "0002_second.sql").write_text("alter table a add column m int; select pg_sleep(0.05);")
    (tmp_path / "README.md").write_text("no migration")
    return tmp_path


def rows(conninfo: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


async def test_applies_each_once(empty_database_url: str, directory: Path) -> None:
    """All files on an empty database, none the second time, only the new one the third."""
    run = partial(migrate, empty_database_url, connect_s=2, lock_s=2, directory=directory)
    assert MigrationReport(0, 2, ("first", "second")) == await run()
    assert MigrationReport(2, 2, ()) == await run()
    (directory / "0003_third.sql").write_text("create table b ()")
    assert MigrationReport(2, 3, ("third",)) == await run()
    assert [(1, "first"), (2, "second"), (3, "third")] == rows(
        empty_database_url, "select version, name from ngos_schema order by version"
    )
    assert [(1, None)] == rows(empty_database_url, "select n, m from a")


async def test_two_servers_at_once(empty_database_url: str, directory: Path) -> None:
    """Servers that start together apply each file once between them."""
    reports = []

    async def run() -> None:
        reports.append(await migrate(empty_database_url, connect_s=5, lock_s=5, directory=directory))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(run)
    assert 1 == sum(report.from_version == 0 for report in reports)
    assert 3 == sum(report == MigrationReport(2, 2, ()) for report in reports)


async def test_newer_schema_is_refused(empty_database_url: str, directory: Path) -> None:
    """An old server leaves a new database alone, and says what to do."""
    await migrate(empty_database_url, connect_s=2, lock_s=2, directory=directory)
    (directory / "0002_second.sql").unlink()
    with pytest.raises(SchemaError, match=r"version 2.*up to 1.*upgrade ngos or use another database"):
        await migrate(empty_database_url, connect_s=2, lock_s=2, directory=directory)


async def test_failing_file_leaves_nothing(empty_database_url: str, directory: Path) -> None:
    """A file that fails half-way is not applied at all; those before it are, and it is named."""
    (directory / "0003_broken.sql").write_text("create table b (); select 1/0;")
    with pytest.raises(SchemaError, match=r"0003_broken\.sql.*division by zero"):
        await migrate(empty_database_url, connect_s=2, lock_s=2, directory=directory)
    assert [(2, None)] == rows(empty_database_url, "select max(version), to_regclass('b') from ngos_schema")


async def test_cancelled_file_leaves_nothing(empty_database_url: str, directory: Path) -> None:
    """Cancellation in the middle of a file undoes that file, and the lock is free again."""
    run = partial(migrate, empty_database_url, connect_s=2, lock_s=2, directory=directory)
    await run()
    (directory / "0003_long.sql").write_text("create table b (); select pg_sleep(60);")
    asleep = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with trio.fail_after(20):
                while not rows(empty_database_url, asleep):  # noqa: ASYNC110 - Postgres has no event
                    await trio.sleep(0.02)
            scope.cancel()
    assert scope.cancelled_caught
    (directory / "0003_long.sql").write_text("create table b ();")
    assert MigrationReport(2, 3, ("long",)) == await run()


async def test_lock_that_is_held_is_waited_for_in_bounds(empty_database_url: str, directory: Path) -> None:
    """A server that hangs in a migration does not hang the others for ever."""
    with psycopg.connect(empty_database_url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [module._LOCK_KEY])
        with pytest.raises(StorageUnavailable, match=r"0\.1 s"):
            await migrate(empty_database_url, connect_s=2, lock_s=0.1, directory=directory)


async def test_unreachable_is_unavailable(directory: Path) -> None:
    """No database is no defect of the schema."""
    with pytest.raises(StorageUnavailable):
        await migrate("host=/nowhere user=x", connect_s=1, lock_s=1, directory=directory)


async def test_foreign_table_is_a_schema_error(empty_database_url: str, directory: Path) -> None:
    """A table of our name that is not ours is refused, not repaired."""
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("create table ngos_schema (x int)")
    with pytest.raises(SchemaError, match="version"):
        await migrate(empty_database_url, connect_s=2, lock_s=2, directory=directory)


@pytest.mark.parametrize(("version", "fits"), [(130_014, False), (140_000, True), (180_004, True)])
def test_old_postgres_is_refused(version: int, fits: bool) -> None:
    """Postgres 13 and before are refused by name."""
    if fits:
        module._check_postgres(version)
    else:
        with pytest.raises(SchemaError, match=r"Postgres 13\.14, and ngos needs 14"):
            module._check_postgres(version)


@pytest.mark.parametrize("names", [["0001_a", "0003_b"], ["0001_a", "0001_b"], ["0002_a"]])
def test_numbers_must_be_whole(tmp_path: Path, names: list[str]) -> None:
    """A missing or doubled number is a broken package, not a schema to guess."""
    for name in names:
        (tmp_path / f"{name}.sql").write_text("select 1")
    with pytest.raises(SchemaError, match="install it anew"):
        read_migrations(tmp_path)


def test_our_own_migrations_are_packaged() -> None:
    """The files come with ngos and can be read."""
    assert [1] == [migration.version for migration in read_migrations()][:1]
