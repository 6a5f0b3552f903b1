"""The promises of design.md, over real sockets and a real Postgres, as an outsider would try to break them."""

from __future__ import annotations

import os
import signal
from typing import Any

import psycopg
import pytest
import trio

from ngos.client.errors import CommandError
from ngos.client.trio import Client, connect
from tests.servers import Running, running_server
from tests.web.test_readiness import own_postgres, stop
from tests.web.wire import raw_socket

DEADLINE_S = 1.0


async def test_a_thousand_creates_without_waiting(server: Running) -> None:
    """Tries to get replies out of order, a list that misses one, or an event out of line, by never waiting."""
    async with raw_socket(server.url) as watcher, raw_socket(server.url) as client:
        await watcher.message()
        await watcher.command("subscribe", {"topic": "tokens"})
        await watcher.message()
        await client.message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_a_thousand, client)
            replies = [await client.message() for _ in range(1001)]
        events = [await watcher.message() for _ in range(1000)]
    assert [f"c{number}" for number in range(1000)] == [reply["reply_to"] for reply in replies[:1000]]
    listed = replies[1000]["payload"]
    assert ("token.list", 1000, 1000) == (replies[1000]["type"], listed["count"], listed["total"])
    assert 1000 == listed["position"]["seq"]
    made = [reply["payload"]["token_id"] for reply in replies[:1000]]
    assert made == [token["token_id"] for token in reversed(listed["tokens"])]
    assert [(seq, token_id) for seq, token_id in enumerate(made, start=1)] == [
        (event["seq"], event["payload"]["token_id"]) for event in events
    ]


async def _send_a_thousand(client: Any) -> None:
    for number in range(1000):
        await client.command("token.create", id=f"c{number}")
    await client.command("token.list", {"limit": 1000, "total": True}, id="list")


@pytest.mark.parametrize("fault", ["killed", "stopped"])
async def test_postgres_goes_away_under_load(fault: str) -> None:
    """Tries to lose an answered change, or to wait longer than the deadline, while Postgres is killed or stopped."""
    answered: list[str] = []
    refused: list[float] = []
    goes_on = trio.Event()

    async def create_for_ever(client: Client) -> None:
        while True:
            started = trio.current_time()
            try:
                token = await client.create_token()
            except CommandError as exc:
                assert "unavailable" == exc.code
                assert exc.retryable
                refused.append(trio.current_time() - started)
            else:
                answered.append(str(token.token_id))
                if refused and len(answered) > before + 100:
                    goes_on.set()

    before = 10**9
    async with (
        own_postgres() as conninfo,
        running_server(conninfo, database_connect_s=DEADLINE_S, database_query_s=DEADLINE_S) as server,
        connect(server.url) as client,
        connect(server.url) as watcher,
        watcher.subscribe("tokens") as events,
        trio.open_nursery() as nursery,
    ):
        for _ in range(4):
            nursery.start_soon(create_for_ever, client)
        for _ in range(100):  # it is under load
            await anext(aiter(events))
        pids = stop(conninfo)
        if fault == "killed":
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        with trio.fail_after(10):
            while not refused:
                await trio.testing.wait_all_tasks_blocked()
        before = len(answered)
        if fault == "stopped":
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)
        with trio.fail_after(20):
            await goes_on.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(20):
            assert max(refused) < DEADLINE_S + 2
            async with connect(server.url) as reader:
                listed = await reader.list_tokens(limit=1, total=True)
                with psycopg.connect(conninfo) as db:
                    found = db.execute("select count(*) from tokens where token_id = any(%s::uuid[])", [answered])
                    assert (len(answered),) == found.fetchone()
                # Every change has its event, delivered once and in order, also those whose answer was lost.
                seqs = [(await anext(aiter(events))).seq for _ in range(listed.position.seq - 100)]
            assert list(range(101, listed.position.seq + 1)) == seqs
            assert listed.total == listed.position.seq
