"""The latest events of one topic, encoded as they went out: who was away for a moment need not read the log. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from attrs import define, field


@define(eq=False)
class Tail:
    """Consecutive messages, the last one with the number `last`."""

    last: int = 0
    size_bytes: int = 0
    _messages: deque[bytes] = field(init=False, factory=deque)

    @property
    def first(self) -> int:
        """The number of the first message; where there is none, of the next."""
        return self.last - len(self._messages) + 1

    def extend(self, last: int, messages: Sequence[bytes], limit_bytes: int) -> None:
        """Add the messages that come next, and drop the oldest while they take more than `limit_bytes`."""
        if last - len(messages) != self.last:
            self.clear()
        self.last = last
        self._messages.extend(messages)
        self.size_bytes += sum(map(len, messages))
        while self.size_bytes > limit_bytes:
            self.size_bytes -= len(self._messages.popleft())

    def clear(self) -> None:
        """Drop all."""
        self._messages.clear()
        self.size_bytes = 0

    def between(self, first: int, last: int) -> list[bytes]:
        """The messages with these numbers, both included; all of them must be here."""
        start = first - self.first
        return list(islice(self._messages, start, start + last - first + 1))
