"""The question to the log: where it is, and what has happened since the last one. One for all who wait for it.

Promises: what `since` has waited for was asked after the ticket was taken, so it knows of everything that had been
answered by then, by whatever node. One question is under way at a time; who comes meanwhile shares the next.
"""

from __future__ import annotations

from typing import Any, Final

import trio
from attrs import define, field

from ngos.cache.tags import BEGINNING_CHARS, TOPICS, Change, read_change
from ngos.cache.touches import Touches
from ngos.postgres.pool import Pool

MOST_EVENTS: Final = 1000
"""Behind the head that are read at once, of each topic: about 5 ms. If there are more, what was before is forgotten."""

# An event is not read twice, and of its payload only the beginning, as text: Postgres refuses to look into JSON that
# has \u0000 in it somewhere, which clients may write.
_QUESTION: Final = f"""
select topic, epoch, topics.seq, event.* from topics
join (values ('graph', %s::int8), ('tokens', %s::int8)) as known(topic, seq) using (topic)
left join lateral (
    select seq, type, left(payload::text, {BEGINNING_CHARS}) from events where events.topic_id = topics.topic_id
        and events.seq > greatest(known.seq, topics.seq - {MOST_EVENTS}) order by seq
) as event on true
order by topic, event.seq
"""


@define(eq=False)
class Heads:
    """See the module. `asked`: how many questions there were."""

    _pool: Pool
    _touches: dict[str, Touches] = field(init=False, factory=lambda: {topic: Touches() for topic in TOPICS})
    asked: int = field(init=False, default=0)
    _answered: int = field(init=False, default=0)
    _under_way: trio.Event | None = field(init=False, default=None)

    @property
    def ticket(self) -> int:
        """For `since`: it stands for this moment."""
        return self.asked

    def __getitem__(self, topic: str) -> Touches:
        return self._touches[topic]

    async def since(self, ticket: int) -> None:
        """Wait until a question has been answered that was asked after the ticket was taken.

        Raises StorageUnavailable. Cancelled, it leaves the question to the others who wait.
        """
        while self._answered <= ticket:
            if self._under_way is not None:
                await self._under_way.wait()
            else:
                await self._ask()

    async def _ask(self) -> None:
        self.asked += 1
        number = self.asked
        under_way = self._under_way = trio.Event()
        try:
            known = [self._touches[topic].head for topic in TOPICS]
            async with self._pool.connection() as conn:
                rows = await (await conn.execute(_QUESTION, known)).fetchall()
            self._learn(rows)
            self._answered = number
        finally:
            self._under_way = None
            under_way.set()

    def _learn(self, rows: list[tuple[Any, ...]]) -> None:
        changes: dict[str, list[Change | None]] = {topic: [] for topic in TOPICS}
        heads = {}
        for topic, epoch, head, seq, type_, beginning in rows:
            heads[topic] = epoch, head
            if seq is not None:
                changes[topic].append(read_change(seq, type_, beginning))
        for topic, (epoch, head) in heads.items():
            # With one that can't be read, of a version to come, it is as if none had been: what is kept is past.
            known = [change for change in changes[topic] if change is not None]
            self._touches[topic].learn(epoch, head, known if len(known) == len(changes[topic]) else [])
