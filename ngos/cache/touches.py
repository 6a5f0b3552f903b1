"""When each tag was touched last, in one topic, as far as is known. Pure.

Promises: `holds` says yes only to what was true at a position that the log has, and of which nothing was touched up to
`head`. It takes bounded memory: what is forgotten raises the floor, and from below it nothing holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import define, field

from ngos.cache.tags import Change, touched_by

MOST_TAGS: Final = 20_000
"""About 4 MB."""


@define(eq=False)
class Touches:
    """See the module. `head` is the last event that is known of; of those up to `floor` it is not known what they were.

    `most` is how many tags are remembered.
    """

    most: int = MOST_TAGS
    epoch: str | None = field(init=False, default=None)
    head: int = field(init=False, default=0)
    floor: int = field(init=False, default=0)
    _seqs: OrderedDict[str, int] = field(init=False, factory=OrderedDict)  # in the order of the numbers

    def learn(self, epoch: str, head: int, changes: Sequence[Change]) -> None:
        """The log is at `head`, and these are its last events: all behind the head of before, or what there is."""
        known = self.head if epoch == self.epoch and head >= self.head else None
        behind = [change for change in changes if known is None or change.seq > known]
        # Whole, if they are as many as the numbers from the first of them to the head.
        first = behind[0].seq if behind else head + 1
        if len(behind) != head - first + 1:
            first, behind = head + 1, []
        if known is None or first != known + 1:
            self._seqs.clear()
            self.floor = first - 1
        self.epoch, self.head = epoch, head
        for change in behind:
            for tag in touched_by(change):
                self._seqs[tag] = change.seq
                self._seqs.move_to_end(tag)
        while len(self._seqs) > self.most:
            _, self.floor = self._seqs.popitem(last=False)

    def holds(self, epoch: str, seq: int, tags: Iterable[str]) -> bool:
        """Whether what was true at a position, and depends on these tags, is true at `head`."""
        if epoch != self.epoch or not self.floor <= seq <= self.head:
            return False
        return seq == self.head or all(self._seqs.get(tag, 0) <= seq for tag in tags)
