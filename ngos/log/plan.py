"""Which writes of a batch may be applied together: pure.

Set-based SQL applies one kind of write at a time, so a batch is cut into groups that are applied one after the other.
Two rules keep the outcome the same as if each write had its turn: the writes of one connection (its lane) never
overtake each other, and within a group nothing is touched twice (the key).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from attrs import define, field

K = TypeVar("K", bound=Hashable)
W = TypeVar("W")


@define
class Group(Generic[K, W]):
    """Writes of one kind, to be applied by one statement."""

    kind: K
    writes: list[W] = field(factory=list)
    keys: set[Hashable] = field(factory=set)


@define
class Plan(Generic[K, W]):
    """A batch as it grows: its groups, in the order in which to apply them, `most` at most."""

    most: float = math.inf
    groups: list[Group[K, W]] = field(init=False, factory=list)
    _last_of_kind: dict[K, int] = field(init=False, factory=dict)
    _last_of_lane: dict[Hashable, int] = field(init=False, factory=dict)

    def add(self, kind: K, lane: Hashable, key: Hashable | None, write: W) -> bool:
        """Add a write; False: it would need a group more than there may be, and is not added.

        It joins the last group of its kind, unless its lane has gone on to a later group or the group touches its key
        already; then it starts a new group at the end. So nothing is ever applied before an earlier write of its lane.
        """
        index = self._last_of_kind.get(kind, -1)
        if index < self._last_of_lane.get(lane, 0) or (key is not None and key in self.groups[index].keys):
            index = len(self.groups)
            if index >= self.most:
                return False
            self.groups.append(Group(kind))
            self._last_of_kind[kind] = index
        group = self.groups[index]
        group.writes.append(write)
        if key is not None:
            group.keys.add(key)
        self._last_of_lane[lane] = index
        return True


def plan(batch: Iterable[tuple[K, Hashable, Hashable | None, W]]) -> list[Group[K, W]]:
    """Cut a whole batch of (kind, lane, key or None, write) into groups."""
    whole: Plan[K, W] = Plan()
    for kind, lane, key, write in batch:
        whole.add(kind, lane, key, write)
    return whole.groups
