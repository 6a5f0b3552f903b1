"""A wake-up: what a node tells the others that it has committed. Pure.

With the events' messages, so that nobody has to read them from the log, if they go at once; else that they are there.

    JSON: [[topic, epoch, number of the first event, how many, [bytes of each message]?], …] | line feed | messages
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from attrs import frozen

from ngos.log.store import LoggedEvent

KIND = "log"


@frozen
class Wakeup:
    """The log of a topic has grown by the events `first` to `last`; `events` are these, or none."""

    topic: str
    epoch: str
    first: int
    last: int
    events: Sequence[LoggedEvent]


def write(events: Sequence[LoggedEvent], encode: Callable[[LoggedEvent], bytes], limit_bytes: int) -> bytes:
    """Tell of events of durable topics that one transaction has numbered, in at most about `limit_bytes` bytes."""
    by_topic: dict[str, list[LoggedEvent]] = {}
    for event in events:
        by_topic.setdefault(event.topic, []).append(event)
    messages = [encode(event) for of_topic in by_topic.values() for event in of_topic]
    goes_at_once = sum(map(len, messages)) + 8 * len(messages) + 160 * len(by_topic) <= limit_bytes
    head: list[list[Any]] = []
    position = 0
    for topic, of_topic in by_topic.items():
        grown: list[Any] = [topic, of_topic[0].epoch, of_topic[0].seq, len(of_topic)]
        if goes_at_once:
            grown.append([len(message) for message in messages[position : position + len(of_topic)]])
            position += len(of_topic)
        head.append(grown)
    return b"".join((orjson.dumps(head), b"\n", *(messages if goes_at_once else ())))


def read(body: bytes) -> list[Wakeup]:
    """What `write` has written. Raises ValueError, TypeError or LookupError for what it never does, or half of it."""
    end = body.index(b"\n")
    start = end + 1
    wakeups = []
    for topic, epoch, first, count, *lengths in orjson.loads(body[:end]):
        if (type(topic), type(epoch), type(first), type(count)) != (str, str, int, int) or first < 1 or count < 1:
            raise TypeError("it is not told which events")
        if lengths and len(lengths[0]) != count:
            raise ValueError(f"{count} events, and {len(lengths[0])} messages")
        events = []
        for seq, length in enumerate(lengths[0] if lengths else (), start=first):
            if type(length) is not int or length < 2:
                raise TypeError("a message has no length")
            message = body[start : start + length]
            events.append(LoggedEvent(topic, "", b"", None, 0, seq, epoch, message))
            start += length
        wakeups.append(Wakeup(topic, epoch, first, first + count - 1, events))
    if start != len(body):
        raise ValueError(f"{start} bytes were told of, and it has {len(body)}")
    return wakeups
