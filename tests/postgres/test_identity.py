"""Which database this is: one that was restored is noticed, and no other."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ngos.errors import LogWentBack, StorageUnavailable
from ngos.postgres import identity as module
from ngos.postgres.cluster import Cluster, open_cluster
from ngos.postgres.identity import Guard, Identity, Kept
from ngos.postgres.migrate import migrate
from ngos.postgres.pool import open_pool
from tests.databases import TestServer

PARTS = ("system_identifier", "timeline", "database_oid", "topics_oid")


async def start(conninfo: str, *, new_epochs: bool = False) -> Kept:
    """What a server does with the identity when it starts."""
    report = await migrate(conninfo, connect_s=10, lock_s=10, new_epochs=new_epochs)
    assert report.kept is not None
    return report.kept


def rows(conninfo: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


async def until_blocked(conninfo: str, pid: int) -> None:
    """Wait until a backend waits for a lock that another holds."""
    while rows(conninfo, f"select pg_blocking_pids({pid})") == [([],)]:  # noqa: ASYNC110 - a hang is pytest's to end
        await trio.sleep(0.01)


def epochs(conninfo: str) -> dict[str, str]:
    return {topic: epoch for topic, epoch in rows(conninfo, "select topic, epoch from topics")}  # noqa: C416


async def test_a_restart_changes_nothing(empty_database_url: str) -> None:
    """Tries to have a start, the first or another, give new epochs to a database that is still the same."""
    assert (await start(empty_database_url)).renewed is None
    first = epochs(empty_database_url)
    (noted,) = rows(empty_database_url, "select * from ngos_identity")
    kept = await start(empty_database_url)
    assert kept == Kept(kept.identity, kept.epochs_at)
    assert [] == kept.identity.unknown()
    assert first == epochs(empty_database_url)
    assert [noted] == rows(empty_database_url, "select * from ngos_identity")


@pytest.mark.parametrize("part", PARTS)
async def test_each_part_tells(empty_database_url: str, part: str) -> None:
    """Tries to change one part of the identity without new epochs for every topic, once."""
    await start(empty_database_url)
    first = epochs(empty_database_url)
    rows(empty_database_url, f"update ngos_identity set {part} = 'other'")
    kept = await start(empty_database_url)
    assert (f"{part} other -> {getattr(kept.identity, part)}", 3) == (kept.renewed, kept.topics)
    second = epochs(empty_database_url)
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())
    assert (await start(empty_database_url)).renewed is None
    assert second == epochs(empty_database_url)


@pytest.mark.parametrize("part", PARTS)
async def test_what_was_not_known_is_not_another(empty_database_url: str, part: str) -> None:
    """Tries to have a part that could not be asked for taken for a change; it is noted when it is known."""
    await start(empty_database_url)
    rows(empty_database_url, f"update ngos_identity set {part} = null")
    assert (await start(empty_database_url)).renewed is None
    assert [(getattr((await start(empty_database_url)).identity, part),)] == rows(
        empty_database_url, f"select {part} from ngos_identity"
    )


async def test_two_servers_start_at_once(empty_database_url: str) -> None:
    """Tries to have servers that start together on a restored database give new epochs more than once."""
    await start(empty_database_url)
    rows(empty_database_url, "update ngos_identity set timeline = '00000000'")
    renewed = []

    async def run() -> None:
        renewed.append((await start(empty_database_url)).renewed)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(run)
    assert 1 == sum(reason is not None for reason in renewed)


async def test_asked_for_or_doubted(empty_database_url: str) -> None:
    """Tries to have no new epochs where an operator asks for them, or a server that ran saw that the log went back."""
    await start(empty_database_url)
    first = epochs(empty_database_url)
    assert module.ASKED_FOR == (await start(empty_database_url, new_epochs=True)).renewed
    rows(empty_database_url, "update ngos_identity set doubt = 'it went back'")
    assert "it went back" == (await start(empty_database_url)).renewed
    assert (await start(empty_database_url)).renewed is None
    assert not set(first.values()) & set(epochs(empty_database_url).values())


@pytest.mark.parametrize("renewed", ["not", "before", "meanwhile", "long ago"])
async def test_a_doubt_of_before_the_new_epochs(empty_database_url: str, renewed: str) -> None:
    """Tries to have new epochs given twice for one restore, as one of two servers notes its doubt after the other.

    Or not at all: what is restored can have other epochs, too, which are older than those that clients know.
    """
    kept = await start(empty_database_url)
    async with open_pool(empty_database_url, max_size=1, connect_s=5, query_s=10) as pool, pool.connection() as conn:
        if renewed == "meanwhile":
            with psycopg.connect(empty_database_url) as other:
                other.execute("update ngos_identity set doubt = null, noted_at = now()")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(module.doubt, conn, "it went back", kept.epochs_at)
                    await until_blocked(empty_database_url, conn.info.backend_pid)
                    other.commit()
        else:
            if renewed == "before":
                assert (await start(empty_database_url, new_epochs=True)).epochs_at > kept.epochs_at
            if renewed == "long ago":
                rows(empty_database_url, "update ngos_identity set noted_at = noted_at - interval '1 day'")
            await module.doubt(conn, "it went back", kept.epochs_at)
    doubted = renewed in {"not", "long ago"}
    assert [("it went back" if doubted else None,)] == rows(empty_database_url, "select doubt from ngos_identity")


async def test_since_when_the_epochs_are_as_they_are(empty_database_url: str) -> None:
    """Tries to have epochs pass for new ones because a part of the identity can be asked for that could not before."""
    kept = await start(empty_database_url)
    rows(empty_database_url, "update ngos_identity set timeline = null")
    assert (await start(empty_database_url)).epochs_at == kept.epochs_at
    assert [(kept.identity.timeline, kept.epochs_at)] == rows(
        empty_database_url, "select timeline, noted_at from ngos_identity"
    )


async def test_epochs_that_are_taken(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have two topics draw the same epoch, which is an error in Postgres, and the start fail for it."""
    await start(empty_database_url)
    rows(empty_database_url, "create sequence tries")
    # The first four draws give the same: two tries of three topics, the second of which has had only one of them.
    drawn = "case when nextval('tries') < 4 then '00000000' else lpad(to_hex(currval('tries')), 8, '1') end"
    monkeypatch.setattr(module, "_RENEW", f"update topics set epoch = {drawn}")
    assert 3 == (await start(empty_database_url, new_epochs=True)).topics
    assert 3 == len(set(epochs(empty_database_url).values()))


