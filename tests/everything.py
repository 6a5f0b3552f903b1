"""A server that has met all that its metrics tell of, and what it showed before and after that."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import trio
from attrs import define

from ngos.client.errors import CommandError
from ngos.client.trio import connect
from tests.servers import Running, running_server
from tests.tokens import Mint
from tests.web.wire import TEXT, frame, knock, raw_socket, request

ODD = "odd-NAME-made-by-a-client"
"""Is in every name that a client may choose."""
SETTINGS = {
    "subscriptions": 4,
    "custom_topics": 4,
    "mailbox_bytes": 256 * 1024,
    "durable_topics": ("odd-*",),
    "status_interval_s": 0.1,
    "commands_per_s": 200.0,
    "burst_s": 1.0,
    "bytes_per_s": 1e9,
    "subject_bytes_per_s": 1e9,
    "subject_commands_per_s": 1e6,
}


@define
class Met:
    """Two scrapes of `/metrics` of one server, and the server."""

    server: Running
    mint: Mint
    before: str
    after: str

    async def scrape(self) -> str:
        return await _scrape(self.server, self.mint)


@asynccontextmanager
async def server_that_met_everything(database_url: str, folder: Path) -> AsyncIterator[Met]:
    """Start a server that asks for tokens, and have it meet everything."""
    mint = Mint(folder)
    async with running_server(database_url, **SETTINGS, **mint.settings) as server:
        before = await _scrape(server, mint)
        await _every_command(server, mint)
        await _every_fault(server, mint)
        await _resumes_and_replays(server, mint)
        await _reads_too_slowly(server, mint)
        await _is_turned_away(server)
        while server.app.connections.open:  # noqa: ASYNC110 - nobody could set an Event
            await trio.sleep(0.01)
        yield Met(server, mint, before, await _scrape(server, mint))


async def _scrape(server: Running, mint: Mint) -> str:
    answer = await request(server.http, "GET", "/metrics", headers=mint.bearer())
    assert 200 == answer.status
    return answer.body.decode()


async def _every_command(server: Running, mint: Mint) -> None:
    async with connect(server.url, token=mint.token(ODD), client_id=ODD) as client:
        await client.authenticate(mint.token(ODD))
        async with client.subscribe("tokens") as events, client.subscribe("system") as status:
            first = await client.create_token(type=ODD, metadata={ODD: ODD})
            await anext(aiter(events))
            await anext(aiter(status))
        second = await client.create_token()
        await client.ping()
        await client.get_token(first.token_id)
        await client.list_tokens()
        await client.update_token(first.token_id, weight=2.0)
        await client.connect_tokens(first.token_id, second.token_id, type=ODD)
        await client.neighbors(first.token_id)
        await client.degree(first.token_id)
        await client.path(first.token_id, second.token_id)
        await client.disconnect_tokens(source_id=first.token_id, target_id=second.token_id)
        await client.delete_token(first.token_id)
        await client.record_experience(ODD)
        await client.list_experiences()
        await client.publish(f"odd-{ODD}", ODD, {ODD: ODD})
        await client.publish(f"other-{ODD}", ODD)
    body = {"type": ODD, "payload": {}}
    answer = await request(server.http, "POST", f"/ws/publish/{ODD}", body=body, headers=mint.bearer(ODD))
    assert 200 == answer.status


async def _every_fault(server: Running, mint: Mint) -> None:
    async with connect(server.url, token=mint.token(ODD)) as client:
        token = await client.create_token()
        with pytest.raises(CommandError):
            await client.update_token(token.token_id, weight=1.0, if_version=99)
        with pytest.raises(CommandError):
            await client.publish("tokens", ODD)
    async with raw_socket(server.http) as stranger:
        await stranger.command("ping")
        await stranger.command("authenticate", {"token": ODD})
        assert ["unauthenticated"] * 2 == [(await stranger.message())["payload"].get("code") for _ in range(3)][1:]
    async with raw_socket(server.http, f"/ws?client_id={ODD}", mint.bearer(ODD)) as client:
        await client.message()
        sent = [
            ODD,
            json.dumps({"type": 1}),
            json.dumps({"type": ODD}),
            json.dumps({"type": "ping", "payload": {ODD: 1}}),
        ]
        for text in sent:
            await client.text(text)
        for number in range(5):
            await client.command("subscribe", {"topic": f"{ODD}{number}"})
        codes = [(await client.message())["payload"].get("code") for _ in range(9)]
        expected = ["invalid_json", "invalid_message", "unknown_type", "invalid_payload", *[None] * 4]
        assert [*expected, "too_many_subscriptions"] == codes
        most = round(server.app.settings.commands_per_s * server.app.settings.burst_s)
        await client.stream.send_all(frame(TEXT, b'{"type":"ping"}') * (3 * most))
        while (await client.message())["payload"].get("code") != "rate_limited":
            pass


async def _resumes_and_replays(server: Running, mint: Mint) -> None:
    async with raw_socket(server.http, headers=mint.bearer(ODD)) as client:
        await client.message()
        for since in (0, 10**6):
            await client.command("subscribe", {"topic": "tokens", "since": since})
        created = str(uuid4())
        for _ in range(2):
            await client.command("token.create", {"token_id": created}, id=ODD)
        replies = []
        while len(replies) < 4:
            message = await client.message()
            if "topic" not in message:
                replies.append(message)
        assert [True, False] == [reply["payload"]["recovered"] for reply in replies[:2]]
        assert replies[3]["replayed"]


async def _reads_too_slowly(server: Running, mint: Mint) -> None:
    event = {"type": "publish", "payload": {"topic": "x", "type": ODD, "payload": {"a": "y" * 30000}}}
    async with (
        raw_socket(server.http, headers=mint.bearer("slow")) as slow,
        raw_socket(server.http, headers=mint.bearer("quick")) as publisher,
    ):
        await slow.message()
        await publisher.message()
        slow.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
        await slow.command("subscribe", {"topic": "x"})
        await slow.message()
        for _ in range(1000):  # what the kernels keep is some MB
            await publisher.text(json.dumps(event))
            await publisher.message()
            if server.app.connections.backlog.slow:
                return
    raise AssertionError("who never reads was not ended")


async def _is_turned_away(server: Running) -> None:
    statuses = [
        (await knock(server.http, headers={"Authorization": f"Bearer {ODD}"})).status,
        (await knock(server.http, target=f"/ws?client_id=%00{ODD}")).status,
        (await knock(server.http, target=f"/{ODD}")).status,
        (await request(server.http, "GET", "/ws")).status,
    ]
    assert [401, 400, 404, 426] == statuses
