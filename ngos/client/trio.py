"""The client for Trio programs: `connect(url)`, requests from many tasks at once, subscriptions as iterators.

    async with connect("ws://127.0.0.1:8000/ws", client_id="me") as client:
        async for event in client.subscribe("tokens"):
            ...

What the protocol means is in `ngos.client.session`, the sockets are in `ngos.client.connection`. May import this
package and the protocol.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import trio

from ngos.client.api import Api
from ngos.client.backoff import Backoff
from ngos.client.connection import Address, Line
from ngos.client.errors import ConnectionLost, RequestTimeout, SessionError
from ngos.client.requests import Outcome
from ngos.client.session import Session, State
from ngos.client.subscription import Subscription
from ngos.protocol.codec import Envelope
from ngos.protocol.commands import Command, Ping
from ngos.protocol.messages import ConnectionEstablished, Limits, Server

BUFFER_EVENTS: Final = 10_000
BUFFER_BYTES: Final = 4 * 1024 * 1024


@asynccontextmanager
async def connect(
    url: str,
    *,
    client_id: str | None = None,
    token: str | None = None,
    connect_s: float = 10.0,
    request_s: float = 30.0,
    reconnect: bool = True,
    backoff: Backoff | None = None,
) -> AsyncIterator[Client]:
    """Connect to a server, stay connected, and disconnect when the block ends.

    `url` as in ws://127.0.0.1:8000/ws; `client_id` names this client to others and makes its commands idempotent
    (protocol.md section 6; without it, one is made here); `token` goes into the `Authorization` header. `connect_s`
    is for all until `connection.established`, `request_s` for each command's reply, breaks included.

    When the connection breaks, the client waits as section 8 has it, `random(0, min(20 s, 0.5 s * 2^n))`, the first
    time too, and connects anew: subscriptions resume where they were, commands without a reply are sent again under
    their ids. `backoff` is for who wants other dice. With `reconnect=False` the first break is the end.

    Raises ConnectFailed, for the first connection alone. When there will be none any more (`Client.lost` says why: a
    close code or a refusal that forbids it), the block goes on: requests and subscriptions raise ConnectionLost. What
    the block raises leaves it as it is, not in an exception group. Cancelled, it still says goodbye to the server, for
    at most a second.
    """
    failure: Exception | None = None
    # Only an id that the client chose makes its commands idempotent (section 6), so one is chosen.
    client_id = f"client_{secrets.token_hex(8)}" if client_id is None else client_id
    address = Address(url, client_id, token, connect_s)
    async with trio.open_nursery() as nursery:
        client = Client(address, request_s, reconnect=reconnect, backoff=backoff)
        try:
            try:
                refused = await nursery.start(client.line.run)
                if refused is not None:
                    raise refused
                yield client
            finally:
                client.line.leave()
        except Exception as exc:
            failure = exc
    if failure is not None:
        raise failure


class Client(Api):
    """A client of a server; made by `connect`. Any number of tasks may use it at once.

    Commands are sent in the order of the calls, without waiting for the replies of earlier ones; at most
    `limits.in_flight` are on their way, the others wait in turn. Without a connection all wait for the next one.
    """

    def __init__(self, address: Address, request_s: float, *, reconnect: bool, backoff: Backoff | None) -> None:
        self._changed = trio.lowlevel.ParkingLot()
        self._session = Session(
            reconnect=reconnect,
            backoff=backoff,
            on_output=self._flush,
            on_state=self._changed.unpark_all,
        )
        self.line = Line(self._session, address)
        self._request_s = request_s

    @property
    def state(self) -> State:
        """Whether there is a connection: CONNECTED, RECONNECTING, or ENDED, which is for good."""
        return self._session.state

    async def changed(self) -> State:
        """Wait until `state` is another, and return it; at once when that can't be: ENDED is for good.

        Who looks seldom misses what passes in between.
        """
        await trio.lowlevel.checkpoint()
        if self.state is not State.ENDED:
            await self._changed.park()
        return self.state

    @property
    def connection_id(self) -> UUID:
        """The latest connection's."""
        return self.established.connection_id

    @property
    def client_id(self) -> str:
        """The one that was asked for, or made here."""
        return self.established.client_id

    @property
    def limits(self) -> Limits:
        """The latest connection's."""
        return self.established.limits

    @property
    def server(self) -> Server:
        """What served the latest connection."""
        return self.established.server

    @property
    def established(self) -> ConnectionEstablished:
        """The server's latest greeting, whole."""
        assert self._session.established is not None
        return self._session.established

    @property
    def lost(self) -> ConnectionLost | None:
        """Why there is no connection and will be none; None while there may be one again."""
        return self._session.ended

    async def request(
        self, command: Command | str, payload: Mapping[str, Any] | None = None, *, id: str | None = None
    ) -> Envelope:
        """Send a command, as a class or as type and payload, and return its reply's envelope.

        `id` names the command for idempotency (protocol.md section 6); without it a new one is made. When the
        connection breaks before the reply, it is sent again on the next, and still takes effect once; the envelope's
        `replayed` says that it had before. Except `publish` to an ephemeral topic, which leaves nothing to tell by:
        sent again, its event may come twice.

        Raises CommandError (the server answered `error`), ConnectionLost, RequestTimeout after `request_s`, and
        RequestTooBig, ValueError (the id is in use) or TypeError (not JSON), the caller's faults. Cancelled before
        the command was sent it is not sent; after that, it may take effect or not, and is not sent again.
        """
        if isinstance(command, Command) and payload is not None:
            raise TypeError("a Command carries its own payload")
        answer = _Answer()
        name = command if isinstance(command, str) else command.TYPE
        with trio.move_on_after(self._request_s):
            id_ = self._session.request(command, None if payload is None else dict(payload), answer.set, id_=id)
            try:
                return await answer.wait()
            finally:
                self._session.forget(id_)
        raise RequestTimeout(name, self._request_s)

    async def ping(self) -> float:
        """Return the seconds from here to the server's command handling and back, a break of the connection included.

        Raises as `request` does.
        """
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

        `since` and `epoch` start after that event of a durable topic. Where the log no longer holds all that follows,
        entering raises GapError; where they can't be a position, ValueError.

        At most `buffer_events` and `buffer_bytes` wait here for the consumer. Of a durable topic the server is asked
        for the rest again, when half of that is taken; on an ephemeral one the consumer gets SlowSubscriber.
        """
        return Subscription(
            self._session,
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
            self._request_s,
            None,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
        )

    def _flush(self) -> None:
        self.line.flush()


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