async def test_an_unprivileged_role(postgres_server: TestServer, empty_database_url: str) -> None:
    """Tries to have the start fail for a role that may not ask for some parts, or a restore go unseen for it."""
    name = str(conninfo_to_dict(empty_database_url)["dbname"])
    rows(empty_database_url, f"create role {name} login; alter database {name} owner to {name}")
    functions = ("pg_control_system()", "pg_walfile_name(pg_lsn)")
    try:
        rows(empty_database_url, "; ".join(f"revoke execute on function {f} from public" for f in functions))
        own = make_conninfo(empty_database_url, user=name)
        rows(empty_database_url, f"grant all on schema public to {name}")
        kept = await start(own)
        assert ["system_identifier", "timeline"] == kept.identity.unknown()
        rows(empty_database_url, "update ngos_identity set topics_oid = '1'")
        assert (await start(own)).renewed is not None
        assert (await start(own)).renewed is None
    finally:
        rows(empty_database_url, f"drop owned by {name} cascade; alter database {name} owner to current_user")
        rows(empty_database_url, f"drop role {name}")


async def test_a_postgres_without_such_functions(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have the start fail where a function is missing altogether; the other parts are still compared."""
    monkeypatch.setitem(module.QUERIES, "timeline", "select no_such_function()")
    kept = await start(empty_database_url)
    assert ["timeline"] == kept.identity.unknown()
    rows(empty_database_url, "update ngos_identity set system_identifier = '1'")
    assert (await start(empty_database_url)).renewed is not None


async def test_a_database_that_is_another_under_a_server(empty_database_url: str) -> None:
    """Tries to have a server that runs go on with connections that lead to another database than it started with."""
    kept = await start(empty_database_url)
    guard = Guard()
    guard.expect(kept.identity)
    terms: dict[str, Any] = {"max_size": 2, "connect_s": 5, "query_s": 5}
    async with open_pool(empty_database_url, **terms, configure=guard.check) as pool, pool.connection() as connection:
        await connection.execute("select 1")
    guard = Guard()
    guard.expect(Identity(timeline="00000000", database_oid=kept.identity.database_oid))
    async with open_pool(empty_database_url, **terms, configure=guard.check) as pool:
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="timeline 00000000 -> "):
                async with pool.connection():
                    raise AssertionError
        with pytest.raises(LogWentBack, match="start again"):
            await guard.run()


async def test_a_check_that_began_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a database taken for the right one again by a check that began before the one that found it out."""
    old, new, answered = object(), object(), trio.Event()

    async def read_identity(connection: object, *, only: Identity) -> Identity:
        if connection is old:
            await answered.wait()
            return only
        return Identity(timeline="00000002")

    monkeypatch.setattr(module, "read_identity", read_identity)
    guard: Any = Guard()
    guard.expect(Identity(timeline="00000001"))

    async def is_refused(connection: object) -> None:
        with pytest.raises(StorageUnavailable, match="timeline 00000001 -> 00000002"):
            await guard.check(connection)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_refused, old)
        await trio.testing.wait_all_tasks_blocked()
        await is_refused(new)
        answered.set()
    await is_refused(old)
    with pytest.raises(LogWentBack, match="timeline 00000001 -> 00000002"):
        await guard.run()


