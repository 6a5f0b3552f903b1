"""Fan-out of events to the subscribers of this node. Never awaits a client.

One bounded channel and one task per topic that has subscribers: Trio's channels are queues and don't broadcast, so
the task drains the channel and hands the same bytes to every mailbox (design.md, "Memory channels don't broadcast").
"""

from __future__ import annotations

import contextvars
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import trio
from attrs import define, field

from ngos.config import MIB
from ngos.distribution import FAST_S, Distribution
from ngos.errors import StorageUnavailable
from ngos.log.store import Extent, LoggedEvent
from ngos.log.topic import Batch, Subscriber, Topic
from ngos.protocol import codec
from ngos.protocol.catalog import label_of
from ngos.protocol.parcel import Parcel
from ngos.protocol.values import Position

CHANNEL_BATCHES: Final = 64
"""Batches that wait for a topic's task. A batch is at most `queue.BATCH_BYTES` and what its commands cascade to."""
ROUND_BYTES: Final = 128 * 1024
"""What one round hands to each mailbox, far under what makes a client slow: writers get a turn between rounds."""
TAIL_BYTES: Final = MIB
"""The latest events of a durable topic that stay in memory, at most."""
TAILS_BYTES: Final = 16 * MIB
"""What the topics share for that; those that were quiet for longest go without."""
TURN: Final = 256
"""Subscribers that are served before other tasks get a turn, with what is short."""
TURN_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes, with what is long: about 2 ms."""


Deliver = Callable[[Iterable[Any], Parcel], None]
"""Gives a parcel to each of some subscribers, by `offer_events` or by a shorter way that it knows; never blocks."""


def offer_to_each(subscribers: Iterable[Subscriber], parcel: Parcel) -> None:
    """The plain way."""
    for subscriber in subscribers:
        subscriber.offer_events(parcel)


class ExtentReader(Protocol):
    """Reads what the log holds of a durable topic; raises StorageUnavailable."""

    async def __call__(self, topic: str) -> Extent: ...


@define(eq=False)
class Hub:
    """See the module. What is not `async` is atomic: no other task runs in between.

    `lag_s`: from the commit to when every subscriber's socket, or mailbox, had the events, by batch and topic.
    """

    _read_extent: ExtentReader
    _deliver: Deliver = offer_to_each
    lag_s: Distribution = field(init=False, factory=lambda: Distribution(FAST_S))
    ephemeral_of: Counter[str] = field(init=False, factory=Counter)
    ephemeral_dropped: int = field(init=False, default=0)
    deliveries: int = field(init=False, default=0)
    events: int = field(init=False, default=0)
    _topics: dict[str, Topic] = field(init=False, factory=dict)
    _nursery: trio.Nursery | None = field(init=False, default=None)
    _ephemeral_prefix: str = field(init=False, factory=lambda: secrets.token_hex(4))
    _ephemeral_count: int = field(init=False, default=0)
    _tails: OrderedDict[Topic, None] = field(init=False, factory=OrderedDict)
    _tails_bytes: int = field(init=False, default=0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the topics' tasks until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def position(self, name: str) -> Position:
        """The position that a subscription to a durable topic starts behind, if `add` is called before a checkpoint.

        It is at or after every change that this node has answered, or heard of. Raises StorageUnavailable.
        """
        while True:
            topic = self._open(name)
            if topic.head is not None and topic.epoch is not None:
                return Position(topic=name, epoch=topic.epoch, seq=topic.head)
            if topic.first_read is None:
                await self._read(topic)
            else:  # many come back at once: one read is enough for all
                await topic.first_read.wait()
                if topic.failure is not None:
                    raise StorageUnavailable(topic.failure)

    async def _read(self, topic: Topic) -> None:
        """Ask the log where a topic is that is new here: what commits from here on reaches it, whatever that says."""
        topic.first_read, topic.failure = trio.Event(), None
        extent = None
        try:
            extent = await self._read_extent(topic.name)
        except StorageUnavailable as exc:
            topic.failure = str(exc)
            raise
        finally:
            topic.first_read.set()
            topic.first_read = None
            if extent is None:
                self._close_if_unused(topic)
        if topic.epoch not in (None, extent.epoch):
            # A node that does not know yet that the log went back told of events meanwhile: these numbers are not ours.
            topic.coming, topic.relayed, topic.head = 0, None, None
            self._forget_tail(topic)
        topic.epoch, topic.pruned = extent.epoch, extent.pruned
        topic.head = max(topic.head or 0, topic.coming, extent.seq)
        if topic.relayed is None:
            topic.start_behind(extent.seq)

    def add(self, name: str, subscriber: Subscriber, after: int | None) -> None:
        """Subscribe; of a durable topic it gets the events after `after`, which `position` told."""
        topic = self._open(name)
        topic.forget(subscriber)
        if after is None:
            topic.live[subscriber] = None
        else:
            topic.joining[subscriber] = after

    def hold(self, name: str, subscriber: Subscriber) -> None:
        """Subscribe to a durable topic, but to no events yet: keep it open until `join`."""
        topic = self._open(name)
        topic.forget(subscriber)
        topic.replaying[subscriber] = None

    def join(self, name: str, subscriber: Subscriber, after: int) -> bool:
        """Let one that is held have the events behind `after` as they come. False: there are some that it must read."""
        topic = self._topics[name]
        if after < topic.fanned:
            return False
        self.add(name, subscriber, after)
        return True

    def overtaken(self, topic: Topic) -> None:
        """Tell all subscribers that what comes next for them is in the log no more."""
        for subscriber in (*topic.live, *topic.joining, *topic.replaying):
            subscriber.overtaken()

    def remove(self, name: str, subscriber: Subscriber) -> None:
        """Unsubscribe. The last one out ends the topic's task."""
        topic = self._topics.get(name)
        if topic is not None:
            topic.forget(subscriber)
            self._close_if_unused(topic)

    def release(self, name: str) -> None:
        """Say that no `add` follows a `position`: a topic that nobody is subscribed to does not stay for it."""
        topic = self._topics.get(name)
        if topic is not None:
            self._close_if_unused(topic)

    async def publish(self, event: LoggedEvent) -> None:
        """Send an event of an ephemeral topic to who is subscribed now; in the order of the calls.

        Without a checkpoint while the topic's channel has room, so that a reply can be offered before the event is.
        """
        self.ephemeral_of[label_of(event.topic)] += 1
        topic = self._topics.get(event.topic)
        if topic is not None:
            await self.put(topic, (event,), trio.current_time())

    def offer(self, name: str, events: Sequence[LoggedEvent]) -> None:
        """Send events of an ephemeral topic that another node has published; without room, they are dropped.

        So they are where the topic is durable here, as it may be for that node no longer, or not yet: among events with
        numbers, one without would be a gap in what is kept of them.
        """
        topic = self._topics.get(name)
        if topic is not None and not topic.closed and topic.relayed is None and topic.first_read is None:
            try:
                topic.send.send_nowait((events, trio.current_time()))
            except trio.WouldBlock:
                self.ephemeral_dropped += len(events)

    async def put(self, topic: Topic, events: Sequence[LoggedEvent], committed_at: float | None = None) -> None:
        """Hand events to the topic's task, in the order of the calls; waits while its channel is full.

        A closed topic drops them, and so does one that is closed meanwhile. Cancelled, they are not handed on.
        `committed_at`: since when, in Trio's time, they could have been delivered.
        """
        if topic.closed:
            return
        try:
            topic.send.send_nowait((events, committed_at))
        except trio.WouldBlock:
            with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                # The channel has no room for others before it has taken what waits, in its order.
                await topic.send.send((events, committed_at))

    def topic(self, name: str) -> Topic | None:
        """The topic, where it has subscribers on this node."""
        return self._topics.get(name)

    def audience(self, name: str | None) -> int:
        """How many subscribers a topic has on this node; None: no topic."""
        topic = self._topics.get(name) if name is not None else None
        return 0 if topic is None else topic.count()

    def durable_topics(self) -> list[Topic]:
        """The topics with subscribers whose position is known."""
        return [topic for topic in self._topics.values() if topic.relayed is not None]

    def topics(self) -> list[Topic]:
        """All topics that somebody here follows."""
        return list(self._topics.values())

    def counts(self) -> dict[str, int]:
        """Subscribers on this node by topic."""
        return {name: topic.count() for name, topic in self._topics.items()}

    def _open(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            assert self._nursery is not None, "the hub is not running"
            topic = Topic(name, *trio.open_memory_channel[Batch](CHANNEL_BATCHES))
            self._topics[name] = topic
            # In an empty context: else it would log the connection id of whoever subscribed first, for ever.
            contextvars.Context().run(self._nursery.start_soon, self._run_topic, topic)
        return topic

    def _close_if_unused(self, topic: Topic) -> None:
        if topic.count() == 0 and not topic.closed:
            del self._topics[topic.name]
            topic.scope.cancel()
            self._forget_tail(topic)

    async def _run_topic(self, topic: Topic) -> None:
        with topic.scope, topic.send, topic.receive:
            while True:
                batches = [await topic.receive.receive()]
                while topic.receive.statistics().current_buffer_used:
                    batches.append(topic.receive.receive_nowait())
                events = [event for batch, _ in batches for event in batch]
                while events:
                    messages: list[bytes] = []
                    size_bytes = 0
                    while len(messages) < len(events) and size_bytes < ROUND_BYTES:
                        messages.append(self.encode(events[len(messages)]))
                        size_bytes += len(messages[-1])
                    await self._fan_out(topic, events[: len(messages)], messages)
                    del events[: len(messages)]
                    if not events:
                        self._observe_lag(batches)
                    await trio.lowlevel.checkpoint()

    def _observe_lag(self, batches: Sequence[Batch]) -> None:
        now = trio.current_time()
        for _, committed_at in batches:
            if committed_at is not None:
                self.lag_s.observe(now - committed_at)

    async def _fan_out(self, topic: Topic, events: list[LoggedEvent], messages: list[bytes]) -> None:
        self.events += len(events)
        topic.events += len(events)
        parcel = Parcel.of(messages)
        first, last = events[0].seq or 0, events[-1].seq or 0
        if last:
            topic.fanned = last
            self._remember(topic, last, messages)
        for subscriber, after in list(topic.joining.items()):
            if first > after:
                del topic.joining[subscriber]
                topic.live[subscriber] = None
            elif last > after:  # in the midst of these events: its part now, with the others from the next on
                fresh = [m for m, event in zip(messages, events, strict=True) if (event.seq or 0) > after]
                self._deliver((subscriber,), Parcel.of(fresh))
                topic.joining[subscriber] = last
        turn = min(TURN, max(1, TURN_BYTES // parcel.size_bytes))
        everybody: Sequence[Subscriber] = tuple(topic.live)
        for start in range(0, len(everybody), turn):
            subscribers = everybody[start : start + turn]
            if start:
                await trio.lowlevel.checkpoint()
                # The rest has left.
                subscribers = [subscriber for subscriber in subscribers if subscriber in topic.live]
            self._deliver(subscribers, parcel)
            self.deliveries += len(messages) * len(subscribers)

    def _remember(self, topic: Topic, last: int, messages: Sequence[bytes]) -> None:
        if topic.closed:
            return
        before_bytes = topic.tail.size_bytes
        topic.tail.extend(last, messages, TAIL_BYTES)
        self._tails_bytes += topic.tail.size_bytes - before_bytes
        self._tails[topic] = None
        self._tails.move_to_end(topic)
        while self._tails_bytes > TAILS_BYTES:
            self._forget_tail(next(iter(self._tails)))

    def _forget_tail(self, topic: Topic) -> None:
        if topic in self._tails:
            del self._tails[topic]
            self._tails_bytes -= topic.tail.size_bytes
            topic.tail.clear()

    def encode(self, event: LoggedEvent) -> bytes:
        """The event's message: of a durable topic always the same bytes, on every node and in every replay."""
        if event.message is not None:
            return event.message
        if event.seq is None:
            self._ephemeral_count += 1
            event_id = f"{self._ephemeral_prefix}-e{self._ephemeral_count:x}"
        else:
            event_id = f"{event.epoch}-{event.seq}"
        event.message = codec.encode(
            event.type,
            event.payload,
            id_=event_id,
            timestamp_ms=event.timestamp_ms,
            sender_id=event.sender_id,
            topic=event.topic,
            seq=event.seq,
            epoch=event.epoch,
        )
        return event.message
