"""A topic as the hub has it: how far its events have come on this node, and who gets them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio
from attrs import define, field

from ngos.log.store import LoggedEvent
from ngos.log.tail import Tail
from ngos.protocol.parcel import Parcel

Batch = tuple[Sequence[LoggedEvent], float | None]
"""Events for a topic's task, and the Trio time at which they were committed, where that is known."""


class Subscriber(Protocol):
    """Who gets events: a connection. Its methods never block and never raise; hashable by identity.

    `overtaken`: what comes next for it is in the log no more; it gets nothing more, and must be told.
    """

    def offer_events(self, parcel: Parcel) -> None: ...

    def overtaken(self) -> None: ...


@define(eq=False)
class Topic:
    """A topic that somebody on this node is subscribed to, or is about to be.

    Of a durable topic, `head` is the last position that this node knows to be committed: a subscription starts behind
    it. `coming` is the last that the relay was told of, `relayed` the last that it put into the channel, `fanned` the
    last that the topic's task has come to, and `pruned` the last that the log may hold no more, as far as is known.
    `joining` are the subscribers whose start the topic's task has not come to yet, with that start; `replaying` those
    that are still being given what was before.
    """

    name: str
    send: trio.MemorySendChannel[Batch]
    receive: trio.MemoryReceiveChannel[Batch]
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    epoch: str | None = None
    head: int | None = None
    coming: int = 0
    relayed: int | None = None
    fanned: int = 0
    events: int = 0
    pruned: int | None = None
    tail: Tail = field(factory=Tail)
    live: dict[Subscriber, None] = field(factory=dict)
    joining: dict[Subscriber, int] = field(factory=dict)
    replaying: dict[Subscriber, None] = field(factory=dict)
    first_read: trio.Event | None = None
    failure: str | None = None

    @property
    def closed(self) -> bool:
        return self.scope.cancel_called

    def count(self) -> int:
        return len(self.live) + len(self.joining) + len(self.replaying)

    def start_behind(self, seq: int) -> None:
        """What comes through the channel begins behind this one."""
        self.relayed = self.fanned = seq
        self.coming = max(self.coming, seq)

    def expect(self, epoch: str | None, first: int, last: int, *, is_late: bool = False) -> None:
        """The events `first` to `last` are committed, and on their way to the channel.

        `is_late`: that may be long ago, so until the first read is over it is not known where the log is.
        """
        self.epoch, self.coming = epoch, max(self.coming, last)
        if not is_late or self.head is not None or self.first_read is None:
            self.head = max(self.head or 0, last)
        if self.relayed is None:  # its first read is under way, and may know of more than was relayed
            self.start_behind(first - 1)

    def forget(self, subscriber: Subscriber) -> None:
        self.live.pop(subscriber, None)
        self.joining.pop(subscriber, None)
        self.replaying.pop(subscriber, None)
