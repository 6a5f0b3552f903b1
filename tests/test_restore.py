"""A database that went back, as a client and an operator meet it: through servers in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict
from trio_websocket import open_websocket_url

from ngos.__main__ import main
from ngos.client.trio import connect
from ngos.postgres.migrate import migrate
from ngos.verify import verify
from tests.daemons import daemon
from tests.databases import TestServer


def execute(conninfo: str, statement: str) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as db:
        cursor = db.execute(statement)
        return cursor.fetchall() if cursor.description else []


async def subscribed(url: str, since: int, epoch: str) -> dict[str, Any]:
    """The reply to who resumes `tokens`."""
    payload = {"topic": "tokens", "since": since, "epoch": epoch}
    async with open_websocket_url(url) as socket:
        await socket.send_message(orjson.dumps({"type": "subscribe", "payload": payload}).decode())
        await socket.get_message()  # the greeting
        reply: dict[str, Any] = orjson.loads(await socket.get_message())["payload"]
        return reply


async def test_a_client_of_a_restored_database(
    postgres_server: TestServer, empty_database_url: str, tmp_path: Path
) -> None:
    """Tries to resume in a database that was dumped, written on, and restored: what comes next has old numbers."""
    dump = str(tmp_path / "ngos.dump")
    async with daemon(empty_database_url) as server, connect(server.url) as client:
        await client.create_token(type="kept")
        command = ["pg_dump", "--format=custom", "--file", dump, empty_database_url]
        done = await trio.run_process(command, check=False, capture_stderr=True)
        if b"server version mismatch" in done.stderr:
            pytest.skip("LOUD: the pg_dump of this machine is older than the Postgres that the tests use")
        assert 0 == done.returncode, done.stderr
        await client.create_token(type="lost")
        position = (await client.list_tokens()).position
        assert 2 == position.seq
    async with daemon(empty_database_url) as server:  # a plain restart
        assert "epochs_renewed" not in server.log
        reply = await subscribed(server.url, 1, position.epoch)
        assert (True, 1) == (reply["recovered"], reply["replay"])
    restored = postgres_server.create_database(migrated=False)
    try:
        await trio.run_process(["pg_restore", "--exit-on-error", "-d", restored, dump])
        async with daemon(restored) as server, connect(server.url) as client:
            assert "log.epochs_renewed" in server.log
            await client.create_token(type="other")
            for since in (1, 2):
                reply = await subscribed(server.url, since, position.epoch)
                assert (False, 0, 2) == (reply["recovered"], reply["replay"], reply["seq"])
                assert position.epoch != reply["epoch"]
        report = await verify(restored)
        assert report.sound
        assert [] == [remark for check in report.checks for remark in check.remarks]
    finally:
        postgres_server.drop_database(restored)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("update topics set seq = 1 where topic = 'tokens'", "clients were told of 2, and its last is 1"),
        ("update topics set epoch = '0badc0de' where topic = 'tokens'", "its epoch was"),
    ],
    ids=["behind", "renewed"],
)
async def test_a_log_that_goes_back_under_a_server(empty_database_url: str, statement: str, reason: str) -> None:
    """Tries to have a server go on with a log that went back under it, or the next one leave the epochs."""
    async with daemon(empty_database_url) as server:
        async with connect(server.url) as client, client.subscribe("tokens") as events:
            for _ in range(2):
                await client.create_token(type="demo")
                await anext(aiter(events))
            position = (await client.list_tokens()).position
            execute(empty_database_url, "delete from events where seq = 2")
            execute(empty_database_url, statement)
            assert 1 == await server.ends()  # at the next comparison
        assert "log.went_back" in server.log
        assert reason in server.log
        assert 1 == sum("ngos: the log of tokens went back" in line for line in server.log.splitlines())
        assert "Traceback" not in server.log
    if "told" in reason:
        await migrate(empty_database_url, connect_s=5, lock_s=5)
    ((epoch,),) = execute(empty_database_url, "select epoch from topics where topic = 'tokens'")
    assert position.epoch != epoch


async def test_another_database_in_its_place(postgres_server: TestServer, database_url: str) -> None:
    """Tries to have a server go on when its connections break and the next ones lead to another database."""
    other = postgres_server.create_database()
    name, other_name = (str(conninfo_to_dict(url)["dbname"]) for url in (database_url, other))
    async with daemon(database_url) as server:
        async with connect(server.url, client_id="me") as client, client.subscribe("tokens"):
            await client.create_token(type="demo")
            with psycopg.connect(postgres_server.conninfo, autocommit=True) as admin:
                admin.execute(f"alter database {name} allow_connections false")
                admin.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [name])
                admin.execute(f"alter database {name} rename to {name}_old")
                admin.execute(f"alter database {other_name} rename to {name}")
            try:
                assert 1 == await server.ends()  # at the next comparison, on a new connection
            finally:
                with psycopg.connect(postgres_server.conninfo, autocommit=True) as admin:
                    admin.execute(f"alter database {name} rename to {other_name}")
                    admin.execute(f"alter database {name}_old rename to {name}")
                    admin.execute(f"alter database {name} allow_connections true")
                postgres_server.drop_database(other)
        assert "log.went_back" in server.log
        assert "ngos: the database is not the one that the server started with (database_oid " in server.log


def test_the_command(empty_database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to have `ngos migrate` give new epochs where none were asked for, or none where they were."""
    assert 0 == main(["migrate", "--database-url", empty_database_url])
    capsys.readouterr()
    assert 0 == main(["migrate", "--database-url", empty_database_url])
    assert "nothing to do\n" == capsys.readouterr().out
    assert 0 == main(["migrate", "--database-url", empty_database_url, "--new-epochs"])
    assert "new epochs for 3 topics: asked for\n" == capsys.readouterr().out
