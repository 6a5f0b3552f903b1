"""What was: the events behind a position, encoded, for those who were away. Read once, however many they are.

The log is read in pages with fixed ends, so that clients who were cut off at different positions share all of them but
their first; a page is read by one while the others who want it wait for that. What went out lately is still in memory
(`ngos.log.tail`), and the newest page is made of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import trio
from attrs import define, field

from ngos.config import MIB
from ngos.errors import NgosError
from ngos.log import store
from ngos.log.store import LoggedEvent
from ngos.log.topic import Topic
from ngos.postgres.pool import Pool
from ngos.protocol.parcel import Parcel

PAGE_EVENTS: Final = 256
CHUNK_BYTES: Final = 64 * 1024
"""What a client is given at once, if no event is larger."""
PAGES_BYTES: Final = 32 * MIB
READERS: Final = 2
"""Pages that are read at the same time: commands need the pool too."""
_MESSAGE_BYTES: Final = 100
"""What a message takes in memory beside its bytes."""


class Pruned(NgosError):
    """The log does not hold these events any more."""


@define(eq=False)
class Page:
    """Consecutive events from number `first` on, in parcels of about CHUNK_BYTES; `starts` are their first numbers."""

    first: int
    last: int
    starts: list[int]
    parcels: list[Parcel]
    size_bytes: int

    @classmethod
    def of(cls, first: int, messages: Sequence[bytes]) -> Page:
        """The messages of events, of which there is at least one."""
        starts = [first]
        chunks: list[list[bytes]] = [[]]
        room_bytes = CHUNK_BYTES
        for seq, message in enumerate(messages, start=first):
            if len(message) > room_bytes and chunks[-1]:
                starts.append(seq)
                chunks.append([])
                room_bytes = CHUNK_BYTES
            chunks[-1].append(message)
            room_bytes -= len(message)
        # Twice: a parcel keeps its messages and, once it was sent, their frames.
        size_bytes = 2 * sum(map(len, messages)) + _MESSAGE_BYTES * len(messages)
        return cls(first, first + len(messages) - 1, starts, list(map(Parcel.of, chunks)), size_bytes)

    def behind(self, after: int, upto: int) -> tuple[Parcel, int]:
        """The next events with `after` < seq <= `upto`, and the last one's number; the first of them must be here."""
        index = bisect_right(self.starts, after + 1) - 1
        parcel, start = self.parcels[index], self.starts[index]
        end = start + len(parcel.messages) - 1
        if start == after + 1 and end <= upto:
            return parcel, end  # whole, and with its frames, if somebody was given it before
        last = min(end, upto)
        return Parcel.of(parcel.messages[after + 1 - start : last + 1 - start]), last


@define(eq=False)
class History:
    """See the module."""

    _pool: Pool
    _encode: Callable[[LoggedEvent], bytes]
    pages_read: int = field(init=False, default=0)
    _pages: OrderedDict[tuple[str, int], Page] = field(init=False, factory=OrderedDict)
    _pages_bytes: int = field(init=False, default=0)
    _reading: dict[tuple[str, int], trio.Event] = field(init=False, factory=dict)
    _slots: trio.Semaphore = field(init=False, factory=lambda: trio.Semaphore(READERS))

    async def behind(self, topic: Topic, after: int, upto: int) -> tuple[Parcel, int]:
        """Some of the events with `after` < seq <= `upto`, at least one; and the number of the last of these.

        Without a checkpoint if they are in memory. The log must hold them: raises Pruned where it does not any more,
        and StorageUnavailable.
        """
        assert topic.epoch is not None
        first = after // PAGE_EVENTS * PAGE_EVENTS + 1
        key = topic.epoch, first
        while True:
            page = self._pages.get(key)
            if page is None or not page.first <= after + 1 <= page.last:
                page = self._recent(key, topic, after)
            if page is not None:
                self._pages.move_to_end(key)
                return page.behind(after, upto)
            if (being_read := self._reading.get(key)) is not None:
                await being_read.wait()
            else:
                page = await self._read(key, topic.name)
                if page is None or not page.first <= after + 1 <= page.last:
                    raise Pruned(f"the log has no event {after + 1} of {topic.name}")

    def _recent(self, key: tuple[str, int], topic: Topic, after: int) -> Page | None:
        """The page as far as it went out lately; None where what follows `after` did not."""
        tail, (_, first) = topic.tail, key
        if not tail.first <= after + 1 <= tail.last:
            return None
        start = max(first, tail.first)
        return self._put(key, Page.of(start, tail.between(start, min(first + PAGE_EVENTS - 1, tail.last))))

    async def _read(self, key: tuple[str, int], name: str) -> Page | None:
        """The page from the log, as far as it is there."""
        _, first = key
        self._reading[key] = done = trio.Event()
        try:
            async with self._slots, self._pool.connection() as conn:
                events = await store.read(conn, name, first - 1, first + PAGE_EVENTS - 1, PAGE_EVENTS)
            self.pages_read += 1
            if not events:
                return None
            assert events[0].seq is not None
            return self._put(key, Page.of(events[0].seq, [self._encode(event) for event in events]))
        finally:
            del self._reading[key]
            done.set()

    def _put(self, key: tuple[str, int], page: Page) -> Page:
        if (old := self._pages.pop(key, None)) is not None:
            self._pages_bytes -= old.size_bytes
        self._pages[key] = page
        self._pages_bytes += page.size_bytes
        while self._pages_bytes > PAGES_BYTES and len(self._pages) > 1:
            _, dropped = self._pages.popitem(last=False)
            self._pages_bytes -= dropped.size_bytes
        return page
