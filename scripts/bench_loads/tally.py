"""What fan-out counts with: the bytes of all subscribers in one sum.

Promises: exact at the end, and as cheap per read as Python allows; it is what the load's ceiling hangs on.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable
from math import inf
from time import perf_counter

from bench_loads.common import Run

READ_BYTES = 256 * 1024


class Tally(asyncio.BufferedProtocol):
    """Counts the bytes of all subscribers, and publishes when a message is through.

    One object is the protocol of all their transports: what comes is counted and forgotten, so they share the
    buffer too. A message's length is known when the witness has it, before or after the others' bytes of it.
    """

    def __init__(self, run: Run, subscribers: int, publish: Callable[[], None]) -> None:
        self.run = run
        self.latencies_ms = array("d")
        self.bytes = 0
        self.published = 0
        self.last_bytes = 0
        self._subscribers = subscribers
        self._publish = publish
        self._sent_at: deque[float] = deque()
        self._buffer = bytearray(READ_BYTES)
        self._through = 0  # messages, and the bytes that they were
        self._through_bytes = 0
        self._dues: deque[int] = deque()
        self._witnessed_bytes = 0
        self._due = inf

    def publish(self) -> None:
        self.published += 1
        self._sent_at.append(perf_counter())
        self._publish()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.bytes += nbytes
        if self.bytes >= self._due:
            self._advance()

    def witness(self, message_bytes: int) -> None:
        """The next message is this long; and one subscriber has it."""
        self.last_bytes = message_bytes
        self._witnessed_bytes += message_bytes * self._subscribers
        self._dues.append(self._witnessed_bytes)
        self._due = self._dues[0]
        self.buffer_updated(message_bytes)

    def _advance(self) -> None:
        """One message or more are through: as many more may go."""
        now = perf_counter()
        dues = self._dues
        while dues and self.bytes >= dues[0]:
            self._through += 1
            self._through_bytes = dues.popleft()
            sent_at = self._sent_at.popleft()
            if self.run.counting:
                self.latencies_ms.append((now - sent_at) * 1000)
            if self.run.sending:
                self.publish()
        self._due = dues[0] if dues else inf

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.fail("a subscriber lost its connection")

    def deliveries(self) -> float:
        """How many there have been; of messages on their way, by their bytes."""
        return self._through * self._subscribers + (self.bytes - self._through_bytes) / (self.last_bytes or 1)

    def is_drained(self) -> bool:
        return self._through == self.published

    def missing(self) -> str:
        return f"{self.published * self._subscribers - self.deliveries():.0f} deliveries did not come"

    def surplus_bytes(self) -> int:
        """What came beside the messages."""
        return self.bytes - self._through_bytes
