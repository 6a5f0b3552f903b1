"""The start and the failures of a daemon: it waits for what will come, ends by what won't, and never limps."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio
from trio.testing import MockClock

from ngos.client.trio import connect
from ngos.readiness import Readiness
from tests.daemons import daemon
from tests.postgres.way import Way
from tests.systemd import ACTIVATED
from tests.web.wire import raw_socket, request


def test_what_few_need_is_not_loaded() -> None:
    """Tries to have each start take the memory and the time of what only some servers need: tokens, Redis, traces."""
    program = "import ngos.daemon, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    loaded = set(run.stdout.decode().split())
    assert {"psycopg", "quart"} < loaded
    assert set() == loaded & {"joserfc", "cryptography", "httpx", "coredis", "opentelemetry"}


async def test_a_database_that_comes_late(database_url: str, tmp_path: Path, nursery: trio.Nursery) -> None:
    """Tries to end a server whose database is not there yet, or to be let in before it can serve."""
    way = Way(database_url, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        http = f"http://127.0.0.1:{handed_over.getsockname()[1]}"
        fd = handed_over.fileno()
        async with daemon(
            way.url, ngos=ACTIVATED, environment={"HANDED_OVER": str(fd)}, pass_fds=[fd], ready=False
        ) as server:
            await server.says("database.waiting")
            assert 200 == (await request(http, "GET", "/livez")).status
            ready = await request(http, "GET", "/readyz")
            assert (503, ["the database is not there yet"]) == (ready.status, ready.json["reasons"])
            for method, path in (("GET", "/ws"), ("POST", "/ws/publish/mine")):
                upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
                upgrade |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
                body = {"type": "t", "payload": {}} if method == "POST" else None
                answer = await request(http, method, path, body=body, headers=upgrade if method == "GET" else None)
                assert (503, "1") == (answer.status, answer.headers["retry-after"])
            await way.open(nursery)
            await server.is_ready()
            assert http == server.http
            assert 200 == (await request(http, "GET", "/readyz")).status
            async with connect(server.url) as client:
                await client.create_token()
            server.process.terminate()
            assert 0 == await server.ends()
    assert 1 == server.log.count("database.waiting")
    way.close()


async def test_a_signal_while_waiting(tmp_path: Path) -> None:
    """Tries to have a server that waits for its database go on waiting when it is to end."""
    async with daemon(f"host={tmp_path} dbname=x", ready=False) as server:
        await server.says("database.waiting")
        server.process.terminate()
        assert 0 == await server.ends()
    assert "Traceback" not in server.log


async def test_a_signal_in_the_first_try(nursery: trio.Nursery) -> None:
    """Tries to have a server go on with its first try of a database that says nothing, when it is to end."""
    program = """
import sys, ngos.daemon
from ngos.__main__ import main
ngos.daemon.FIRST_TRY_S = 1000
sys.exit(main())
"""

    async def hold(_stream: trio.SocketStream) -> None:
        tried.set()
        await trio.sleep_forever()

    tried = trio.Event()
    (listener,) = await nursery.start(partial(trio.serve_tcp, hold, 0, host="127.0.0.1"))
    url = f"postgresql://me@127.0.0.1:{listener.socket.getsockname()[1]}/x"
    flags = ("--database-connect-s", "1000", "--drain-s", "0")
    async with daemon(url, *flags, ngos=(sys.executable, "-c", program), ready=False) as server:
        await tried.wait()
        while "settings.reloaded" not in server.log:  # only from then on is it more than a start that is given up
            server.process.send_signal(signal.SIGHUP)
            with trio.move_on_after(0.1):
                await server.says("settings.reloaded")
        server.process.terminate()
        assert 0 == await server.ends()
    assert "server.draining" in server.log
    nursery.cancel_scope.cancel()


async def refuse_password(stream: trio.SocketStream) -> None:
    """Be a Postgres that does not know this password (its protocol's 55.7: ErrorResponse)."""
    async with stream:
        await stream.receive_some()
        fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "me"\0\0'
        await stream.send_all(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)


async def test_a_wrong_password(nursery: trio.Nursery) -> None:
    """Tries to have a server wait for what waiting does not mend, or tell the password: one line, exit code 1."""
    (listener,) = await nursery.start(partial(trio.serve_tcp, refuse_password, 0, host="127.0.0.1"))
    port = listener.socket.getsockname()[1]
    url = f"postgresql://me:geheim@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
    async with daemon(url, ready=False) as server:
        assert 1 == await server.ends()
    assert 'password authentication failed for user "me"' in server.log
    assert "geheim" not in server.log
    assert server.log.startswith("ngos: can't use the database: ")
    assert 1 == server.log.count("\n")
    nursery.cancel_scope.cancel()


async def test_a_schema_that_is_too_new(database_url: str) -> None:
    """Tries to have a server work with a schema that it does not know: one line that says what to do, exit code 1."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("insert into ngos_schema (version, name) values (9999, 'of_the_future')")
    async with daemon(database_url, ready=False) as server:
        assert 1 == await server.ends()
    assert "upgrade ngos" in server.log
    assert 1 == server.log.count("\n")


async def test_a_database_that_is_lost(database_url: str, tmp_path: Path, nursery: trio.Nursery) -> None:
    """Tries to lose the database without operators and clients being told, or without a way back."""
    way = Way(database_url, tmp_path)
    await way.open(nursery)
    async with daemon(way.url, "--status-interval-s", "3600") as server, connect(server.url) as client:
        async with client.subscribe("system") as events:
            way.close()
            assert not (await anext(events)).payload["ready"]
            ready = await request(server.http, "GET", "/readyz")
            assert (503, ["the database does not answer"]) == (ready.status, ready.json["reasons"])
            await way.open(nursery)
            assert (await anext(events)).payload["ready"]
            assert 200 == (await request(server.http, "GET", "/readyz")).status
            await client.create_token()
        assert 1 == server.log.count("server.unready")
        assert 1 == server.log.count("server.ready_again")
    way.close()


async def test_a_slow_look_and_a_later_one(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to have a server that is ready again be told to be lost, by who began to ask before it was back."""
    told: list[bool] = []
    answers = [(0.0, []), (2.0, ["the database does not answer"]), (0.0, [])]

    async def ask() -> list[str]:
        after_s, reasons = answers.pop(0)
        await trio.sleep(after_s)
        return reasons

    async def tell(ready: bool) -> None:
        told.append(ready)

    readiness = Readiness(trio.lowlevel.checkpoint, ask, tell)
    readiness.prepared.set()
    await readiness.look()
    nursery.start_soon(readiness.look)
    await trio.testing.wait_all_tasks_blocked()
    assert [] == await readiness.look()
    await trio.sleep(3)
    assert ([True], []) == (told, readiness.reasons)


def broken(module: str, name: str, method: str) -> list[str]:
    """`ngos` with a defect: this method raises."""
    program = f"""
import sys
from {module} import {name}
from ngos.__main__ import main
async def fail(*_):
    raise ZeroDivisionError("a defect that the test has made")
{name}.{method} = fail
sys.exit(main())
"""
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(
    ("task", "module", "name", "method"),
    [
        ("committer", "ngos.log.committer", "Committer", "_commit_or_split"),
        ("relay", "ngos.log.relay", "Relay", "_relay"),
        ("hub", "ngos.log.hub", "Hub", "_fan_out"),
        ("retention", "ngos.log.retention", "Retention", "round"),
    ],
    ids=lambda value: value if value.islower() and "." not in value and "_" not in value else "",
)
async def test_a_defect_in_a_core_task(database_url: str, task: str, module: str, name: str, method: str) -> None:
    """Tries to have a server go on without a core task: it ends with 70 and a full line, clients hear 1011."""
    flags = ("--log-format", "json")
    async with daemon(database_url, *flags, ngos=broken(module, name, method), ready=False) as server:
        if task != "retention":
            await server.is_ready()
            async with raw_socket(server.http) as client:
                await client.message()
                await client.command("subscribe", {"topic": "tokens"})
                assert "subscribed" == (await client.message())["type"]
                await client.command("token.create", {})
                assert 1011 == await client.closed()
        assert 70 == await server.ends()
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    (defect,) = [line for line in lines if line["event"] == "server.defect"]
    assert ("error", task) == (defect["level"], defect["task"])
    assert "ZeroDivisionError: a defect that the test has made" in defect["exception"]
    assert f"ngos: a defect in the {task} ended the server: incident {defect['incident']} is in its log" in server.log
