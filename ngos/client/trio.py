"""The client for Trio programs: `connect(url)`, requests from many tasks at once, subscriptions as iterators.

    async with connect("ws://127.0.0.1:8000/ws", client_id="me") as client:
        async for event in client.subscribe("tokens"):
            ...

What the protocol means is in `ngos.client.session`; the socket is opened in `ngos.client.socket`. May import this
package and the protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from ngos.client.api import Api
from ngos.client.errors import NO_GOODBYE, ConnectFailed, ConnectionLost, RequestTimeout, SessionError
from ngos.client.session import Outcome, Session
from ngos.client.socket import open_socket
from ngos.client.subscription import Subscription
from ngos.protocol import PROTOCOL_VERSION
from ngos.protocol.close import CloseCode
from ngos.protocol.codec import Envelope
from ngos.protocol.commands import Command, Ping
from ngos.protocol.messages import ConnectionEstablished, Limits, Server

CLOSE_S = 1.0
BUFFER_EVENTS = 10_000
BUFFER_BYTES = 4 * 1024 * 1024


@asynccontextmanager
async def connect(
    url: str,
    *,
    client_id: str | None = None,
    token: str | None = None,
    connect_s: float = 10.0,
    request_s: float = 30.0,
) -> AsyncIterator[Client]:
    """Connect to a server, and disconnect when the block ends.

    `url` as in ws://127.0.0.1:8000/ws; `client_id` names this client to others and makes its commands idempotent;
    `token` goes into the `Authorization` header. `connect_s` is for all until `connection.established`, `request_s`
    for each command's reply.

    Raises ConnectFailed. When the connection is lost later, the block goes on: requests and subscriptions raise
    ConnectionLost. What the block raises leaves it as it is, not in an exception group. Cancelled, it still says
    goodbye to the server, for at most `CLOSE_S` seconds.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            client: Client = await nursery.start(_hold, url, client_id, token, connect_s, request_s)
            try:
                yield client
            finally:
                client.leave()
        except Exception as exc:
            failure = exc
    if failure is not None:
        raise failure


