"""An event, and the bounded buffer between the connection and one consumer of a topic.

Sans-I/O and never waiting: a full feed takes no more, so that one consumer can hold up nobody else.
May import `ngos.client.errors` and the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from ngos.client.errors import GapError, SessionError, SlowSubscriber
from ngos.protocol.catalog import EVENTS
from ngos.protocol.codec import Envelope, structure
from ngos.protocol.messages import Event as EventMessage
from ngos.protocol.messages import Subscribed


@frozen(kw_only=True)
class Event:
    """What was published to a topic. `seq` and `epoch` are None on ephemeral topics.

    `timestamp_ms` is the server's clock, Unix milliseconds; `sender_id` the client_id whose command caused it.
    `topic` is None only for what an operator sends to all connections (`POST /ws/broadcast`).
    """

    id: str
    type: str
    topic: str | None
    seq: int | None = None
    epoch: str | None = None
    timestamp_ms: int
    sender_id: str | None = None
    payload: dict[str, Any] = field(factory=dict)

    @property
    def message(self) -> EventMessage | None:
        """The payload as the class it has, or None for the types of custom topics, which nobody knows.

        Raises MessageError: the server's fault.
        """
        cls = EVENTS.get(self.type)
        # A custom topic may carry any type, even one of ours, with any payload.
        if cls is None or cls.TOPIC != self.topic:
            return None
        return structure(self.payload, cls)

    @classmethod
    def from_envelope(cls, envelope: Envelope) -> Event:
        return cls(
            id=envelope.id,
            type=envelope.type,
            topic=envelope.topic,
            seq=envelope.seq,
            epoch=envelope.epoch,
            timestamp_ms=envelope.timestamp,
            sender_id=envelope.sender_id,
            payload=envelope.payload,
        )


@frozen
class Position:
    """A place in a durable topic's log. `epoch` is None only where a caller gave a number without one."""

    epoch: str | None
    seq: int


class Feed:
    """The events of one topic for one consumer: at most `limit_events` of at most `limit_bytes` on the wire.

    On a durable topic it takes each event once and in order, and only while it is `following`: without room it stops
    to, and is `has_room` again when its consumer has taken half; what it missed is in the server's log. A hole ends
    it with GapError. On an ephemeral topic no log is there to help, and a full feed ends with SlowSubscriber.

    `wake` is called, never awaited, when there is something new to see: an event, the opening, or the end.
    """

    def __init__(
        self,
        topic: str | None,
        *,
        limit_events: int,
        limit_bytes: int,
        wake: Callable[[], object],
        start: Position | None = None,
    ) -> None:
        """`start` is the position to begin after; None begins with what comes next.

        Raises ValueError where a limit is negative, the caller's fault: it would never have room.
        """
        if min(limit_events, limit_bytes) < 0:
            raise ValueError(f"not a buffer: {limit_events} events, {limit_bytes} bytes")
        self.topic = topic
        self.opening: Subscribed | None = None
        self.ended: SessionError | None = None
        self.abandoned = False
        """The consumer is gone without a word; the session drops the feed when it next looks at the topic."""
        self.taken = start
        """The position of the last event that was taken, on a durable topic: what to resume from."""
        self.position = start
        """The position of the last event that was offered and not refused."""
        self.following = False
        """Whether what the connection brings next is, or comes before, what this feed is due."""
        self.on_room: Callable[[], object] | None = None
        """Called when a feed that does not follow has room again."""
        self.on_gap: Callable[[GapError], object] | None = None
        """Called when a hole ends it."""
        self._waiting: deque[tuple[Event, int, Position | None]] = deque()
        self._waiting_bytes = 0
        self._limit_events = limit_events
        self._limit_bytes = limit_bytes
        self._wake = wake

    @property
    def has_room(self) -> bool:
        """Whether it is worth asking for more: half of the buffer is free."""
        return len(self._waiting) <= self._limit_events // 2 and self._waiting_bytes <= self._limit_bytes // 2

    def follow(self, position: Position | None, reply: Subscribed) -> None:
        """From here on, take events after `position`, or all where that is None; `reply` as this feed sees it."""
        self.following = True
        if self.position != position:  # where it starts was not known in full, or the topic's kind has changed
            self.position = self.taken = position
        if self.opening is None:
            self.opening = reply
            self._wake()

    def offer(self, event: Event, size_bytes: int, position: Position | None = None) -> None:
        """Take an event that comes after the last one; nothing happens where it is a repeat, or not followed.

        `position` is the event's, on a durable topic.
        """
        if not self.following:
            return
        if position is not None and self.position is not None:
            if position.epoch == self.position.epoch and position.seq <= self.position.seq:
                return
            if position.epoch != self.position.epoch or position.seq > self.position.seq + 1:
                self.gap((position.epoch or "", position.seq))
                return
        # One event always fits: else an event over the limit could never be delivered.
        full = len(self._waiting) >= self._limit_events or self._waiting_bytes + size_bytes > self._limit_bytes
        if full and self._waiting:
            self.following = False
            if position is None:
                self.end(SlowSubscriber(self.topic))
            return
        self.position = position
        self._waiting.append((event, size_bytes, position))
        self._waiting_bytes += size_bytes
        self._wake()

    def gap(self, now: tuple[str, int] | None) -> None:
        """What comes after `position` is lost: end with GapError."""
        had = self.position or Position(None, 0)
        error = GapError(self.topic or "", had.seq, had.epoch, now)
        if self.ended is None and self.on_gap is not None:
            self.on_gap(error)
        self.end(error)

    def end(self, error: SessionError) -> None:
        """No more events. What waits can still be taken, then `error` is raised. The first end counts."""
        self.following = False
        if self.ended is None:
            self.ended = error
            self._wake()

    def take(self) -> Event | None:
        """Return the next event, or None when there is none yet. Raises what ended the feed, when it is empty."""
        if self._waiting:
            event, size_bytes, position = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            if position is not None:
                self.taken = position
            if not self.following and self.ended is None and self.has_room and self.on_room is not None:
                self.on_room()
            return event
        if self.ended is not None:
            raise self.ended.again()
        return None

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._waiting_bytes = 0
