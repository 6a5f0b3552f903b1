"""The bounded queue of one connection: what it still has to be sent. Sync, but for waiting.

Worst case per connection: `limit_bytes` of events and one round of fan-out, and replies up to REPLY_BYTES and the
replies to what was in flight when they were passed: the reader stops there until the client has read (`low`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio
from attrs import define, field

from ngos.protocol.parcel import Parcel

REPLY_BYTES: Final = 256 * 1024
SEND_BYTES: Final = 64 * 1024


@define(eq=False)
class Mailbox:
    """Parcels wait here until the writer has sent them: until then their bytes count."""

    limit_bytes: int
    event_bytes: int = field(init=False, default=0)
    reply_bytes: int = field(init=False, default=0)
    _parcels: deque[tuple[Parcel, bool, float]] = field(init=False, factory=deque)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _sent: trio.Event = field(init=False, factory=trio.Event)
    _taken: int = field(init=False, default=0)

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._parcels)

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

    async def arrived(self) -> None:
        """Wait until there is something to send."""
        if not self._parcels:
            self._arrived = trio.Event()
            await self._arrived.wait()

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
        for _ in range(self._taken):
            parcel, is_event, _ = self._parcels.popleft()
            if is_event:
                self.event_bytes -= parcel.size_bytes
            else:
                self.reply_bytes -= parcel.size_bytes
        self._taken = 0
        self._sent.set()

    async def low(self) -> None:
        """Wait until so few replies wait that more may be made."""
        while self.reply_bytes > REPLY_BYTES:
            await self._next_sent()

    async def empty(self) -> None:
        """Wait until all is sent."""
        while self._parcels:
            await self._next_sent()

    def _put(self, parcel: Parcel, *, is_event: bool) -> None:
        self._parcels.append((parcel, is_event, trio.current_time()))
        self._arrived.set()

    async def _next_sent(self) -> None:
        if self._sent.is_set():
            self._sent = trio.Event()
        await self._sent.wait()
