"""The client that `connect` of each shell gives: requests from many tasks at once, subscriptions as iterators.

Waits only by way of `ngos.client.loop`, so it is the same on every event loop. May import the rest of this package
except the shells, and the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from ngos.client.api import Api
from ngos.client.errors import ConnectionLost, RequestTimeout, SessionError
from ngos.client.loop import Loop, Lot
from ngos.client.requests import Outcome
from ngos.client.session import Session, State
from ngos.client.subscription import Subscription
from ngos.protocol.codec import Envelope
from ngos.protocol.commands import Command, Ping
from ngos.protocol.messages import ConnectionEstablished, Limits, Server

BUFFER_EVENTS: Final = 10_000
BUFFER_BYTES: Final = 4 * 1024 * 1024


class Client(Api):
    """A client of a server; made by `connect`. Any number of tasks may use it at once.

    Commands are sent in the order of the calls, without waiting for the replies of earlier ones; at most
    `limits.in_flight` are on their way, the others wait in turn. Without a connection all wait for the next one.
    """

    def __init__(self, loop: Loop, session: Session, changed: Lot, request_s: float) -> None:
        """`changed` is where the session's `on_state` wakes those who wait."""
        self._loop = loop
        self._session = session
        self._changed = changed
        self._request_s = request_s

    @property
    def state(self) -> State:
        """Whether there is a connection: CONNECTED, RECONNECTING, or ENDED, which is for good."""
        return self._session.state

    async def changed(self) -> State:
        """Wait until `state` is another, and return it; at once when that can't be: ENDED is for good.

        Who looks seldom misses what passes in between; Callbacks don't.
        """
        was = self.state
        await self._loop.checkpoint()
        if self.state is was is not State.ENDED:  # else it is another already: nobody would tell of that again
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
        RequestTooBig, QueueFull, ValueError (the id is in use, or none) or TypeError (not JSON, or a boolean for a
        number), the caller's faults. Cancelled before the command was sent it is not sent; after that, it may take
        effect or not, and is not sent again.
        """
        return await self.queue(command, payload, id=id).reply()

    def queue(
        self, command: Command | str, payload: Mapping[str, Any] | None = None, *, id: str | None = None
    ) -> Pending:
        """Do what `request` does before it waits: what is queued, or asked for, after this comes after it.

        The result's `reply` is to be awaited, once. Raises ConnectionLost, RequestTooBig, QueueFull, ValueError or
        TypeError, as `request` does.
        """
        if isinstance(command, Command) and payload is not None:
            raise TypeError("a Command carries its own payload")
        name = command if isinstance(command, str) else command.TYPE
        pending = Pending(self._loop, self._session, name, self._request_s)
        pending.id = self._session.request(command, None if payload is None else dict(payload), pending.set, id_=id)
        return pending

    async def ping(self) -> float:
        """Return the seconds from here to the server's command handling and back, a break of the connection included.

        Raises as `request` does.
        """
        start_s = self._loop.now_s()
        await self.request(Ping())
        return self._loop.now_s() - start_s

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
        entering raises GapError; where they can't be a position, ValueError. As this does where a buffer is negative.

        At most `buffer_events` and `buffer_bytes` wait here for the consumer. Of a durable topic the server is asked
        for the rest again, when half of that is taken; on an ephemeral one the consumer gets SlowSubscriber.
        """
        return Subscription(
            self._loop,
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
            self._loop,
            self._session,
            self._request_s,
            None,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
        )


class Pending:
    """A command that is queued, or on its way; made by `Client.queue`."""

    def __init__(self, loop: Loop, session: Session, name: str, request_s: float) -> None:
        self.id = ""
        """The command's."""
        self._loop = loop
        self._session = session
        self._name = name
        self._request_s = request_s
        self._lot = loop.lot()
        self._outcome: Outcome | None = None

    def set(self, outcome: Outcome) -> None:
        """What the command has come to; the session says it."""
        self._outcome = outcome
        self._lot.unpark_all()

    @property
    def is_done(self) -> bool:
        """Whether the reply has come, or the reason why none will."""
        return self._outcome is not None

    async def reply(self) -> Envelope:
        """Wait for the reply, from here on for at most `request_s`; raises, and may be cancelled, as `request`."""
        try:
            await self._loop.within(self._request_s, self._wait)
        finally:
            self._session.forget(self.id)
        if self._outcome is None:
            raise RequestTimeout(self._name, self._request_s)
        if isinstance(self._outcome, SessionError):
            raise self._outcome.again()
        return self._outcome

    async def _wait(self) -> None:
        while self._outcome is None:
            await self._lot.park()
