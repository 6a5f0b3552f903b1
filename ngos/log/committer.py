"""Group commit: one task takes what waits, applies it in one transaction, and answers everyone after the commit.

Writes arrive while the last transaction commits, so no timer is needed: alone, a write is committed at once; under
load, a thousand share one commit. The change, its event and the event's number are in that one transaction.

The way of a batch: `queue.take` -> what was answered before is answered again (`replies`) -> `plan` -> each group's
handler -> `store.append` -> `replies.keep` -> commit -> answers -> the relay.
An answer is in its connection's mailbox before the event is: the relay is told after all answers, without a checkpoint.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import structlog
import trio
from attrs import define, field

from ngos.config import MIB
from ngos.distribution import FAST_S, UP_TO_512, Distribution
from ngos.errors import StorageContention, StorageUnavailable
from ngos.incidents import incident
from ngos.log import replies, store
from ngos.log.batch import Work, answers_of, apply, not_given, touches_nothing_shared, turn_at
from ngos.log.plan import plan
from ngos.log.queue import FairQueue
from ngos.log.relay import Relay
from ngos.log.replies import Given, Kept
from ngos.log.sql import Transaction
from ngos.log.write import Answer, Encoded, Write
from ngos.postgres.pool import Pool
from ngos.protocol.catalog import label_of
from ngos.protocol.faults import unavailable
from ngos.pulse import Pulse
from ngos.tracing import Traces

TRIES: Final = 3
"""How often a batch is tried that another node's transaction gets in the way of."""
LOOK_S: Final = 1.0
"""Commands that are sent again come in swarms, after a break; so for this long after one, all are looked up first.

Else nobody looks (it would cost a fifth of the throughput): the batch that has one fails by the replies' primary key,
and is tried again.
"""
WAITING_BYTES: Final = 64 * MIB
"""What may wait in all; past it `submit` waits, its connection is not read, and its client is slowed down by TCP."""

_log = structlog.get_logger("ngos.committer")


@define
class CommitterStats:
    """Counts since the start. `events_of`: by topic, those that clients name in one, `CUSTOM`."""

    batches: int = 0
    writes: int = 0
    events: int = 0
    failures: int = 0
    replayed: int = 0
    commit_s: Distribution = field(factory=lambda: Distribution(FAST_S))
    batch_writes: Distribution = field(factory=lambda: Distribution(UP_TO_512))
    events_of: Counter[str] = field(factory=Counter)


