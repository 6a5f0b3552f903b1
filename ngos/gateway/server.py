"""Hypercorn's server of one connection, contained: what fails in one ends that one, and nothing else.

In Hypercorn 0.18 an exception in the handling of a connection goes through its nurseries and ends them all, and peers
can cause some: an illegal chunk after the answer has begun, `Upgrade: h2c` with settings that are not base64, frames
that don't wait for the upgrade. tests/web/test_impatient.py has them.

And when an app has left its WebSocket to a successor (see `frames`), it is run here, where nothing of HTTP is left.
HTTP/2 is not spoken: nobody needs it here, and a stream that is opened and reset costs the peer nothing and us a task
(CVE-2023-44487; 40 µs each, and no limit meets it before it was spent).
A connection that is idle too long, or a request that does not end, is ended by a deadline, where Hypercorn starts a
task for each and cancels it at the first request (a tenth of what a connection costs). `read_timeout` has no effect.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Iterator
from math import inf
from typing import Any, Final, Protocol

import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.protocol import h11 as hypercorn_h11
from hypercorn.trio.tcp_server import TCPServer

REQUEST_S: Final = 30.0
"""What a request over HTTP may take, from the end of its headers to the last byte of its answer."""
CLOSE_S: Final = 1.0
"""What the goodbye of TLS may take."""

READ_BYTES: Final = 4 * 1024
"""What is read at once: by so much the headers of a request may be longer than the limit, which h11 looks at then."""
_TOO_LONG: Final = b"HTTP/1.1 431 "

_log = structlog.get_logger("ngos")


class _Deadline:
    """In the place of Hypercorn's task that waits while a connection is idle; has that one's methods.

    That one also closes what is idle when the server ends; here it is cut with all others, `graceful_timeout` later.
    And that one lets a request take as long as it likes, in which case a peer that never ends it stays for ever.
    """

    def __init__(self, idle_s: float, request_s: float) -> None:
        self.idle_s = idle_s
        self.request_s = request_s
        self.scope = trio.CancelScope()
        self.is_first = True  # no request has begun yet

    async def restart(self, _task_group: object, _action: object) -> None:
        """The connection is idle."""
        self.scope.deadline = trio.current_time() + self.idle_s

    async def stop(self) -> None:
        """A request has begun."""
        self.is_first = False
        self.scope.deadline = trio.current_time() + self.request_s


class Door(Protocol):
    """Who is let in, by address; what is not `async` is not waited for."""

    def enter(self, address: str) -> int:
        """Let a connection in: 0, to be followed by `leave`; else the status to turn it away with, 429 or 503."""

    def leave(self, address: str) -> None: ...

    def rejected(self, status: int) -> None:
        """A WebSocket was refused with this status."""

    def timed_out(self) -> None:
        """The first request of a connection did not come in time."""

    def too_long(self) -> None:
        """The headers of a request were too long."""


class ServerConfig(Config):
    """Hypercorn's, and who is let in; None: everybody."""

    door: Door | None = None


class Server(TCPServer):
    """Hypercorn's server of one connection."""

    request_s = REQUEST_S
    successor: Callable[[], Awaitable[None]] | None = None
    idle_task: _Deadline  # type: ignore[assignment]

    def __init__(self, app: Any, config: Any, *args: Any) -> None:
        super().__init__(app, config, *args)
        self.door: Door | None = getattr(config, "door", None)
        self.idle_task = _Deadline(config.keep_alive_timeout, self.request_s)

    def set_no_deadline(self) -> None:
        """What is served here is no request any more that has to end."""
        self.idle_task.scope.deadline = inf

    async def run(self) -> None:
        """Serve the connection until it ends, in whichever way; of exceptions it raises only Cancelled."""
        try:
            with self.idle_task.scope as scope:
                await super().run()
            if self.door is not None and self.idle_task.is_first and trio.current_time() >= scope.deadline:
                self.door.timed_out()
            if self.successor is not None:
                # Without cycles: what has lived for a while waits for a full collection, which is rare (`ngos.daemon`).
                self.protocol.protocol.stream = None  # type: ignore[union-attr]
                del self.protocol
                successor, self.successor = self.successor, None
                await successor()
        except* Exception as group:
            # A line and no traceback: the peer decides how often this happens.
            for exc in _leaves(group):
                last = traceback.extract_tb(exc.__traceback__)[-1]
                where = f"{last.filename}:{last.lineno}"
                _log.warning("http.connection_failed", reason=repr(exc)[:200], where=where)

    async def _read_data(self) -> None:
        """Hypercorn's loop, up to where an app has left the connection to a successor."""
        data = b" "
        while data:
            try:
                data = bytes(await self.stream.receive_some(READ_BYTES))
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            await self.protocol.handle(RawData(data))
            if self.successor is not None:
                return
        await self.protocol.handle(Closed())

    async def protocol_send(self, event: Any) -> None:
        """Send for HTTP. Hypercorn shields it, and so waits for a peer that does not read, cancelled or not."""
        if self.door is not None and isinstance(event, RawData) and event.data.startswith(_TOO_LONG):
            self.door.too_long()
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        try:
            async with self.send_lock:
                await self.stream.send_all(event.data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.protocol.handle(Closed())
            self.idle_task.scope.cancel()  # Hypercorn's reader may wait for this very answer to end

    async def _close(self) -> None:
        # Of a successor's socket, trio.serve_listeners closes what is left at the end.
        if self.successor is None:
            # It is the app's task that has said the last word, and its framework cancels that then; unshielded, who
            # asked for `Connection: close` would wait for the end until `request_s` is over.
            with trio.move_on_after(CLOSE_S, shield=True):
                await super()._close()


async def _stay(_protocol: object, _request: object) -> None:
    """In the place of what goes over to HTTP/2 where a request asks for it: this stays HTTP/1.1."""


def install(*, request_s: float = REQUEST_S) -> None:
    """Set what a request over HTTP may take, and have Hypercorn stay with HTTP/1.1, in this process."""
    Server.request_s = request_s
    hypercorn_h11.H11Protocol._check_protocol = _stay  # type: ignore[assignment, method-assign]  # noqa: SLF001


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc
