"""A topic's events as an async iterator. Waits only by way of `ngos.client.loop`, as the client.

May import the rest of this package except `client` and the shells, and the protocol.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ngos.client.errors import RequestTimeout
from ngos.client.feed import Event, Feed, Position
from ngos.client.loop import Loop
from ngos.client.session import Session
from ngos.protocol.messages import Subscribed


class Subscription:
    """The events of one topic, in order: an async iterator, and an async context manager around it.

        async with client.subscribe("tokens") as events:   # subscribed here; `events.seq` is the position
            async for event in events: ...                 # unsubscribed at the block's end

        async for event in client.subscribe("tokens"): ... # subscribed at the first event's wait; unsubscribed by
                                                           # `aclose()`, or some time after the iterator is gone

    On a durable topic each event comes once and in order, over breaks of the connection and however slowly it is
    read: what does not fit into the buffer is fetched again from the server's log. On an ephemeral topic what was
    published during a break is missed (protocol.md section 4).

    Iterating never ends by itself. It raises, after the events that came before: GapError where the log no longer
    holds the next one, ConnectionLost when the client has ended, SlowSubscriber on an ephemeral topic (the consumer's
    fault; the other subscribers go on), and at the start what `Client.request` raises. A cancelled wait loses no
    event.
    """

    def __init__(
        self,
        loop: Loop,
        session: Session,
        request_s: float,
        topic: str | None,
        *,
        since: int | None = None,
        epoch: str | None = None,
        buffer_events: int,
        buffer_bytes: int,
    ) -> None:
        """Made by `Client.subscribe`."""
        self._loop = loop
        self._session = session
        self._request_s = request_s
        self._waiters = loop.lot()
        # The feed must not know this object, or an abandoned one could not be told from one in use.
        wake = self._waiters.unpark_all
        start = None if since is None else Position(epoch, since)
        self._feed = Feed(topic, limit_events=buffer_events, limit_bytes=buffer_bytes, wake=wake, start=start)
        self._attached = self._entered = False
        self._closed = False

    @property
    def topic(self) -> str | None:
        return self._feed.topic

    @property
    def seq(self) -> int | None:
        """The position: the last event that was handed out, or what the subscription started after.

        None before the start, and on ephemeral topics. With `epoch`, it is what another `subscribe` resumes since.
        """
        return None if self._feed.taken is None else self._feed.taken.seq

    @property
    def epoch(self) -> str | None:
        """The log that `seq` counts in."""
        return None if self._feed.taken is None else self._feed.taken.epoch

    @property
    def opening(self) -> Subscribed:
        """The server's first answer: `durable`, `epoch`, `seq`, `recovered`, `replay`. Raises RuntimeError before it.

        `seq` is where this subscription starts, and `replay` how many events of the past it gets.
        """
        if self._feed.opening is None:
            raise RuntimeError("not subscribed yet")
        return self._feed.opening

    async def __aenter__(self) -> Self:
        """Subscribe, and wait for the server's agreement. Raises as iterating does; cancelled, it is not subscribed."""
        await self._open()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._closed:
            raise StopAsyncIteration
        await self._loop.checkpoint()
        if not self._entered:
            await self._open()
        while (event := self._feed.take()) is None:
            await self._waiters.park()
            if self._closed:
                raise StopAsyncIteration
        return event

    def start(self) -> None:
        """Subscribe now, and wait for the server's agreement later, in `async with` or at the first event.

        What this client asks for after this comes after it. Raises ConnectionLost, and ValueError for a position that
        can't be one, the caller's fault.
        """
        if self._attached or self._closed:
            raise RuntimeError("a subscription can be started once")
        self._session.attach(self._feed)
        self._attached = True

    async def aclose(self) -> None:
        """Unsubscribe. Never waits: the command is on its way, and what this client sends later comes after it."""
        self.stop()

    def stop(self) -> None:
        """As `aclose`, from where one can't await."""
        if self._closed:
            return
        self._closed = True
        self._feed.clear()
        self._session.detach(self._feed)
        self._waiters.unpark_all()

    def __del__(self) -> None:
        # Perhaps outside of the loop, so only a mark. The session drops the feed when it next looks at the topic.
        if hasattr(self, "_feed"):  # else it was never made whole
            self._feed.abandoned = True

    async def _open(self) -> None:
        if self._entered or self._closed:
            raise RuntimeError("a subscription can be entered once")
        if not self._attached:
            self.start()
        self._entered = True
        try:
            await self._loop.checkpoint()
            if self._feed.topic is None:
                return
            await self._loop.within(self._request_s, self._decided)
            if self._feed.opening is None:
                if self._feed.ended is not None:
                    raise self._feed.ended.again()
                raise RequestTimeout("subscribe", self._request_s)
        except BaseException:
            await self.aclose()
            raise

    async def _decided(self) -> None:
        while self._feed.opening is None and self._feed.ended is None:
            await self._waiters.park()  # unparked by the feed
