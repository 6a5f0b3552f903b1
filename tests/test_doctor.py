"""`ngos doctor` and `ngos config --check`: each thing that a server lacks is told in a line that says what to do."""

from __future__ import annotations

import gc
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import trio
import typed_settings as ts
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ngos.config import Settings
from ngos.doctor import Finding, State, database, examine, finding, machine, settings
from tests.daemons import LIMIT_S, daemon
from tests.databases import TestServer
from tests.test_status import ngos
from tests.tokens import Mint


async def examined(**overrides: Any) -> dict[str, Finding]:
    return {found.about: found for found in await examine(Settings(**{"port": 0, **overrides}))}


async def test_all_is_well(database_url: str) -> None:
    """Tries to find something amiss with a server that would start."""
    found = await examined(database_url=ts.SecretStr(database_url))
    assert {State.OK} == {one.state for one in found.values()}
    assert {
        "address",
        "authentication",
        "port 0",
        "file limit",
        "database",
        "schema",
        "clock",
        "durability",
    } < found.keys()


async def test_it_changes_nothing(empty_database_url: str, tmp_path: Path) -> None:
    """Tries to have it make a schema, or a data directory, by looking."""
    found = await examined(database_url=ts.SecretStr(empty_database_url))
    assert "version 0, to be brought to" in found["schema"].text
    with psycopg.connect(empty_database_url) as conn:
        assert (None,) == conn.execute("select to_regclass('ngos_schema')").fetchone()
    await examined(data_dir=tmp_path / "new")
    assert not (tmp_path / "new").exists()


async def test_a_port(database_url: str) -> None:
    """Tries to have a port that is taken called free, or an ngos called a stranger."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.setblocking(False)
        port = taken.getsockname()[1]
        found = await examined(port=port, database_url=ts.SecretStr(database_url))
    assert (State.PROBLEM, "stop it, or set another --port") == (
        found[f"port {port}"].state,
        found[f"port {port}"].advice,
    )
    async with daemon(database_url) as server:
        port = int(server.http.rpartition(":")[2])
        found = await examined(port=port, database_url=ts.SecretStr(database_url))
    assert found[f"port {port}"].state is State.OK
    assert "is running there" in found[f"port {port}"].text


@pytest.mark.parametrize("how", ["refused", "silent", "password"])
async def test_a_database_that_is_not_to_be_had(how: str, nursery: trio.Nursery) -> None:
    """Tries to hang it, or to read a password in what it says, by a database that does not answer as it should."""
    from tests.test_start import refuse_password

    async def silent(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    port = 1
    if how != "refused":
        serve = silent if how == "silent" else refuse_password
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
    url = f"postgresql://me:geheim@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
    found = await examined(database_url=ts.SecretStr(url), database_connect_s=0.5 if how == "silent" else 20.0)
    assert found["database"].state is State.PROBLEM
    said = {"refused": "refused", "silent": "no connection", "password": "password authentication failed"}[how]
    assert said in found["database"].text
    assert "geheim" not in str(found)
    nursery.cancel_scope.cancel()


async def test_a_schema_that_is_too_new(database_url: str) -> None:
    """Tries to have a schema of the future called fine."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("insert into ngos_schema (version, name) values (9999, 'of_the_future')")
    found = await examined(database_url=ts.SecretStr(database_url))
    assert (State.PROBLEM, "upgrade ngos, or use another database") == (found["schema"].state, found["schema"].advice)


async def test_a_role_that_may_not(postgres_server: TestServer, empty_database_url: str) -> None:
    """Tries to have a role that can't make the schema called fine."""
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("revoke create on schema public from public")
        conn.execute("drop role if exists ngos_test_poor")
        conn.execute("create role ngos_test_poor login")
    try:
        url = make_conninfo(empty_database_url, user="ngos_test_poor")
        found = await examined(database_url=ts.SecretStr(url))
        assert (State.PROBLEM, "have its owner") == (found["schema"].state, found["schema"].advice[:14])
    finally:
        with psycopg.connect(empty_database_url, autocommit=True) as conn:
            conn.execute("drop role ngos_test_poor")


async def test_a_database_that_may_lose(database_url: str) -> None:
    """Tries to have a database that answers before it has written called fine, or one with too few connections."""
    url = make_conninfo(database_url, options="-c synchronous_commit=off")
    found = await examined(database_url=ts.SecretStr(url), database_pool_size=100_000)
    assert (State.PROBLEM, "set synchronous_commit = on: what was answered can be lost without") == (
        found["synchronous_commit"].state,
        found["synchronous_commit"].advice,
    )
    assert found["max_connections"].state is State.PROBLEM


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def of_other_letters(request: pytest.FixtureRequest, empty_database_url: str) -> Iterator[tuple[str, str]]:
    """A database of another encoding, and which."""
    name = str(conninfo_to_dict(empty_database_url)["dbname"]) + "_l"
    with psycopg.connect(empty_database_url, autocommit=True) as db:
        # The embedded one's own locale is of UTF-8 alone; before 15 there was no other provider.
        libc = "locale_provider libc" if db.info.server_version >= 150_000 else ""
        encoding = f"encoding '{request.param}' {libc} lc_collate 'C' lc_ctype 'C' template template0"
        db.execute(f"create database {name} {encoding}")
        try:
            yield make_conninfo(empty_database_url, dbname=name), request.param
        finally:
            db.execute(f"drop database {name} with (force)")


async def test_a_database_of_other_letters(of_other_letters: tuple[str, str]) -> None:
    """Tries to have a database called fine that can't take every letter."""
    url, encoding = of_other_letters
    found = await examined(database_url=ts.SecretStr(url))
    assert (State.PROBLEM, encoding) == (found["encoding"].state, found["encoding"].text.partition(":")[0])