class Client(Api):
    """A connection to a server; made by `connect`. Any number of tasks may use it at once.

    Commands are sent in the order of the calls, without waiting for the replies of earlier ones; at most
    `limits.in_flight` are unanswered, the others wait in turn.
    """

    def __init__(self, session: Session, established: ConnectionEstablished, request_s: float) -> None:
        self._session = session
        self._established = established
        self._request_s = request_s
        self._slots = trio.Semaphore(established.limits.in_flight)
        self._output = trio.Event()
        self._leaving = trio.Event()

    @property
    def connection_id(self) -> UUID:
        return self._established.connection_id

    @property
    def client_id(self) -> str:
        """The one that was asked for, or the server's choice."""
        return self._established.client_id

    @property
    def limits(self) -> Limits:
        return self._established.limits

    @property
    def server(self) -> Server:
        return self._established.server

    @property
    def established(self) -> ConnectionEstablished:
        """The server's greeting, whole."""
        return self._established

    @property
    def lost(self) -> ConnectionLost | None:
        """Why there is no connection any more."""
        return self._session.ended

    async def request(
        self, command: Command | str, payload: Mapping[str, Any] | None = None, *, id: str | None = None
    ) -> Envelope:
        """Send a command, as a class or as type and payload, and return its reply's envelope.

        `id` names the command for idempotency (protocol.md section 6); without it a new one is made.

        Raises CommandError (the server answered `error`), ConnectionLost, RequestTimeout after `request_s`, and
        RequestTooBig, ValueError (the id is in use) or TypeError (not JSON), the caller's faults. Cancelled before
        the command was sent it is not sent; after that, it may take effect or not.
        """
        if isinstance(command, Command) and payload is not None:
            raise TypeError("a Command carries its own payload")
        answer = _Answer()
        name = command if isinstance(command, str) else command.TYPE
        with trio.move_on_after(self._request_s):
            async with self._slots:
                id_ = self._session.request(command, None if payload is None else dict(payload), answer.set, id_=id)
                self.flush()
                try:
                    return await answer.wait()
                finally:
                    self._session.forget(id_)
        raise RequestTimeout(name, self._request_s)

    async def ping(self) -> float:
        """Return the seconds from here to the server's command handling and back. Raises as `request` does."""
        start_s = trio.current_time()
        await self.request(Ping())
        return trio.current_time() - start_s

    def subscribe(
        self,
        topic: str,
        *,
        since: int | None = None,
        epoch: str | None = None,
        buffer_events: int = BUFFER_EVENTS,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> Subscription:
        """Follow a topic. Nothing is sent until the result is entered or iterated: see Subscription.

        `since` and `epoch` start after that event, where the log still holds what follows (`recovered` says).
        When more than `buffer_events` or `buffer_bytes` wait for the consumer, it gets SlowSubscriber.
        """
        return Subscription(
            self._session,
            self.flush,
            self._request_s,
            topic,
            since=since,
            epoch=epoch,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
        )

    def broadcasts(self, *, buffer_events: int = BUFFER_EVENTS, buffer_bytes: int = BUFFER_BYTES) -> Subscription:
        """Follow what operators send to every connection (`POST /ws/broadcast`); it has no topic."""
        return Subscription(
            self._session,
            self.flush,
            self._request_s,
            None,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
        )

    # For _hold, and `flush` for subscriptions

    def flush(self) -> None:
        """Wake the writer: the session has output."""
        self._output.set()

    def leave(self) -> None:
        """End the connection, gently. The first reason counts: what was lost before stays lost."""
        self._session.end(ConnectionLost(CloseCode.NORMAL, "closed by this client"))
        self._leaving.set()

    async def write(self, socket: WebSocketConnection) -> None:
        """Send what the session has, for ever. One task alone: a cancelled send would leave half a frame behind."""
        while True:
            while (message := self._session.take_output()) is not None:
                try:
                    await socket.send_message(message)
                except ConnectionClosed:
                    return  # the reader says why
            self._output = trio.Event()
            await self._output.wait()

    async def read(self, socket: WebSocketConnection) -> None:
        """Feed the session until the connection ends."""
        try:
            while self._session.ended is None:
                self._session.receive(await socket.get_message())
                self.flush()
        except ConnectionClosed as exc:
            self._session.end(_lost(exc))
        if self._session.ended is not None and self._session.ended.code == CloseCode.PROTOCOL_ERROR:
            await socket.aclose(CloseCode.PROTOCOL_ERROR)  # nothing happens where it is closed already

    async def wait_leaving(self) -> None:
        await self._leaving.wait()


class _Answer:
    """What a command comes to, once."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._outcome: Outcome | None = None

    def set(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._event.set()

    async def wait(self) -> Envelope:
        await self._event.wait()
        assert self._outcome is not None
        if isinstance(self._outcome, SessionError):
            raise self._outcome.again()
        return self._outcome


async def _hold(  # noqa: ASYNC114 - it is not a context manager's
    url: str,
    client_id: str | None,
    token: str | None,
    connect_s: float,
    request_s: float,
    *,
    task_status: trio.TaskStatus[Client],
) -> None:
    """Own the socket: open it, greet, then read and write until the client leaves, and say goodbye."""
    failure: ConnectFailed | None = None
    async with AsyncExitStack() as closing, trio.open_nursery() as nursery:
        try:
            with trio.fail_after(connect_s):
                socket = await open_socket(nursery, closing, url, client_id, token)
                session = Session()
                session.receive(await socket.get_message())
        except ConnectFailed as exc:
            failure = exc
        except ConnectionClosed as exc:
            failure = ConnectFailed(url, f"closed before the greeting: {_lost(exc)}")
        except trio.TooSlowError:
            failure = ConnectFailed(url, f"no answer within {connect_s:g} s")
        else:
            established = session.established
            if established is None:
                failure = ConnectFailed(url, str(session.ended))
            elif established.server.protocol != PROTOCOL_VERSION:
                spoken = established.server.protocol
                failure = ConnectFailed(url, f"the server speaks protocol {spoken}, this client {PROTOCOL_VERSION}")
            else:
                # From here the end is `leave`, which `connect` always calls, and not cancellation: the goodbye
                # needs the reader alive.
                client = Client(session, established, request_s)
                await trio.lowlevel.checkpoint_if_cancelled()  # else `started` would quietly not hand it over
                task_status.started(client)
                nursery.cancel_scope.shield = True
                nursery.start_soon(client.write, socket)
                nursery.start_soon(client.read, socket)
                await client.wait_leaving()
                with trio.move_on_after(CLOSE_S):
                    await socket.aclose()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _lost(exc: ConnectionClosed) -> ConnectionLost:
    if exc.reason is None:
        return ConnectionLost(NO_GOODBYE, "")
    return ConnectionLost(int(exc.reason.code), exc.reason.reason or "")
