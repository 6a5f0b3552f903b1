"""Health while the database is away: alive but not ready, within the deadline, and ready again by itself."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import trio

from ngos.client.errors import CommandError
from ngos.client.trio import connect
from ngos.postgres.embedded import embedded_postgres
from tests.databases import TestServer
from tests.servers import Running, running_server
from tests.web.test_routes import assert_error
from tests.web.wire import request

QUICK = {"database_connect_s": 1.0, "database_query_s": 1.0}


@asynccontextmanager
async def own_postgres() -> AsyncIterator[str]:
    """A Postgres that a test may hurt; yields its conninfo."""
    with tempfile.TemporaryDirectory(prefix="ngos-test-", dir="/tmp") as directory:
        async with embedded_postgres(Path(directory) / "data", start_s=30.0) as conninfo:
            yield conninfo


def stop(conninfo: str) -> list[int]:
    """Stop all processes of a Postgres, the postmaster first: it starts no more then, and none of them ends."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("select pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    postmaster = int(row[0].splitlines()[0])
    stopped = []
    os.kill(postmaster, signal.SIGSTOP)
    for pid in (postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())):
        with suppress(ProcessLookupError):  # it was about to end, as that of the question above
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
    return stopped


async def status(server: Running, path: str) -> int:
    return (await request(server.http, "GET", path)).status


async def test_a_database_that_hangs() -> None:
    """Postgres stopped in its tracks: 503 with the reason and Retry-After, soon; alive meanwhile; then ready again."""
    async with (
        own_postgres() as conninfo,
        running_server(conninfo, **QUICK) as server,
        connect(server.url) as client,
    ):
        await client.create_token()
        pids = stop(conninfo)
        try:
            for path in ("/readyz", "/healthz"):
                with trio.fail_after(5):
                    answer = await request(server.http, "GET", path)
                assert (503, {"status", "reasons"}) == (answer.status, answer.json.keys())
                assert ["the database does not answer"] == answer.json["reasons"]
                assert int(answer.headers["retry-after"]) > 0
            for path in ("/livez", "/metrics", "/ws/stats", "/"):
                assert 200 == await status(server, path)
            with trio.fail_after(5), pytest.raises(CommandError, match="did not answer") as caught:
                await client.create_token()
            assert ("unavailable", True) == (caught.value.code, caught.value.retryable)
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)
        with trio.fail_after(10):
            while 200 != await status(server, "/readyz"):  # noqa: ASYNC110 - as a load balancer asks
                await trio.sleep(0.02)
        await client.create_token()


async def test_a_database_that_is_dropped(postgres_server: TestServer) -> None:
    """With its database gone, the server says so, and publishing to a durable topic is 503 `unavailable`."""
    conninfo = postgres_server.create_database()
    async with running_server(conninfo, durable_topics=("log.*",), **QUICK) as server:
        assert 200 == await status(server, "/readyz")
        await trio.to_thread.run_sync(postgres_server.drop_database, conninfo)
        assert 503 == await status(server, "/readyz")
        assert 200 == await status(server, "/livez")
        answer = await request(server.http, "POST", "/ws/publish/log.a", body={"type": "e"})
        assert_error(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert 200 == (await request(server.http, "POST", "/ws/publish/mine", body={"type": "e"})).status