async def test_a_dump_that_is_restored(postgres_server: TestServer, empty_database_url: str, tmp_path: Path) -> None:
    """Tries to restore a dump, into a new database or over the old one, without new epochs."""
    await start(empty_database_url)
    first = epochs(empty_database_url)
    dump = str(tmp_path / "ngos.dump")
    command = ["pg_dump", "--format=custom", "--no-owner", "--file", dump, empty_database_url]
    done = await trio.run_process(command, check=False, capture_stderr=True)
    if b"server version mismatch" in done.stderr:
        pytest.skip("LOUD: the pg_dump of this machine is older than the Postgres that the tests use")
    assert 0 == done.returncode, done.stderr
    fresh = postgres_server.create_database(migrated=False)
    try:
        for target, flags in ((fresh, ()), (empty_database_url, ("--clean",))):
            await trio.run_process(["pg_restore", "--no-owner", "--exit-on-error", *flags, "-d", target, dump])
            assert first == epochs(target)
            assert (await start(target)).renewed is not None
            assert not set(first.values()) & set(epochs(target).values())
    finally:
        postgres_server.drop_database(fresh)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, made but not started; under /tmp, for its socket and for Postgres' user."""
    base = Path("/tmp") / f"ngos-pitr-{os.getpid()}-{time.monotonic_ns()}"
    cluster = open_cluster(base)
    try:
        yield cluster
    finally:
        cluster.close()
        subprocess.run(["rm", "-rf", str(base)], check=True)


def as_postgres(cluster: Cluster, *command: str) -> None:
    account = cluster.account
    who: dict[str, Any] = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    program = str(cluster.binaries / command[0])
    done = subprocess.run([program, *command[1:]], check=False, capture_output=True, cwd="/", **who)
    assert 0 == done.returncode, done.stderr.decode()


def wait_until_recovered(conninfo: str) -> None:
    while rows(conninfo, "select pg_is_in_recovery() from pg_sleep(0.05)") != [(False,)]:
        pass  # a hang is pytest's to end


async def test_a_point_in_time(cluster: Cluster) -> None:
    """Tries to recover a cluster to a point in time, with its archive, and resume in the log that went back."""
    top = cluster.directory.parent / "pitr"
    top.mkdir()
    archive, backup = top / "archive", top / "backup"
    archive.mkdir()
    if cluster.account is not None:
        for path in (top, archive):
            os.chown(path, cluster.account.uid, cluster.account.gid)
    options = (
        f"-k {cluster.socket_dir} -c listen_addresses='' -c archive_mode=on -c archive_command='cp %p {archive}/%f'"
    )
    here = partial(as_postgres, cluster)
    here("pg_ctl", "-D", str(cluster.directory), "-w", "-o", options, "-l", str(top / "log"), "start")
    running = cluster.directory
    try:
        assert (await start(cluster.conninfo)).renewed is None
        host = str(cluster.socket_dir)
        here("pg_basebackup", "-h", host, "-U", "postgres", "-D", str(backup), "--checkpoint=fast", "--wal-method=none")
        rows(cluster.conninfo, "update topics set seq = 5 where topic = 'tokens'")
        rows(cluster.conninfo, "select pg_create_restore_point('before')")
        rows(cluster.conninfo, "update topics set seq = 9 where topic = 'tokens'")
        before = epochs(cluster.conninfo)
        rows(cluster.conninfo, "select pg_switch_wal()")
        here("pg_ctl", "-D", str(running), "-w", "-m", "fast", "stop")

        (backup / "recovery.signal").touch()
        with (backup / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"restore_command = 'cp {archive}/%f %p'\nrecovery_target_name = 'before'\n")
            conf.write("recovery_target_action = 'promote'\n")
        running = backup
        options = f"-k {cluster.socket_dir} -c listen_addresses=''"
        here("pg_ctl", "-D", str(backup), "-w", "-o", options, "-l", str(top / "log"), "start")
        wait_until_recovered(cluster.conninfo)
        assert [(5,)] == rows(cluster.conninfo, "select seq from topics where topic = 'tokens'")
        assert before == epochs(cluster.conninfo)
        kept = await start(cluster.conninfo)
        assert "timeline 00000001 -> 00000002" == kept.renewed
        assert not set(before.values()) & set(epochs(cluster.conninfo).values())
    finally:
        here("pg_ctl", "-D", str(running), "-w", "-m", "immediate", "stop")
