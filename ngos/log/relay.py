"""What committed, in order, to the hub. Events reach it only in `seq` order: a hole is read from the log, not skipped.

The committer tells what it committed; `doubt` tells that something may have been committed that nobody told of (the
database failed before it answered a commit). Cancelled or failing, the relay loses nothing: the log is the truth.

Where the log is behind what clients were told, or its epoch is another, it went back under this server (a restore):
then nothing that the server knows is true. LogWentBack ends it, and the next start gives new epochs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import psycopg
import structlog
import trio
from attrs import define, field

from ngos.errors import LogWentBack, StorageUnavailable
from ngos.log import store
from ngos.log.hub import Hub
from ngos.log.store import LoggedEvent
from ngos.log.topic import Topic
from ngos.postgres import identity
from ngos.postgres.pool import Pool
from ngos.protocol.catalog import OWN_DURABLE_TOPICS
from ngos.pulse import Pulse

QUEUE_BATCHES: Final = 64
"""Committed batches that wait for the relay; past it the committer waits, and with it all who write."""
PAGE_EVENTS: Final = 1000
RETRY_S: Final = 0.25
COMPARE_S: Final = 5.0
"""Topics are compared with the log this often: a commit that was given up may take place much later."""

_log = structlog.get_logger("ngos.relay")


@define(eq=False)
class Relay:
    """See the module. `run` is the one task.

    `heads`: the last event of each own durable topic that this node knows of.
    """

    _hub: Hub
    _pool: Pool
    pulse: Pulse = field(factory=lambda: Pulse("relay", math.inf))
    heads: dict[str, int] = field(init=False, factory=dict)
    _queue: deque[tuple[Sequence[LoggedEvent], float]] = field(init=False, factory=deque)
    _compare_at: float = field(init=False, default=math.inf)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _room: trio.Event = field(init=False, factory=trio.Event)

    def advance(self, events: Sequence[LoggedEvent]) -> None:
        """Tell what was committed, before anybody is answered; `announce` follows with the same events.

        LogWentBack: the epoch is not the one that subscribers know.
        """
        for event in events:
            if event.topic in OWN_DURABLE_TOPICS and event.seq is not None:
                self.heads[event.topic] = event.seq
            topic = self._hub.topic(event.topic)
            if topic is not None and event.seq is not None:
                if topic.epoch not in (None, event.epoch):
                    raise _went_back(event.topic, f"its epoch was {topic.epoch} and is {event.epoch}")
                topic.epoch, topic.head = event.epoch, max(topic.head or 0, event.seq)
                if topic.relayed is None:  # its first read is under way, and may know of more than was relayed
                    topic.start_behind(event.seq - 1)

    async def announce(self, events: Sequence[LoggedEvent]) -> None:
        """Queue committed events for the hub. Without a checkpoint while there is room."""
        # What nobody here is subscribed to needs no way: who subscribes later asks the log for the position.
        if any(self._hub.topic(event.topic) is not None for event in events):
            await self._enqueue((events, trio.current_time()))

    def doubt(self) -> None:
        """Have every topic compared with the log, soon."""
        self._compare_at = -math.inf
        self._arrived.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled."""
        task_status.started()
        self._compare_at = min(self._compare_at, trio.current_time() + COMPARE_S)
        while True:
            if not self._queue and self._compare_at > trio.current_time():
                self._arrived = trio.Event()
                self.pulse.rest()
                with trio.move_on_at(self._compare_at):
                    await self._arrived.wait()
            self.pulse.beat()
            if self._compare_at <= trio.current_time():
                # First of all when it is: a doubt that comes while we compare must be heard.
                self._compare_at = trio.current_time() + COMPARE_S
                if not await self._compare_with_log():
                    self._compare_at = min(self._compare_at, trio.current_time() + RETRY_S)
            if not self._queue:
                continue
            events, committed_at = self._queue.popleft()
            self._room.set()
            for name, of_topic in groupby(sorted(events, key=attrgetter("topic")), key=attrgetter("topic")):
                topic = self._hub.topic(name)
                if topic is not None:
                    await self._relay(topic, list(of_topic), committed_at)

    async def _enqueue(self, item: tuple[Sequence[LoggedEvent], float]) -> None:
        while len(self._queue) >= QUEUE_BATCHES:
            self._room = trio.Event() if self._room.is_set() else self._room
            await self._room.wait()
        self._queue.append(item)
        self._arrived.set()

    async def _relay(self, topic: Topic, events: list[LoggedEvent], committed_at: float) -> None:
        after = topic.relayed
        if after is not None:
            events = [event for event in events if event.seq is not None and event.seq > after]
            if not events:
                return
            assert events[0].seq is not None
            if events[0].seq > after + 1:
                await self._fill(topic, upto=events[0].seq - 1)
        await self._hub.put(topic, events, committed_at)
        topic.relayed = events[-1].seq

    async def _fill(self, topic: Topic, upto: int) -> None:
        """Read a hole from the log, page by page; while the database is away, wait for it."""
        _log.info("relay.hole", topic=topic.name, after=topic.relayed, upto=upto)
        while topic.relayed is not None and topic.relayed < upto and not topic.closed:
            self.pulse.beat()
            try:
                async with self._pool.connection() as conn:
                    page = await store.read(conn, topic.name, topic.relayed, upto, PAGE_EVENTS)
            except StorageUnavailable:
                await trio.sleep(RETRY_S)
                continue
            if not page or page[0].seq != topic.relayed + 1:
                # Pruned, before we came to it. Nobody is given what follows as if nothing was before.
                _log.warning("relay.overtaken", topic=topic.name, after=topic.relayed, upto=upto)
                self._hub.overtaken(topic)
                topic.relayed = upto
                return
            await self._hub.put(topic, page)
            topic.relayed = page[-1].seq

    async def _compare_with_log(self) -> bool:
        """Deliver what the log has and nobody told of; returns whether the log could be asked."""
        topics = {topic: (topic.epoch, topic.head or 0) for topic in self._hub.durable_topics()}
        if not topics:
            return True
        try:
            async with self._pool.connection() as conn:
                extents = await store.read_extents(conn, [topic.name for topic in topics])
        except StorageUnavailable:
            return False
        for topic, (epoch, told) in topics.items():
            extent = extents.get(topic.name)
            seq = 0 if extent is None else extent.seq
            if extent is None or seq < told:
                raise await self._doubted(topic.name, f"clients were told of {told}, and its last is {seq}")
            if epoch not in (None, extent.epoch):
                raise _went_back(topic.name, f"its epoch was {epoch} and is {extent.epoch}")
            topic.pruned = extent.pruned
            if told < seq:  # up to `told` it is relayed, or on its way
                topic.head = max(topic.head or 0, seq)
                await self._fill(topic, upto=seq)
        return True

    async def _doubted(self, topic: str, what: str) -> LogWentBack:
        """The same, noted in the database, whose identity may be as it was."""
        failure = _went_back(topic, what)
        try:
            async with self._pool.connection() as conn:
                await identity.doubt(conn, str(failure))
        except (StorageUnavailable, psycopg.Error) as exc:  # the table, too, may be as it was: not there
            _log.error("log.doubt_not_noted", reason=str(exc), hint="run ngos migrate --new-epochs")
        return failure


def _went_back(topic: str, what: str) -> LogWentBack:
    _log.error("log.went_back", topic=topic, reason=what)
    return LogWentBack(f"the log of {topic} went back under this server: {what}; start again, for new epochs")
