"""How a read comes to its answer: from this process, from Redis, or from the database; always one that is true now.

Promises: an answer is true at a position that the log had after the read came, so no read is answered with less than
what any node had answered before. Of those who ask the same at the same time, one looks. Who came after that one had
begun takes what it found only if it still holds. Cancelled, who looks leaves it to the next.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import trio
from attrs import define, field

from ngos.backplane.line import Cluster
from ngos.cache.entry import Entry, Found, key_of
from ngos.cache.heads import Heads
from ngos.cache.memory import Memory
from ngos.cache.shared import Shared
from ngos.config import Settings
from ngos.errors import StorageUnavailable
from ngos.log.write import Encoded
from ngos.postgres.pool import Pool
from ngos.protocol.commands import Command
from ngos.protocol.faults import CommandFailed
from ngos.protocol.messages import Reply
from ngos.redis import parse

WORTH_S: Final = 0.0005
"""What is found faster is not kept: to ask the log whether it still holds takes half of that (0.24 ms of 0.5)."""
SHARED_WORTH: Final = 2
"""How many times that it must have taken to be asked of Redis, which takes 0.4 ms more."""
ENTRY_BYTES: Final = 1024 * 1024
"""What is larger is not kept."""
CHEAP_KEYS: Final = 10_000
"""Reads that are remembered to be cheap, so that Redis is not asked for them."""
SOURCES: Final = ("memory", "redis", "database", "joined")

A = TypeVar("A", bound=Reply | Encoded)
C = TypeVar("C", bound=Command)
Find = Callable[[C], Awaitable[Found | Reply]]
"""Asks the database. A reply that is no Found is never kept. Raises CommandFailed and StorageUnavailable."""


class Answering(Protocol):
    """How a read is answered: `Cache.answer`, or `directly`."""

    async def __call__(self, command: C, find: Find[C], /) -> Reply | Encoded: ...


async def directly(command: C, find: Find[C], /) -> Reply | Encoded:
    """Without a cache."""
    found = await find(command)
    return found.reply if isinstance(found, Found) else found


@define(eq=False)
class _Search:
    """Somebody looks. `number`: the how manieth search. Done, it has an answer, or why there is none, or neither."""

    number: int
    done: trio.Event = field(factory=trio.Event)
    answer: Reply | Encoded | None = None
    entry: Entry | None = None
    failure: CommandFailed | StorageUnavailable | None = None


@define(eq=False)
class Cache:
    """See the module. `limit_s`: what one answer may take. `worth_s`: what is found faster is not kept.

    `answers` counts by where they came from: `joined` those that another read was looking for. `invalidated` counts
    entries that did not hold any more.
    """

    heads: Heads
    memory: Memory
    shared: Shared | None
    _limit_s: float
    _worth_s: float = WORTH_S
    answers: Counter[str] = field(init=False, factory=lambda: Counter(dict.fromkeys(SOURCES, 0)))
    invalidated: int = field(init=False, default=0)
    _searches: dict[bytes, _Search] = field(init=False, factory=dict)
    _begun: int = field(init=False, default=0)
    _cheap: OrderedDict[bytes, None] = field(init=False, factory=OrderedDict)

    @classmethod
    def of(cls, settings: Settings, pool: Pool) -> Cache:
        """As the settings have it. Raises SetupError, where Redis is asked for and can't be had."""
        shared = None
        if settings.cache_bytes and settings.redis_url is not None:
            shared = Shared(parse(str.__str__(settings.redis_url)), settings.cache_age_s)
        return cls(Heads(pool), Memory(settings.cache_bytes, settings.cache_age_s), shared, settings.database_query_s)

    async def run(self, cluster: Cluster) -> None:
        """Keep what is shared, until cancelled."""
        if self.shared is None:
            await trio.sleep_forever()
        else:
            await self.shared.run(cluster)

    async def answer(self, command: C, find: Find[C], /) -> Reply | Encoded:
        """Answer a read. Raises what `find` does, and StorageUnavailable after `limit_s` seconds."""
        if not self.memory.room_bytes:
            return await directly(command, find)
        with trio.move_on_after(self._limit_s):
            return await self._answer(key_of(command), command, find)
        raise StorageUnavailable(f"no answer from the database within {self._limit_s:g} s")

    async def _answer(self, key: bytes, command: C, find: Find[C]) -> Reply | Encoded:
        came, ticket = self._begun, self.heads.ticket
        entry = self.memory.get(key, trio.current_time())
        if entry is not None:
            if (answer := await self._proven(entry, ticket)) is not None:
                return self._count("memory", answer)
            self.memory.drop(key, entry)
        while (search := self._searches.get(key)) is not None:
            await search.done.wait()
            if search.number > came:  # it began after this read came: whatever it has found is as good as our own
                if search.failure is not None:
                    raise search.failure
                if search.answer is not None:
                    return self._count("joined", search.answer)
            elif search.entry is not None and (answer := await self._proven(search.entry, ticket)) is not None:
                return self._count("joined", answer)
        return await self._search(key, command, find)

    async def _search(self, key: bytes, command: C, find: Find[C]) -> Reply | Encoded:
        self._begun += 1
        search = self._searches[key] = _Search(self._begun)
        try:
            search.entry = await self._look_elsewhere(key)
            if search.entry is not None:
                search.answer = self._count("redis", _encoded(search.entry))
            else:
                search.answer, search.entry = await self._find(key, command, find)
            return search.answer
        except (CommandFailed, StorageUnavailable) as exc:
            search.failure = exc
            raise
        finally:
            del self._searches[key]
            search.done.set()

    async def _look_elsewhere(self, key: bytes) -> Entry | None:
        """What is kept elsewhere, if it holds at a position that is asked for only now."""
        if self.shared is None or key in self._cheap:
            return None
        entry = await self.shared.get(key)
        if entry is None or await self._proven(entry, self.heads.ticket) is None:
            return None
        self.memory.put(key, entry, trio.current_time())
        return entry

    async def _find(self, key: bytes, command: C, find: Find[C]) -> tuple[Reply | Encoded, Entry | None]:
        began = trio.current_time()
        found = await find(command)
        took_s = trio.current_time() - began
        self.answers["database"] += 1
        if not isinstance(found, Found):
            return found, None
        entry = Entry.of(found)
        is_cheap = took_s < SHARED_WORTH * self._worth_s
        if is_cheap:
            self._cheap[key] = None
            if len(self._cheap) > CHEAP_KEYS:
                self._cheap.popitem(last=False)
        else:
            self._cheap.pop(key, None)
        if took_s >= self._worth_s and entry.size_bytes <= min(ENTRY_BYTES, self.memory.room_bytes):
            self.memory.put(key, entry, trio.current_time())
            if self.shared is not None and not is_cheap:
                self.shared.put(key, entry)
        return _encoded(entry), entry

    async def _proven(self, entry: Entry, ticket: int) -> Encoded | None:
        """The answer, at the head that the log had after the ticket was taken; None: it does not hold any more."""
        await self.heads.since(ticket)
        touches = self.heads[entry.topic]
        if not touches.holds(entry.epoch, entry.seq, entry.tags):
            self.invalidated += 1
            return None
        entry.seq = touches.head
        return _encoded(entry)

    def _count(self, source: str, answer: A) -> A:
        self.answers[source] += 1
        return answer


def _encoded(entry: Entry) -> Encoded:
    return Encoded(entry.type, entry.payload())
