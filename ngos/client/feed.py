"""An event, and the bounded buffer between the connection and one consumer of a topic.

Sans-I/O and never waiting: offering to a full feed ends that feed, so that one consumer can hold up nobody else.
May import `ngos.client.errors` and the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from ngos.client.errors import SessionError, SlowSubscriber
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


class Feed:
    """The events of one topic for one consumer: at most `limit_events` of at most `limit_bytes` on the wire.

    `wake` is called, never awaited, when there is something new to see: an event, the opening, or the end.
    """

    def __init__(self, topic: str | None, *, limit_events: int, limit_bytes: int, wake: Callable[[], object]) -> None:
        self.topic = topic
        self.opening: Subscribed | None = None
        self.ended: SessionError | None = None
        self.abandoned = False
        """The consumer is gone without a word; the session drops the feed when the next event comes."""
        self.seq: int | None = None
        """The position of the last event that was taken: what to resume from."""
        self._waiting: deque[tuple[Event, int]] = deque()
        self._waiting_bytes = 0
        self._limit_events = limit_events
        self._limit_bytes = limit_bytes
        self._wake = wake

    def open(self, reply: Subscribed) -> None:
        """The server agreed. Events come only after this."""
        self.opening = reply
        self.seq = reply.seq
        self._wake()

    def offer(self, event: Event, size_bytes: int) -> None:
        """Add an event; when there is no room, end with SlowSubscriber instead."""
        if self.ended is not None:
            return
        # One event always fits: else an event over the limit could never be delivered.
        full = len(self._waiting) >= self._limit_events or self._waiting_bytes + size_bytes > self._limit_bytes
        if full and self._waiting:
            last = self._waiting[-1][0]
            self.end(SlowSubscriber(self.topic, last.seq, last.epoch))
            return
        self._waiting.append((event, size_bytes))
        self._waiting_bytes += size_bytes
        self._wake()

    def end(self, error: SessionError) -> None:
        """No more events. What waits can still be taken, then `error` is raised. The first end counts."""
        if self.ended is None:
            self.ended = error
            self._wake()

    def take(self) -> Event | None:
        """Return the next event, or None when there is none yet. Raises what ended the feed, when it is empty."""
        if self._waiting:
            event, size_bytes = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            if event.seq is not None:
                self.seq = event.seq
            return event
        if self.ended is not None:
            raise self.ended.again()
        return None

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._waiting_bytes = 0
