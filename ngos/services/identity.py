"""UUIDs of version 7 (RFC 9562 section 5.7): they sort by the time they were made, so indexes grow at their end."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

from attrs import define, field


@define
class Uuid7:
    """Makes UUIDs that ascend, within one process.

    The 42 bits after the millisecond are a counter that starts anywhere (section 6.2, method 1), the last 32 are this
    process's own: two nodes would need the same of both, in the same millisecond.
    """

    _last_ms: int = field(init=False, default=0)
    _counter: int = field(init=False, default=0)
    _node: int = field(init=False, factory=lambda: secrets.randbits(32))

    def __call__(self) -> UUID:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > self._last_ms:
            self._last_ms = now_ms
            self._counter = secrets.randbits(41)  # half of its range: room to count up
        else:  # the same millisecond, or the clock went back
            self._counter += 1
            if self._counter >> 42:
                self._last_ms += 1
                self._counter = secrets.randbits(41)
        high, low = divmod(self._counter, 1 << 30)
        number = self._last_ms << 80 | 7 << 76 | high << 64 | 2 << 62 | low << 32 | self._node
        return UUID(int=number)


uuid7 = Uuid7()
