"""What committed, in order, to the hub. Events reach it only in `seq` order: a hole is read from the log, not skipped.

The committer tells what it committed, and the other nodes hear of it; `hear` is told what they committed. `doubt` tells
that something may have been committed that nobody told of (the database failed before it answered a commit). Cancelled
or failing, the relay loses nothing: the log is the truth, and topics are compared with it all the time.

Where the log is behind what clients were told, or its epoch is another, it went back under this server (a restore):
then nothing that the server knows is true. LogWentBack ends it, and the next start gives new epochs.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final

import psycopg
import structlog
import trio
from attrs import define, field

from ngos.backplane.line import Line
from ngos.errors import LogWentBack, StorageUnavailable
from ngos.log import store, wakeup
from ngos.log.hub import Hub
from ngos.log.store import LoggedEvent
from ngos.log.topic import Topic
from ngos.log.wakeup import Wakeup
from ngos.postgres import identity
from ngos.postgres.pool import Pool
from ngos.protocol.catalog import OWN_DURABLE_TOPICS
from ngos.pulse import Pulse

QUEUE_BATCHES: Final = 64
"""Committed batches that wait for the relay; past it the committer waits, and with it all who write."""
PAGE_EVENTS: Final = 1000
RETRY_S: Final = 0.25
COMPARE_ALONE_S: Final = 5.0
"""Topics are compared with the log this often: a commit that was given up may take place much later."""
COMPARE_S: Final = 1.0
"""The same where there are other nodes: of the last message that was lost, nothing else tells."""

HOLE_S: Final = 0.02
"""How long what is missing before a commit is waited for: another node has committed it, and is about to say so.

