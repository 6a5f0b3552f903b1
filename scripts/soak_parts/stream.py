"""The events of a topic as frames, as far as anybody has got them, and who is where in them. Pure.

Promises: an event's message has the same bytes for everybody, live and replayed, so each is looked into once, and what
all others get must be just those bytes. Nothing can be missing, repeated or out of order without being noticed. What
all have is forgotten, so it stays as small as the last one is near to the first.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right

SEQ = re.compile(rb'"seq":(\d+)[,}]')
TOPIC = re.compile(rb'"topic":"([^"]+)"')
SHOWN_BYTES = 300


class Lost(Exception):
    """An event is missing, repeated, out of order or not what others got."""


class Stream:
    """A topic's frames from `base` on; positions count from the first byte of the first event."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.base = 0
        self.frames = bytearray()
        self._forgotten = 0  # events before `base`
        self._ends = array("q")

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._forgotten + len(self._ends)

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.base + len(self.frames)

    def seq_at(self, at: int) -> int:
        """The last event that is whole up to there."""
        return self._forgotten + bisect_right(self._ends, at)

    def boundary(self, at: int) -> int:
        """Where that event ends."""
        whole = bisect_right(self._ends, at)
        return self._ends[whole - 1] if whole else self.base

    def holds(self, data: bytes | bytearray | memoryview, at: int) -> bool:
        """Whether these are the bytes there."""
        return self.frames.startswith(data, at - self.base)

    def part(self, start: int, end: int) -> bytes:
        return bytes(self.frames[start - self.base : end - self.base])

    def take(self, frame: bytes, at: int) -> int:
        """Check a whole frame that somebody got who has all up to `at`; return where he is now. Raises Lost."""
        if self.holds(frame, at):
            return at + len(frame)
        found = SEQ.search(frame)
        seq, due = int(found[1]) if found else None, self.seq_at(at) + 1
        if at != self.end or seq != due:
            raise Lost(f"{self.topic}: event {due} was due, and this came: {frame[:SHOWN_BYTES]!r}")
        self.frames += frame
        self._ends.append(self.end)
        return self.end

    def forget(self, before: int) -> None:
        """Forget the whole events before this position; nobody may be behind it."""
        events = bisect_right(self._ends, before)
        if events:
            end = self._ends[events - 1]
            del self.frames[: end - self.base]
            del self._ends[:events]
            self.base, self._forgotten = end, self._forgotten + events


class Cursor:
    """Where one client is in a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.at = 0

    @property
    def seq(self) -> int:
        """The last event that it has whole."""
        return self.stream.seq_at(self.at)
