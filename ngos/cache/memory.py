"""The answers in this process: the least used go first when there is no more room. Sync, and knows no clock."""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from ngos.cache.entry import Entry


@define(eq=False)
class Memory:
    """Keeps entries, `room_bytes` of them at most, for `age_s` seconds. `size_bytes` is what they take."""

    room_bytes: int
    _age_s: float
    size_bytes: int = field(init=False, default=0)
    _entries: OrderedDict[bytes, tuple[Entry, float, int]] = field(init=False, factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> Entry | None:
        kept = self._entries.get(key)
        if kept is None:
            return None
        entry, until, _ = kept
        if now >= until:
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry, now: float) -> None:
        self.drop(key)
        size_bytes = entry.size_bytes
        self._entries[key] = entry, now + self._age_s, size_bytes
        self.size_bytes += size_bytes
        while self.size_bytes > self.room_bytes:
            self.drop(next(iter(self._entries)))

    def drop(self, key: bytes, only: Entry | None = None) -> None:
        """Forget what is kept under a key; with `only`, if it is that."""
        kept = self._entries.get(key)
        if kept is not None and (only is None or kept[0] is only):
            del self._entries[key]
            self.size_bytes -= kept[2]
