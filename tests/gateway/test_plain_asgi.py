"""The same connection code without our frames, as on HTTP/2 or another server."""

from __future__ import annotations

import pytest
import trio
from hypercorn.protocol import h11
from hypercorn.protocol.ws_stream import WSStream

from ngos.client.errors import ConnectionLost
from ngos.client.trio import connect
from ngos.gateway import frames
from tests.servers import running_server


async def test_plain_asgi_does_the_same(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to find a difference that a client could see."""
    monkeypatch.setattr(frames, "install", lambda *, deflate: None)
    monkeypatch.setattr(h11, "WSStream", WSStream)
    async with (
        running_server(database_url) as server,
        connect(server.url, reconnect=False) as client,
        client.subscribe("tokens") as events,
    ):
        for number in range(100):
            await client.create_token(type=f"t{number}")
        assert list(range(1, 101)) == [(await anext(aiter(events))).seq for _ in range(100)]
        with trio.fail_after(5):
            await server.app.connections.drain(10)
            with pytest.raises(ConnectionLost) as lost:
                await client.ping()
        assert 1012 == lost.value.code