With writers on two nodes, every second commit is heard of before the one that came first; read from the log, that would
be a query for each of them, on each node.
"""

_log = structlog.get_logger("ngos.relay")


@define(eq=False)
class _Early:
    """Batches of a topic that came before what precedes them, in their order, and until when that is waited for."""

    until: float
    batches: list[tuple[Sequence[LoggedEvent], float]] = field(init=False, factory=list)


def _first_of(batch: tuple[Sequence[LoggedEvent], float]) -> int:
    return batch[0][0].seq or 0


@define(eq=False)
class Relay:
    """See the module. `run` is the one task.

    `heads`: the last event of each own durable topic that this node knows of. `holes`: how often events were read
    that were missing before one that was told of. `compared`: events that only the comparison with the log has found.
    `epochs_at`: since when the topics have their epochs, by the database's clock; None: not known yet.
    """

    _hub: Hub
    _pool: Pool
    pulse: Pulse = field(factory=lambda: Pulse("relay", math.inf))
    _line: Line = field(factory=lambda: Line(None))
    epochs_at: datetime | None = field(init=False, default=None)
    heads: dict[str, int] = field(init=False, factory=dict)
    holes: int = field(init=False, default=0)
    compared: int = field(init=False, default=0)
    _queue: deque[tuple[Sequence[LoggedEvent], float] | Wakeup] = field(init=False, factory=deque)
    _early: dict[Topic, _Early] = field(init=False, factory=dict)
    _compare_at: float = field(init=False, default=math.inf)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _room: trio.Event = field(init=False, factory=trio.Event)

    def advance(self, events: Sequence[LoggedEvent]) -> None:
        """Tell what was committed, before anybody is answered; `announce` follows with the same events.

        LogWentBack: the epoch is not the one that subscribers know.
        """
        for event in events:
            if event.topic in OWN_DURABLE_TOPICS and event.seq is not None:
                self.heads[event.topic] = max(self.heads.get(event.topic, 0), event.seq)
            topic = self._hub.topic(event.topic)
            if topic is not None and event.seq is not None:
                if topic.epoch not in (None, event.epoch):
                    raise _went_back(event.topic, f"its epoch was {topic.epoch} and is {event.epoch}")
                topic.expect(event.epoch, event.seq, event.seq)

    async def announce(self, events: Sequence[LoggedEvent]) -> None:
        """Queue committed events for the hub, and tell the other nodes. Without a checkpoint while there is room."""
        if events and not self._line.is_alone:
            self._line.send(wakeup.KIND, wakeup.write(events, self._hub.encode, self._line.bundle_bytes))
        # What nobody here is subscribed to needs no way: who subscribes later asks the log for the position.
        if any(self._hub.topic(event.topic) is not None for event in events):
            await self._enqueue((events, trio.current_time()))

    def hear(self, _node_id: str, body: bytes) -> None:
        """Another node has committed. As `ngos.backplane.line.Hearer`."""
        for told in wakeup.read(body):
            if told.topic in OWN_DURABLE_TOPICS:
                self.heads[told.topic] = max(self.heads.get(told.topic, 0), told.last)
            topic = self._hub.topic(told.topic)
            if topic is None:
                continue
            if topic.epoch not in (None, told.epoch) or len(self._queue) >= QUEUE_BATCHES:
                self.doubt()
                continue
            topic.expect(told.epoch, told.first, told.last, is_late=True)
            self._queue.append((told.events, trio.current_time()) if told.events else told)
            self._arrived.set()

    def doubt(self) -> None:
        """Have every topic compared with the log, soon."""
        self._compare_at = -math.inf
        self._arrived.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled."""
        task_status.started()
        compare_s = COMPARE_ALONE_S if self._line.is_alone else COMPARE_S
        self._compare_at = min(self._compare_at, trio.current_time() + compare_s)
        while True:
            due_at = min([self._compare_at, *(early.until for early in self._early.values())])
            if not self._queue and due_at > trio.current_time():
                self._arrived = trio.Event()
                self.pulse.rest()
                with trio.move_on_at(due_at):
                    await self._arrived.wait()
            self.pulse.beat()
            await self._fill_overdue()
            if self._compare_at <= trio.current_time():
                # First of all when it is: a doubt that comes while we compare must be heard.
                self._compare_at = trio.current_time() + compare_s
                if not await self._compare_with_log():
                    self._compare_at = min(self._compare_at, trio.current_time() + RETRY_S)
            if not self._queue:
                continue
            item = self._queue.popleft()
            self._room.set()
            if isinstance(item, Wakeup):
                topic = self._hub.topic(item.topic)
                if topic is not None and item.epoch == topic.epoch:
                    await self._fill(topic, item.last)
                continue
            events, committed_at = item
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

    async def _relay(self, topic: Topic, events: Sequence[LoggedEvent], committed_at: float) -> None:
        """Hand on a batch, or put it by until what comes before it has come, or HOLE_S are over."""
        if topic.relayed is None and topic.first_read is not None:
            return  # of before the topic was closed and opened again: what is read now is behind these
        if events[0].epoch != topic.epoch:
            return  # told of before the first read was over, which has shown that they are another log's
        early = self._early.get(topic)
        if early is None and (topic.relayed is None or events[0].seq == topic.relayed + 1):
            await self._put(topic, events, committed_at)
            return
        if early is None:
            early = self._early[topic] = _Early(trio.current_time() + HOLE_S)
        insort(early.batches, (events, committed_at), key=_first_of)
        will_come = not self._line.is_alone and self._line.lost is None and len(early.batches) < QUEUE_BATCHES
        await self._catch_up(topic, early, may_read=not will_come)

    async def _catch_up(self, topic: Topic, early: _Early, *, may_read: bool) -> None:
        """Hand on what was put by, as far as it follows; with `may_read` all, and what is missing from the log."""
        while early.batches and not topic.closed:
            assert topic.relayed is not None
            events, committed_at = early.batches[0]
            ours = events[0].epoch == topic.epoch
            events = [event for event in events if ours and event.seq is not None and event.seq > topic.relayed]
            missing = events[0].seq - 1 - topic.relayed if events and events[0].seq is not None else 0
            if missing and not may_read:
                return
            if missing:
                self.holes += 1
                await self._fill(topic, upto=topic.relayed + missing)
                continue
            early.batches.pop(0)
            if events:
                await self._put(topic, events, committed_at)
                early.until = trio.current_time() + HOLE_S
        self._early.pop(topic, None)

    async def _put(self, topic: Topic, events: Sequence[LoggedEvent], committed_at: float) -> None:
        await self._hub.put(topic, events, committed_at)
        topic.relayed = events[-1].seq

    async def _fill_overdue(self) -> None:
        """Read what has not come in time."""
        now = trio.current_time()
        for topic, early in list(self._early.items()):
            if early.until <= now:
                await self._catch_up(topic, early, may_read=True)

    async def _fill(self, topic: Topic, upto: int) -> None:
        """Read what is missing from the log, page by page; while the database is away, wait for it."""
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
            if extent is not None and epoch not in (None, extent.epoch):
                raise await self._doubted(topic.name, f"its epoch was {epoch} and is {extent.epoch}")
            if extent is None or seq < told:
                raise await self._doubted(topic.name, f"clients were told of {told}, and its last is {seq}")
            # From here on what is known now: it may be more than what the log said, when it was asked.
            topic.pruned = max(topic.pruned or 0, extent.pruned)
            topic.head = max(topic.head or 0, seq)
            if topic.coming < seq and topic.relayed is not None:  # up to `coming` it is relayed, or on its way
                self.compared += max(0, seq - max(topic.coming, topic.relayed))
                topic.coming = seq
                await self._fill(topic, upto=seq)
        return True

    async def _doubted(self, topic: str, what: str) -> LogWentBack:
        """The same, noted in the database, whose identity may be as it was."""
        failure = _went_back(topic, what)
        try:
            async with self._pool.connection() as conn:
                await identity.doubt(conn, str(failure), self.epochs_at)
        except (StorageUnavailable, psycopg.Error) as exc:  # the table, too, may be as it was: not there
            _log.error("log.doubt_not_noted", reason=str(exc), hint="run ngos migrate --new-epochs")
        return failure


def _went_back(topic: str, what: str) -> LogWentBack:
    _log.error("log.went_back", topic=topic, reason=what)
    return LogWentBack(f"the log of {topic} went back under this server: {what}; start again, for new epochs")
