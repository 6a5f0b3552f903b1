"""A command that is sent again (protocol.md section 6), over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from tests.servers import Running, running_server
from tests.web.wire import RawSocket, raw_socket


@asynccontextmanager
async def client_of(server: Running, query: str = "?client_id=me") -> AsyncIterator[RawSocket]:
    async with raw_socket(server.http, "/ws" + query) as client:
        await client.message()
        yield client


async def send(client: RawSocket, type_: str, payload: dict[str, Any] | None = None, **envelope: Any) -> dict[str, Any]:
    await client.command(type_, payload, **envelope)
    return await client.message()


def without(message: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in names}


async def test_on_another_connection(server: Running) -> None:
    """Tries to act twice, or to get a reply that is not marked, by sending again from a new connection."""
    for payload in ({"type": "demo"}, {"token_id": "0190a1b2-0000-7000-8000-000000000001"}):
        async with client_of(server) as client:
            first = await send(client, "token.create", payload, id=f"c{len(payload)}{'token_id' in payload}")
            assert "replayed" not in first
        async with client_of(server) as client:
            again = await send(client, "token.create", payload, id=first["reply_to"], timestamp=1)
            assert again["replayed"] is True
            assert without(first, "id", "timestamp") == without(again, "id", "timestamp", "replayed")


async def test_after_a_restart(database_url: str) -> None:
    """Tries to act twice by sending again to a server that was not there the first time."""
    replies = []
    for _ in range(2):
        async with running_server(database_url) as server, client_of(server) as client:
            replies.append(
                await send(client, "experience.record", {"event_type": "step", "trajectory_id": "t"}, id="c")
            )
    assert replies[0]["payload"] == replies[1]["payload"]
    with psycopg.connect(database_url) as db:
        assert (1, 1) == db.execute("select count(*), max(sequence_number) from experiences").fetchone()


async def test_an_error_is_a_reply(server: Running) -> None:
    """Tries to get another answer to a command that was refused, once it would be accepted."""
    payload = {"token_id": "0190a1b2-0000-7000-8000-000000000001", "weight": 2.0, "if_version": 7}
    async with client_of(server) as client:
        await send(client, "token.create", {"token_id": payload["token_id"]})
        refused = await send(client, "token.update", payload, id="c")
        assert ("error", "conflict", "c") == (
            refused["type"],
            refused["payload"]["code"],
            refused["payload"]["original_message_id"],
        )
        again = await send(client, "token.update", payload, id="c")
        assert without(refused, "id", "timestamp") == without(again, "id", "timestamp", "replayed")
        assert again["replayed"]


@pytest.mark.parametrize("query", ["", "?client_id=me"])
async def test_what_has_no_idempotency(server: Running, query: str) -> None:
    """Tries to be kept from an effect by an id that nobody can know to be a repeat, or by one that changed nothing."""
    async with client_of(server, query) as client:
        if not query:
            for _ in range(2):  # the server chose the name: whoever comes back has another
                assert "replayed" not in await send(client, "token.create", id="c")
        for _ in range(2):
            assert "replayed" not in await send(client, "token.create")
            assert "replayed" not in await send(client, "publish", {"topic": "chat", "type": "said"}, id="p")
            assert "replayed" not in await send(client, "token.list", {"limit": 1}, id="l")
        with_error = await send(client, "token.create", {"weight": "heavy"}, id="e")
        assert "invalid_payload" == with_error["payload"]["code"]
        assert "token.created" == (await send(client, "token.create", {"weight": 1.0}, id="e"))["type"]


async def test_in_one_breath(server: Running) -> None:
    """Tries to act twice by sending again before there is a reply, with other commands between, in order."""
    async with client_of(server) as client:
        for id_ in ("a", "b", "a", "c", "b", "a"):
            await client.command("token.create", {"type": id_}, id=id_)
        replies = [await client.message() for _ in range(6)]
        assert ["a", "b", "a", "c", "b", "a"] == [reply["reply_to"] for reply in replies]
        assert [False, False, True, False, True, True] == ["replayed" in reply for reply in replies]
        assert 3 == (await send(client, "token.list", {"total": True}))["payload"]["total"]
