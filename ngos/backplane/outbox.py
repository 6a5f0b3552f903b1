"""What waits to be sent to the other nodes. Bounded in bytes: past that it is dropped, which the log makes good."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from ngos.backplane.bundle import HEAD_BYTES, PART_BYTES, Part
from ngos.config import MIB

WAITING_BYTES: Final = 8 * MIB
EPHEMERAL_BYTES: Final = WAITING_BYTES // 2
"""Where so many wait, events of ephemeral topics find no room: who publishes many would have the wake-ups dropped."""
EPHEMERAL: Final = "event"


@define(eq=False)
class Outbox:
    """See the module. `sent` and `dropped` count parts by kind."""

    sent: Counter[str] = field(init=False, factory=Counter)
    dropped: Counter[str] = field(init=False, factory=Counter)
    size_bytes: int = field(init=False, default=0)
    _parts: deque[Part] = field(init=False, factory=deque)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _idle: trio.Event = field(init=False, factory=trio.Event)
    _on_arrival: Callable[[], None] | None = field(init=False, default=None)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, kind: str, body: bytes) -> None:
        """Queue a part, or drop it."""
        if self.size_bytes + len(body) > (EPHEMERAL_BYTES if kind == EPHEMERAL else WAITING_BYTES):
            self.dropped[kind] += 1
            return
        self._parts.append((kind, body))
        self.size_bytes += len(body)
        self._arrived.set()
        if self._idle.is_set():
            self._idle = trio.Event()
        if self._on_arrival is not None:
            self._on_arrival()

    def take(self, limit_bytes: int) -> list[Part]:
        """What comes next and fits into a bundle of so many bytes together; one that does not comes alone."""
        parts: list[Part] = []
        size_bytes = HEAD_BYTES
        while self._parts and (not parts or size_bytes + PART_BYTES + len(self._parts[0][1]) <= limit_bytes):
            parts.append(self._parts.popleft())
            size_bytes += PART_BYTES + len(parts[-1][1])
            self.size_bytes -= len(parts[-1][1])
            self.sent[parts[-1][0]] += 1
        return parts

    def clear(self) -> None:
        """Drop all."""
        self.dropped.update(kind for kind, _ in self._parts)
        self._parts.clear()
        self.size_bytes = 0

    async def wait(self) -> None:
        """Wait until something is there; what was taken before has been sent."""
        if not self._parts:
            self._idle.set()
            self._arrived = trio.Event()
            await self._arrived.wait()

    async def wait_or_readable(self, fd: int) -> None:
        """The same, or until a descriptor has something to read."""
        if not self._parts:
            self._idle.set()
        with trio.CancelScope() as scope:
            self._on_arrival = scope.cancel
            try:
                if self._parts:
                    scope.cancel()
                await trio.lowlevel.wait_readable(fd)
            finally:
                self._on_arrival = None

    async def sent_all(self) -> None:
        """Wait until there is nothing, and what was here has been sent."""
        await self._idle.wait()