@define(eq=False)
class Committer:
    """See the module. `run` is the one task; `submit` may be called from any other.

    `is_alone`: no other node uses the database, and so nobody else's transaction can be in the way.
    """

    _pool: Pool
    _relay: Relay
    pulse: Pulse = field(factory=lambda: Pulse("committer", math.inf))
    _traces: Traces | None = None
    _is_alone: bool = True
    _clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    stats: CommitterStats = field(init=False, factory=CommitterStats)
    _waiting: FairQueue = field(init=False, factory=FairQueue)
    _look_until: float = field(init=False, default=-math.inf)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _room: trio.Event = field(init=False, factory=trio.Event)

    @property
    def waiting_bytes(self) -> int:
        """What waits to be committed, as the clients sent it."""
        return self._waiting.size_bytes

    async def submit(self, write: Write[Any]) -> None:
        """Queue a write; its `answer` is called when it is committed, refused, or failed.

        Returns at once, without a checkpoint, while there is room; else waits for it. Cancelled while waiting, the
        write is not queued; after that it is committed or not, as a whole, whatever becomes of its connection.
        """
        while self._waiting.size_bytes > WAITING_BYTES:
            self._room = trio.Event() if self._room.is_set() else self._room
            await self._room.wait()
        self._waiting.put(write)
        self._arrived.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit until cancelled. The database failing is not the end of it; a defect of ours is."""
        task_status.started()
        while True:
            batch = await self._take()
            try:
                await self._commit_or_split(batch)
            except StorageContention as exc:
                self._fail(batch, exc)  # the database is there: what waits behind has its own chance
            except StorageUnavailable as exc:
                # What waits behind the failed batch has waited as long: it is answered too, within its deadline.
                failed = batch + self._waiting.take_all()
                self._room.set()
                self._fail(failed, exc)
                # The commit may have succeeded and only its answer been lost: then there are events to deliver.
                self._relay.doubt()

    def _fail(self, writes: Sequence[Write[Any]], exc: StorageUnavailable) -> None:
        self.stats.failures += 1
        _log.warning("commit.failed", writes=len(writes), reason=str(exc))
        for write in writes:
            write.answer(unavailable())

    async def _take(self) -> list[Write[Any]]:
        if not self._waiting:
            self._arrived = trio.Event()
            self.pulse.rest()
            await self._arrived.wait()
        self.pulse.beat()
        batch = self._waiting.take()
        self._room.set()
        return batch

    async def _commit_or_split(self, batch: list[Write[Any]]) -> None:
        try:
            answers, logged = await self._transact_again(batch)
        except StorageUnavailable:
            raise
        except Exception as exc:
            if len(batch) == 1:
                batch[0].answer(incident("write.defect", exc, command=batch[0].handler.name))
                return
            # One of them is poison, and nothing was committed: alone, it takes nobody with it.
            _log.warning("commit.split", writes=len(batch), reason=repr(exc))
            while batch:
                self.pulse.beat()
                await self._commit_or_split(batch[:1])
                del batch[0]  # answered; if the database fails now, `run` answers the rest
            return
        # Outside of the try: it is committed, and whatever fails from here on must not commit it again.
        self._relay.advance(logged)
        for write, answer in zip(batch, answers, strict=True):
            write.answer(answer)
        self.pulse.rest()  # where this waits, it is for the relay, which has a pulse of its own
        await self._relay.announce(logged)

    async def _transact_again(self, batch: list[Write[Any]]) -> tuple[list[Answer], list[store.LoggedEvent]]:
        for _ in range(TRIES - 1):
            try:
                return await self._transact(batch)
            except StorageContention as exc:
                _log.info("commit.again", writes=len(batch), reason=str(exc))
        return await self._transact(batch)

    async def _transact(self, batch: list[Write[Any]]) -> tuple[list[Answer], list[store.LoggedEvent]]:
        """Apply, log and commit; returns the answers in the order of the batch, and the events in theirs."""
        self.pulse.beat()
        started = trio.current_time()
        work = Work()
        span = None if self._traces is None else self._traces.batch([write.span for write in batch])
        try:
            async with self._pool.connection() as conn:
                tx = Transaction(conn, self._clock())
                given = await self._given(tx, batch)
                given |= await self._apply_all(tx, work, not_given(batch, given))
        except psycopg.Error as exc:
            if replies.is_given_already(exc):
                self._look_until = trio.current_time() + LOOK_S
                raise StorageContention("a command of the batch was answered before") from exc
            raise
        finally:
            if span is not None and self._traces is not None:
                self._traces.end_batch(span, len(batch), len(work.logged))
        self.stats.batches += 1
        self.stats.writes += len(batch)
        self.stats.events += len(work.logged)
        self.stats.batch_writes.observe(len(batch))
        self.stats.commit_s.observe(trio.current_time() - started)
        self.stats.events_of.update(label_of(event.topic) for event in work.logged)
        if not given and len(work.answers) == len(batch):
            return [work.answers[write] for write in batch], work.logged  # nothing was sent again
        answers = answers_of(batch, given, work)
        self.stats.replayed += sum(isinstance(answer, Encoded) and answer.replayed for answer in answers)
        return answers, work.logged

    async def _given(self, tx: Transaction, batch: Sequence[Write[Any]]) -> Given:
        """The replies that commands of the batch had before, while it is likely that there are any."""
        if trio.current_time() > self._look_until:
            return {}
        keys = [write.key for write in batch if write.key is not None]
        return self._found(await replies.find(tx.conn, keys)) if keys else {}

    def _found(self, given: Given) -> Given:
        """Where there was one, there are likely to be more."""
        if given:
            self._look_until = trio.current_time() + LOOK_S
        return given

    async def _apply_all(self, tx: Transaction, work: Work, batch: Sequence[Write[Any]]) -> Given:
        """Apply, log and commit; returns the replies that refused commands turn out to have had before."""
        groups = plan((write.handler, write.lane, write.handler.key(write.command), write) for write in batch)
        if not groups:
            return {}
        fits_alone = len(groups) == 1 and groups[0].kind.one_statement
        if fits_alone and (self._is_alone or touches_nothing_shared(groups[0])):
            await apply(tx, groups[0], work)
            # What was refused has changed nothing, and its reply need not be kept in any transaction.
            return self._found(await self._keep_refusals(tx, work.unkept)) if work.unkept else {}
        await tx.conn.execute("begin")
        if topics := turn_at(groups, is_alone=self._is_alone):
            await store.lock_topics(tx.conn, topics)
        for group in groups:
            await apply(tx, group, work)
        if work.unkept:
            await replies.keep(tx, work.unkept)
        await tx.conn.execute("commit")
        return {}

    async def _keep_refusals(self, tx: Transaction, refusals: Sequence[Kept]) -> Given:
        """What was accepted beside them is committed by now: only this may be tried again, never the whole batch."""
        failure: psycopg.Error | None = None
        for _ in range(TRIES):
            try:
                return await replies.keep_refusals(tx, refusals)
            except psycopg.Error as exc:
                failure = exc
                _log.info("refusals.again", refusals=len(refusals), reason=repr(exc))
        raise StorageUnavailable("the replies to refused commands could not be kept") from failure
