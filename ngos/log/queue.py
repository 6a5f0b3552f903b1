"""The writes that wait for the committer: each batch takes one of every connection in turn; nobody waits for a crowd.

A connection that has sent hundreds, or whose writes can't be applied together, is served as far as it fits beside the
others: what it sent longest ago, and in its order. Sync.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any, Final

from attrs import define, field

from ngos.config import MIB
from ngos.log.plan import Plan
from ngos.log.write import Handler, Write

BATCH_WRITES: Final = 512
BATCH_BYTES: Final = MIB
BATCH_GROUPS: Final = 8
"""Statements of a batch, about; 500 updates of one token would be as many, and take as long as a deadline is."""


@define(eq=False)
class FairQueue:
    """Writes by lane. `size_bytes` is what waits."""

    size_bytes: int = field(init=False, default=0)
    _lanes: OrderedDict[Hashable, deque[Write[Any]]] = field(init=False, factory=OrderedDict)

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def put(self, write: Write[Any]) -> None:
        self.size_bytes += write.size_bytes
        waiting = self._lanes.get(write.lane)
        if waiting is None:
            self._lanes[write.lane] = deque((write,))
        else:
            waiting.append(write)

    def take(self) -> list[Write[Any]]:
        """The next batch, in the order of its rounds; empty where nothing waits."""
        batch: list[Write[Any]] = []
        batch_bytes = 0
        fits: Plan[Handler, None] = Plan(BATCH_GROUPS)
        left_out: list[tuple[Hashable, deque[Write[Any]]]] = []
        while self._lanes and len(batch) < BATCH_WRITES and batch_bytes < BATCH_BYTES:
            lane, waiting = self._lanes.popitem(last=False)
            write = waiting[0]
            if not fits.add(write.handler, lane, write.handler.key(write.command), None):
                left_out.append((lane, waiting))
                continue
            batch.append(waiting.popleft())
            batch_bytes += write.size_bytes
            if waiting:
                self._lanes[lane] = waiting
        for lane, waiting in reversed(left_out):  # they are the first of the next
            self._lanes[lane] = waiting
            self._lanes.move_to_end(lane, last=False)
        self.size_bytes -= batch_bytes
        return batch

    def take_all(self) -> list[Write[Any]]:
        """Everything, of one connection after the other."""
        writes = [write for waiting in self._lanes.values() for write in waiting]
        self._lanes.clear()
        self.size_bytes = 0
        return writes
