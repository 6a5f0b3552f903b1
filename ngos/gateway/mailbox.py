"""The bounded queue of one connection: what it still has to be sent. Sync, but for waiting.

Worst case per connection: `limit_bytes` of events and one round of fan-out, and replies up to REPLY_BYTES, what the
reader had gathered when they were passed (SEND_BYTES and one more), and the replies to what was in flight: the reader
stops there until the client has read (`low`). What all connections together hold is counted in their `Backlog`, and
has a bound of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from ngos.protocol.parcel import Parcel

REPLY_BYTES: Final = 256 * 1024
SEND_BYTES: Final = 64 * 1024


@define(eq=False)
class Backlog:
    """What waits for all clients, in bytes. `relieve` is called when that is over the limit: it must make room.

    Messages that wait for many are one in memory; here they count for each. `slow` counts the connections that had to
    end because they read too slowly.
    """

    limit_bytes: int
    relieve: Callable[[], None] = lambda: None
    bytes: int = field(init=False, default=0)
    slow: int = field(init=False, default=0)

    def add(self, size_bytes: int) -> None:
        self.bytes += size_bytes
        if self.bytes > self.limit_bytes:
            self.relieve()


@define(eq=False)
class Mailbox:
    """Parcels wait here until the writer has sent them: until then their bytes count."""

    limit_bytes: int
    backlog: Backlog
    event_bytes: int = field(init=False, default=0)
    reply_bytes: int = field(init=False, default=0)
    _parcels: list[tuple[Parcel, bool, float]] = field(init=False, factory=list)
    _sent: trio.Event | None = field(init=False, default=None)
    _taken: int = field(init=False, default=0)

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._parcels)

    @property
    def size_bytes(self) -> int:
        """What waits."""
        return self.event_bytes + self.reply_bytes

    def put_reply(self, parcel: Parcel) -> None:
        """Queue a reply. Never refused: the client asked for it, and what it may ask for is bounded elsewhere."""
        self.reply_bytes += parcel.size_bytes
        self._put(parcel, is_event=False)

    def put_events(self, parcel: Parcel) -> bool:
        """Queue events. False: with them more waits than may (protocol.md section 9), and they are not queued."""
        if self.event_bytes + parcel.size_bytes > self.limit_bytes:
            return False
        self.event_bytes += parcel.size_bytes
        self._put(parcel, is_event=True)
        return True

    def peek(self) -> tuple[list[Parcel], float]:
        """What is to be sent next, and the time since which the first of it waits. `sent` takes it out.

        Not all at once: what is sent counts no more, and a slow but steady reader is told from one that stopped.
        """
        parcels = []
        size_bytes = 0
        for parcel, _, _ in self._parcels:
            parcels.append(parcel)
            size_bytes += parcel.size_bytes
            if size_bytes >= SEND_BYTES:
                break
        self._taken = len(parcels)
        return parcels, self._parcels[0][2]

    def sent(self) -> None:
        """What `peek` showed is with the kernel."""
        self._drop(self._taken)
        self._taken = 0

    def clear(self) -> None:
        """Forget all that waits: nobody will read it."""
        self._drop(len(self._parcels))
        self._taken = 0

    @property
    def is_high(self) -> bool:
        """Whether so many replies wait that no more may be made."""
        return self.reply_bytes > REPLY_BYTES

    async def low(self) -> None:
        """Wait until it is no longer high."""
        while self.is_high:
            await self._next_sent()

    async def empty(self) -> None:
        """Wait until all is sent."""
        while self._parcels:
            await self._next_sent()

    def _put(self, parcel: Parcel, *, is_event: bool) -> None:
        self._parcels.append((parcel, is_event, trio.current_time()))
        self.backlog.add(parcel.size_bytes)  # last: to make room, it may clear this very mailbox

    def _drop(self, count: int) -> None:
        before = self.size_bytes
        for parcel, is_event, _ in self._parcels[:count]:
            if is_event:
                self.event_bytes -= parcel.size_bytes
            else:
                self.reply_bytes -= parcel.size_bytes
        del self._parcels[:count]
        self.backlog.bytes -= before - self.size_bytes
        if self._sent is not None:
            self._sent.set()
            self._sent = None

    async def _next_sent(self) -> None:
        if self._sent is None:
            self._sent = trio.Event()
        await self._sent.wait()
