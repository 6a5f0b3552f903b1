"""A way to a Postgres that can be closed: for a database that is not there, and comes back."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import trio
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict, make_conninfo


@define
class Way:
    """Leads from a Unix socket of its own to the Postgres of `conninfo`; `url` is the conninfo by this way."""

    conninfo: str
    _folder: Path
    _scope: trio.CancelScope | None = field(init=False, default=None)

    @property
    def url(self) -> str:
        fields = {k: v for k, v in conninfo_to_dict(self.conninfo).items() if k != "hostaddr"}
        return make_conninfo(**{**fields, "host": str(self._folder), "port": "5432"})

    async def open(self, nursery: trio.Nursery) -> None:
        """Let connections by, from here on."""
        await nursery.start(self._run)

    def close(self) -> None:
        """Cut those that are open, and let no more by."""
        assert self._scope is not None
        self._scope.cancel()

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114 - started here only
        path = self._folder / ".s.PGSQL.5432"
        with trio.CancelScope() as self._scope:
            plain = socket.socket(socket.AF_UNIX)
            plain.bind(f"{path}.new")
            plain.listen(64)
            Path(f"{path}.new").rename(path)  # who finds it is let in
            try:
                task_status.started()
                await trio.serve_listeners(self._forward, [trio.SocketListener(trio.socket.from_stdlib_socket(plain))])
            finally:
                path.unlink()

    async def _forward(self, client: trio.SocketStream) -> None:
        info = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        host, port = str(info.get("host", "127.0.0.1")), str(info.get("port", "5432"))
        async with client:
            if host.startswith("/"):
                server: trio.SocketStream = await trio.open_unix_socket(str(Path(host) / f".s.PGSQL.{port}"))
            else:
                server = await trio.open_tcp_stream(host, int(port))
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(_pump, client, server, nursery.cancel_scope.cancel)
                nursery.start_soon(_pump, server, client, nursery.cancel_scope.cancel)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, at_end: Callable[[], None]) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass  # it has left
    at_end()
