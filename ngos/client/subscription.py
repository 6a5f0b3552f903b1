"""A topic's events as an async iterator, for Trio. May import the rest of this package except `trio`."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import trio

from ngos.client.errors import RequestTimeout
from ngos.client.feed import Event, Feed
from ngos.client.session import Session
from ngos.protocol.messages import Subscribed


class Subscription:
    """The events of one topic, in order: an async iterator, and an async context manager around it.

        async with client.subscribe("tokens") as events:   # subscribed here; `events.seq` is the position
            async for event in events: ...                 # unsubscribed at the block's end

        async for event in client.subscribe("tokens"): ... # subscribed at the first event's wait; unsubscribed by
                                                           # `aclose()`, or some time after the iterator is gone

    Iterating never ends by itself. It raises, after the events that came before: ConnectionLost, SlowSubscriber
    (the consumer's fault; the other subscribers go on), and at the start what `Client.request` raises, or
    AlreadySubscribed. A cancelled wait loses no event.
    """

    def __init__(
        self,
        session: Session,
        flush: Callable[[], None],
        request_s: float,
        topic: str | None,
        *,
        since: int | None = None,
        epoch: str | None = None,
        buffer_events: int,
        buffer_bytes: int,
    ) -> None:
        """Made by `Client.subscribe`. `flush` is called when the session has something to send."""
        self._session = session
        self._flush = flush
        self._request_s = request_s
        self._since = since
        self._epoch = epoch
        self._waiters = trio.lowlevel.ParkingLot()
        # The feed must not know this object, or an abandoned one could not be told from one in use.
        wake = self._waiters.unpark_all
        self._feed = Feed(topic, limit_events=buffer_events, limit_bytes=buffer_bytes, wake=wake)
        self._attached = False
        self._closed = False

    @property
    def topic(self) -> str | None:
        return self._feed.topic

    @property
    def seq(self) -> int | None:
        """The position: the last event that was handed out, or what the subscription started after."""
        return self._feed.seq

    @property
    def opening(self) -> Subscribed:
        """The server's answer: `durable`, `epoch`, `seq`, `recovered`, `replay`. Raises RuntimeError before it."""
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
        await trio.lowlevel.checkpoint()
        if not self._attached:
            await self._open()
        while (event := self._feed.take()) is None:
            await self._waiters.park()
            if self._closed:
                raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Unsubscribe. Never waits: the command is on its way, and what this client sends later comes after it."""
        if self._closed:
            return
        self._closed = True
        self._feed.clear()
        self._session.detach(self._feed)
        self._flush()
        self._waiters.unpark_all()

    def __del__(self) -> None:
        # Perhaps outside of Trio, so only a mark. The session drops the feed at the topic's next event.
        self._feed.abandoned = True

    async def _open(self) -> None:
        if self._attached or self._closed:
            raise RuntimeError("a subscription can be entered once")
        self._session.attach(self._feed, since=self._since, epoch=self._epoch)
        self._attached = True
        self._flush()
        try:
            await trio.lowlevel.checkpoint()
            if self._feed.topic is None:
                return
            with trio.move_on_after(self._request_s):
                while self._feed.opening is None and self._feed.ended is None:
                    await self._waiters.park()  # unparked by the feed
            if self._feed.opening is None:
                if self._feed.ended is not None:
                    raise self._feed.ended.again()
                raise RequestTimeout("subscribe", self._request_s)
        except BaseException:
            await self.aclose()
            raise
