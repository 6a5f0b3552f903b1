"""The listener: who is let in gets a task and HTTP; whom the door turns away is told so, or cut, without much ado.

In the place of Hypercorn's own, which accepts one connection in each turn of the event loop: while one address knocked
350 times a second, others waited for 4.5 s to come in. The rest is as in `hypercorn.trio.run.worker_serve`, but for
what is not used here: TLS, QUIC, several sockets.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import trio
from attrs import define, field
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from ngos.gateway.server import READ_BYTES, Door, Server, ServerConfig

ACCEPTS: Final = 64
"""Connections that are accepted in one turn."""
TURN_AWAY_S: Final = 1.0
"""What it may take to tell somebody that there is no room."""
TURNED_AWAY: Final = 64
"""Those who are told so at once; others are cut."""
NO_ROOM_S: Final = 0.1
"""How long no connection is accepted when the process, or the machine, can't open one more file."""

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE: Final = frozenset(
    {
        *(errno.ECONNABORTED, errno.ECONNRESET, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ETIMEDOUT),
    }
)
"""What accept(2) tells of a connection that is over, or that a firewall did not let by: of that one, not of us."""
_AWAY: Final = {
    status: b"HTTP/1.1 %b\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % line
    for status, line in ((429, b"429 Too Many Requests"), (503, b"503 Service Unavailable"))
}

_log = structlog.get_logger("ngos")


async def serve(
    app: Any,
    config: ServerConfig,
    listener: socket.socket,
    stopped: Callable[[], Awaitable[object]],
    accepting: trio.CancelScope | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI app on a socket that listens and does not block, until `stopped` returns or we are cancelled.

    Then requests that are under way have `config.graceful_timeout` to end. The socket stays its owner's: with
    `accepting` cancelled, who comes waits in it, while who is there is served on.
    """
    state: Any = {}
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    lifespan = Lifespan(wrapped, config, state)
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        context = WorkerContext(None)

        async def serve_http(stream: trio.SocketStream) -> None:
            await Server(wrapped, config, context, ConnectionState(state.copy()), stream).run()

        accept_scope = accepting or trio.CancelScope()

        async def accept() -> None:
            with accept_scope:
                await _Listener(listener, config.door, serve_http, nursery).run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            task_status.started()
            await stopped()
            accept_scope.cancel()
            await context.terminated.set()
            nursery.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


@define(eq=False)
class _Listener:
    _socket: socket.socket
    _door: Door | None
    _serve: Callable[[trio.SocketStream], Awaitable[None]]
    _nursery: trio.Nursery
    _turning_away: int = field(init=False, default=0)

    async def run(self) -> None:
        """Accept until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                for _ in range(ACCEPTS):
                    self._accept()
            except BlockingIOError:
                pass  # that were all
            except OSError as exc:
                if exc.errno not in _NO_ROOM:
                    raise
                _log.warning("listener.no_room", reason=exc.strerror)
                await trio.sleep(NO_ROOM_S)

    def _accept(self) -> None:
        try:
            peer, name = self._socket.accept()
        except OSError as exc:
            if exc.errno in _GONE:
                return
            raise
        address = str(name[0]) if isinstance(name, tuple) else ""
        status = self._door.enter(address) if self._door is not None else 0
        if status and self._door is not None:
            self._door.rejected(status)
        if not status:
            self._nursery.start_soon(self._let_in, peer, address)
        elif self._turning_away < TURNED_AWAY:
            self._turning_away += 1
            self._nursery.start_soon(self._turn_away, peer, status)
        else:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

    async def _let_in(self, peer: socket.socket, address: str) -> None:
        try:
            with trio.socket.from_stdlib_socket(peer) as ours:
                await self._serve(trio.SocketStream(ours))
        finally:
            if self._door is not None:
                self._door.leave(address)

    async def _turn_away(self, peer: socket.socket, status: int) -> None:
        try:
            with trio.socket.from_stdlib_socket(peer) as ours, trio.move_on_after(TURN_AWAY_S):
                stream = trio.SocketStream(ours)
                await stream.receive_some(READ_BYTES)  # closed unread, TCP would reset our answer
                await stream.send_all(_AWAY[status])
                await stream.send_eof()
        except trio.BrokenResourceError:
            pass  # it did not wait for it
        finally:
            self._turning_away -= 1
