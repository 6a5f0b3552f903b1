"""A real server for tests: real Postgres, a real socket, in this process's Trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import typed_settings as ts
from attrs import frozen

from ngos.app import App, open_app
from ngos.config import Settings
from ngos.daemon import listen, serve_http


@frozen
class Running:
    """A server that answers. `url` is its WebSocket, `http` its base address."""

    app: App
    url: str
    http: str


def settings_for(database_url: str, **overrides: Any) -> Settings:
    """Settings of a test server: any free port of the loopback, and short deadlines for what waits on nobody."""
    return Settings(**{"port": 0, "database_url": ts.SecretStr(database_url), "close_s": 0.5, **overrides})


@asynccontextmanager
async def running_server(database_url: str, **overrides: Any) -> AsyncIterator[Running]:
    """Start a server, and stop it without draining."""
    settings = settings_for(database_url, **overrides)
    stop = trio.Event()
    with listen(settings) as listener:
        async with open_app(settings) as app, trio.open_nursery() as nursery:
            await nursery.start(serve_http, app, listener, stop)
            port = listener.getsockname()[1]
            yield Running(app, f"ws://127.0.0.1:{port}/ws", f"http://127.0.0.1:{port}")
            nursery.cancel_scope.cancel()
