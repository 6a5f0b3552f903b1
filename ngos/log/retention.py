"""What the log holds, and for how long: old events and old replies go, in small bites that nobody waits for.

Events go in two steps. First the topic's row says that they are gone (`pruned`): a statement of its own, that holds up
an append for as long as one more append would. A round later they are deleted, without that row, by a node that has
seen the mark for a round itself. So there is time for other nodes to hear of it, and for replays that are under way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
import trio
from attrs import define, field, frozen

from ngos.errors import StorageUnavailable
from ngos.log import replies
from ngos.log.hub import Hub
from ngos.postgres.pool import Pool

ROUND_S: Final = 10.0
"""Between two rounds, give or take a half: nodes need not prune at the same time, and it does no harm if they do."""
BITE_ROWS: Final = 1000
BITE_PAUSE_S: Final = 0.01
"""After each bite: commits come first. 1,000 events in 10 ms are more than can be written in that time."""
PAGE_TOPICS: Final = 500

_TOPICS: Final = """
select topic_id, topic, seq, pruned,
    (select created_at from events where events.topic_id = topics.topic_id and events.seq > pruned
        order by events.seq limit 1),
    exists(select from events where events.topic_id = topics.topic_id and events.seq <= pruned)
from topics where topic_id > %s order by topic_id limit %s
"""

_CREATED_AT: Final = "select created_at from events where topic_id = %s and seq = %s"

_MARK: Final = "update topics set pruned = %s where topic_id = %s and pruned < %s"

_SWEEP: Final = """
delete from events where ctid = any(array(
    select ctid from events where topic_id = %s and seq <= %s order by seq limit %s
))
"""

_log = structlog.get_logger("ngos.retention")


@frozen
class _Topic:
    """A topic's row, the time of its oldest event, and whether events that were marked before are still there."""

    topic_id: int
    name: str
    seq: int
    pruned: int
    oldest_at: datetime | None
    unswept: bool


@define(eq=False)
class Retention:
    """Keeps at most `events` events of each topic, none older than `age_s`, and replies for `replies_s`."""

    _pool: Pool
    _hub: Hub
    _age_s: float
    _events: int
    _replies_s: float
    _clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    events_pruned: int = field(init=False, default=0)
    replies_forgotten: int = field(init=False, default=0)
    _marked: dict[int, int] = field(init=False, factory=dict)  # where the mark was a round ago, of what is to be swept

    def keep(self, age_s: float, events: int, replies_s: float) -> None:
        """Keep other amounts from the next round on."""
        self._age_s, self._events, self._replies_s = age_s, events, replies_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do a round now and then, until cancelled. The database failing only puts it off."""
        task_status.started()
        while True:
            try:
                await self.round()
            except StorageUnavailable as exc:
                _log.warning("retention.failed", reason=str(exc))
            await trio.sleep(ROUND_S * random.uniform(0.5, 1.5))  # noqa: S311

    async def round(self) -> None:
        """Delete what was marked before, mark what has become too much or too old, and forget old replies.

        Raises StorageUnavailable; what was done by then stays done. Cancelled, it is as if the round had ended.
        """
        before, self._marked = self._marked, {}
        last_id = 0
        while topics := await self._topics_behind(last_id):
            for topic in topics:
                if topic.topic_id in before:
                    await self._sweep(topic, before[topic.topic_id])
                pruned = await self._mark(topic)
                if topic.unswept or pruned > topic.pruned:
                    self._marked[topic.topic_id] = pruned
            last_id = topics[-1].topic_id
        too_old = self._clock() - timedelta(seconds=self._replies_s)
        forgotten = BITE_ROWS
        while forgotten == BITE_ROWS:
            async with self._pool.connection() as conn:
                forgotten = await replies.forget(conn, too_old, BITE_ROWS)
            self.replies_forgotten += forgotten
            await trio.sleep(BITE_PAUSE_S)

    async def _topics_behind(self, last_id: int) -> list[_Topic]:
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_TOPICS, [last_id, PAGE_TOPICS])).fetchall()
        return [_Topic(*row) for row in rows]

    async def _sweep(self, topic: _Topic, upto: int) -> None:
        swept = BITE_ROWS
        while swept == BITE_ROWS:
            async with self._pool.connection() as conn:
                swept = (await conn.execute(_SWEEP, [topic.topic_id, upto, BITE_ROWS])).rowcount
            self.events_pruned += swept
            await trio.sleep(BITE_PAUSE_S)

    async def _mark(self, topic: _Topic) -> int:
        """Mark what is to go; returns up to where that is now."""
        cutoff = self._clock() - timedelta(seconds=self._age_s)
        upto = topic.seq - self._events
        if topic.oldest_at is not None and topic.oldest_at < cutoff:
            upto = max(upto, await self._last_before(topic, cutoff))
        if upto <= topic.pruned:
            return topic.pruned
        async with self._pool.connection() as conn:
            await conn.execute(_MARK, [upto, topic.topic_id, upto])
        _log.info("events.pruned", topic=topic.name, upto=upto)
        here = self._hub.topic(topic.name)
        if here is not None and here.pruned is not None:
            here.pruned = max(here.pruned, upto)
        return upto

    async def _last_before(self, topic: _Topic, cutoff: datetime) -> int:
        """The last event that is older; there is one. Events of a topic are about as old as their order says."""
        old, young = topic.pruned + 1, topic.seq + 1
        async with self._pool.connection() as conn:
            while young - old > 1:
                middle = (old + young) // 2
                row = await (await conn.execute(_CREATED_AT, [topic.topic_id, middle])).fetchone()
                if row is None or row[0] < cutoff:  # another node has swept it
                    old = middle
                else:
                    young = middle
        return old
