"""A real server for tests: real Postgres, a real socket, in this process's Trio."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest
import trio
import typed_settings as ts
from attrs import frozen

from ngos.app import App, open_app
from ngos.config import Settings
from ngos.daemon import serve_http
from ngos.gateway.frames import EXTENSION
from ngos.listening import listen
from tests.databases import TestServer

TRANSPORTS = ("frames", "plain-asgi")
"""The ways to a client: by our frames' extension of ASGI, and without it, as on another server."""

only_frames = pytest.mark.parametrize("server", ["frames"], indirect=True)
"""For a test of what plain ASGI has no word for, or that looks into the frames."""


@frozen
class Running:
    """A server that answers. `url` is its WebSocket, `http` its base address."""

    app: App
    url: str
    http: str


def settings_for(database_url: str, **overrides: Any) -> Settings:
    """Settings of a test server: any free port of the loopback, and short deadlines for what waits on nobody.

    And room for as many arrivals as a module's tests like to make; those of the limits set their own.
    """
    own = {"port": 0, "database_url": ts.SecretStr(database_url), "close_s": 0.5, "arrivals_at_once": 1_000_000}
    return Settings(**{**own, **overrides})


@asynccontextmanager
async def running_server(database_url: str, *, transport: str = "frames", **overrides: Any) -> AsyncIterator[Running]:
    """Start a server, and stop it without draining."""
    settings = settings_for(database_url, **overrides)
    stop = trio.Event()
    with listen(settings) as listener:
        async with open_app(settings) as app, trio.open_nursery() as nursery:
            served = app if transport == "frames" else attrs.evolve(app, site=_without_extension(app.site))
            await nursery.start(serve_http, served, listener, stop)
            await app.readiness.prepared.wait()
            port = listener.getsockname()[1]
            yield Running(app, f"ws://127.0.0.1:{port}/ws", f"http://127.0.0.1:{port}")
            nursery.cancel_scope.cancel()


@contextmanager
def shared_server(postgres_server: TestServer, **overrides: Any) -> Iterator[Running]:
    """A server in a thread of its own, for many tests: only its addresses may be used."""
    conninfo = postgres_server.create_database()
    started: queue.SimpleQueue[tuple[Running, trio.lowlevel.TrioToken, trio.CancelScope]] = queue.SimpleQueue()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with running_server(conninfo, **overrides) as running:
                started.put((running, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,), name="shared-server")
    thread.start()
    running, token, scope = started.get(timeout=30)
    yield running
    token.run_sync_soon(scope.cancel)
    thread.join(10)
    postgres_server.drop_database(conninfo)


def _without_extension(site: Any) -> Any:
    """The app as a server sees it that offers it nothing but ASGI."""

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        extensions = {name: value for name, value in (scope.get("extensions") or {}).items() if name != EXTENSION}
        await site({**scope, "extensions": extensions}, receive, send)

    return plain