@pytest.mark.parametrize("command", ["serve", "migrate"])
async def test_other_letters_are_refused(of_other_letters: tuple[str, str], command: str) -> None:
    """Tries to start on a database that can't take every letter, or to leave something in it."""
    url, encoding = of_other_letters
    if command == "serve":
        async with daemon(url, ready=False) as server:
            assert 1 == await server.ends()
        said = server.log
    else:
        run = await ngos("migrate", "--database-url", url)
        assert 1 == run.returncode
        said = run.stderr.decode()
    (told,) = [line for line in said.splitlines() if line.startswith("ngos: ")]
    assert f" has the encoding {encoding}, " in told
    assert told.endswith("make the database anew: encoding 'UTF8' template template0")
    with psycopg.connect(url) as db:
        assert (0,) == db.execute("select count(*) from pg_class where relname ~ '^ngos|^events'").fetchone()


@pytest.mark.parametrize(("most", "state"), [(49, State.PROBLEM), (50, State.OK)])
def test_room_for_all_connections(most: int, state: State) -> None:
    """Tries to have max_connections called enough that has no room for what workers hold beside their pools."""
    assert state is database._connections(most, Settings(workers=4, database_pool_size=8)).state


@pytest.mark.parametrize(
    ("off_s", "mode", "state"), [(0.0, "none", "ok"), (30, "none", "warning"), (30, "jwt", "problem")]
)
def test_clocks(off_s: float, mode: str, state: str) -> None:
    """Tries to have a clock that is off called right; with tokens more hangs on it."""
    settings = Settings(auth_mode=mode, auth_leeway_s=5.0)
    assert state == database._clock(1000.0 + off_s, 1000.0, 1000.1, settings).state


async def test_files_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have too few descriptors, or a full disk, called enough."""
    found = await examined(connections=10_000_000, data_dir=tmp_path)
    assert "LimitNOFILE=10000328" in found["file limit"].advice
    for free, state in ((1, State.PROBLEM), (500 * 2**20, State.WARNING), (5000 * 2**20, State.OK)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _path, usage=usage: usage)
        assert state is (await examined(data_dir=tmp_path))["data directory"].state


@pytest.mark.parametrize("up", [True, False])
async def test_redis(up: bool) -> None:
    """Tries to have a Redis that does not answer called well, or its password told."""
    url = "redis://127.0.0.1:6379" if up else "redis://:geheim@127.0.0.1:1"
    found = await examined(redis_url=ts.SecretStr(url))
    if up and found["redis"].state is State.PROBLEM:
        pytest.skip("LOUD: no Redis on port 6379")
    assert found["redis"].state is (State.OK if up else State.PROBLEM)
    assert "geheim" not in str(found)
    gc.collect()  # here, where what it warns of is known


async def test_a_check_that_fails_itself() -> None:
    """Tries to end it in a traceback by a defect of a check, or to hang it by one that waits for ever."""

    async def broken(_settings: Settings) -> list[Finding]:
        raise ZeroDivisionError

    async def hanging(_settings: Settings) -> list[Finding]:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "CHECK_S", 0.1)
        found = await finding.run((("a", broken), ("b", hanging)), Settings())
    assert [("a", "the check itself failed"), ("b", "no answer within 0.1 s")] == [(f.about, f.text) for f in found]
    assert "incident" in found[0].advice


async def test_names_that_nobody_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to hang it by a name server that does not answer, for which the resolver waits and Trio can't."""
    is_over = threading.Event()

    def resolve(*_: Any, **_options: Any) -> Any:
        is_over.wait(LIMIT_S)
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    monkeypatch.setattr("ngos.listening.socket.getaddrinfo", resolve)
    monkeypatch.setattr(finding, "CHECK_S", 0.1)
    try:
        checks = (("address", settings.check_address), ("port", machine.check_port))
        found = await finding.run(checks, Settings(host="ngos.example"))
    finally:
        is_over.set()
    assert [("address", "no answer within 0.1 s"), ("port", "no answer within 0.1 s")] == [
        (f.about, f.text) for f in found
    ]


async def test_the_command(database_url: str) -> None:
    """Tries to have it end with 0 where there is a problem, or print what no program can read."""
    done = await ngos("doctor", "--port", "0", "--database-url", database_url, "--json")
    assert 0 == done.returncode, done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"about", "state", "text", "advice"} == lines[0].keys()
    done = await ngos("doctor", "--port", "0", "--database-url", "postgresql://127.0.0.1:1/x")
    assert 1 == done.returncode
    assert b"problem  database" in done.stdout
    assert b"" == done.stderr


async def test_config_check(tmp_path: Path) -> None:
    """Tries to have it content with settings that `serve` refuses, or tell only the first of several faults."""
    mint = Mint(tmp_path)
    good = ("--auth-mode", "jwt", "--auth-secret-file", str(mint.settings["auth_secret_file"]), "--host", "0.0.0.0")
    assert (0, b"ok\n") == ((done := await ngos("config", "--check", *good)).returncode, done.stdout)
    for flags, said in (
        (("--port", "x", "--drain-s", "-1"), ["--port: must be", "--drain-s: must be"]),
        (("--host", "0.0.0.0", "--database-url", "http://x"), ["refusing to listen", "postgresql://user:password"]),
        (("--auth-mode", "jwt"), ["no keys to verify tokens with"]),
        (("--backplane", "redis"), ["--backplane redis needs --redis-url"]),
        (("--redis-url", "http://x"), ["the address of Redis is none of"]),
        (("--config", str(tmp_path / "none.toml")), ["none.toml"]),
    ):
        done = await ngos("config", "--check", *flags)
        assert (2, b"", len(said)) == (done.returncode, done.stdout, done.stderr.count(b"\n"))
        assert all(text in done.stderr.decode() for text in said)
