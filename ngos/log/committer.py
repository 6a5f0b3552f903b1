"""Group commit: one task takes what waits, applies it in one transaction, and answers everyone after the commit.

Writes arrive while the last transaction commits, so no timer is needed: alone, a write is committed at once; under
load, a thousand share one commit. The change, its event and the event's number are in that one transaction.

The way of a batch: `_take` -> `plan` -> each group's handler -> `store.append` -> commit -> answers -> the relay.
An answer is in its connection's mailbox before the event is: the relay is told after all answers, without a checkpoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final

import structlog
import trio
from attrs import define, field, frozen

from ngos.errors import StorageUnavailable
from ngos.incidents import incident
from ngos.log import store
from ngos.log.plan import Group, plan
from ngos.log.relay import Relay
from ngos.postgres.pool import Pool
from ngos.protocol import codec
from ngos.protocol.commands import Command
from ngos.protocol.faults import CommandFailed, unavailable
from ngos.protocol.messages import Event, Reply
from ngos.protocol.values import Position

KIB: Final = 1024
BATCH_WRITES: Final = 512
BATCH_BYTES: Final = 1024 * KIB
WAITING_BYTES: Final = 64 * 1024 * KIB
"""What may wait in all; past it `submit` waits, its connection is not read, and its client is slowed down by TCP."""

_log = structlog.get_logger("ngos.committer")


@frozen
class Encoded:
    """A reply whose payload is JSON already."""

    type: str
    payload: bytes


Answer = Encoded | CommandFailed


@frozen
class CustomEvent:
    """An event that a client publishes: its type and payload are the client's own."""

    topic: str
    type: str
    payload: bytes


@frozen
class Outcome:
    """What one write came to. Refused: `reply` is the error and `events` is empty.

    Where the reply tells the position of the write's first event, it is a function of that position.
    """

    reply: Reply | CommandFailed | Callable[[Position], Reply]
    events: tuple[Event | CustomEvent, ...] = ()


AnyReply = Reply | CommandFailed | Callable[[Position], Reply] | Encoded


@frozen(eq=False)
class Handler:
    """How one kind of write is applied.

    `apply` gets the writes of a group within a transaction and returns an outcome for each, in order. `key` names
    what a write touches: two with the same key are never in one group; None touches nothing that another could.
    """

    name: str
    apply: Callable[[store.Connection, Sequence[Any]], Awaitable[Sequence[Outcome]]]
    key: Callable[[Any], Hashable | None]


@frozen(eq=False)
class Write:
    """A command that changes something. `lane` is its connection; `answer` is called once, and must not raise."""

    handler: Handler
    command: Command
    lane: Hashable
    sender_id: str
    size_bytes: int
    answer: Callable[[Answer], None]


@define
class CommitterStats:
    """Counts since the start."""

    batches: int = 0
    writes: int = 0
    events: int = 0
    failures: int = 0
    commit_s: float = 0.0


@define(eq=False)
class Committer:
    """See the module. `run` is the one task; `submit` may be called from any other."""

    _pool: Pool
    _relay: Relay
    stats: CommitterStats = field(init=False, factory=CommitterStats)
    _waiting: deque[Write] = field(init=False, factory=deque)
    _waiting_bytes: int = field(init=False, default=0)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _room: trio.Event = field(init=False, factory=trio.Event)

    async def submit(self, write: Write) -> None:
        """Queue a write; its `answer` is called when it is committed, refused, or failed.

        Returns at once, without a checkpoint, while there is room; else waits for it. Cancelled while waiting, the
        write is not queued; after that it is committed or not, as a whole, whatever becomes of its connection.
        """
        while self._waiting_bytes > WAITING_BYTES:
            self._room = trio.Event() if self._room.is_set() else self._room
            await self._room.wait()
        self._waiting.append(write)
        self._waiting_bytes += write.size_bytes
        self._arrived.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit until cancelled. The database failing is not the end of it; a defect of ours is."""
        task_status.started()
        while True:
            batch = await self._take()
            try:
                await self._commit_or_split(batch)
            except StorageUnavailable as exc:
                # What waits behind the failed batch has waited as long: it is answered too, within its deadline.
                failed = batch + list(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
                self._room.set()
                self.stats.failures += 1
                _log.warning("commit.failed", writes=len(failed), reason=str(exc))
                for write in failed:
                    write.answer(unavailable())
                # The commit may have succeeded and only its answer been lost: then there are events to deliver.
                await self._relay.doubt()

    async def _take(self) -> list[Write]:
        if not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()
        batch: list[Write] = []
        batch_bytes = 0
        while self._waiting and len(batch) < BATCH_WRITES and batch_bytes < BATCH_BYTES:
            write = self._waiting.popleft()
            batch.append(write)
            batch_bytes += write.size_bytes
        self._waiting_bytes -= batch_bytes
        self._room.set()
        return batch

    async def _commit_or_split(self, batch: list[Write]) -> None:
        try:
            answers, logged = await self._transact(batch)
        except StorageUnavailable:
            raise
        except Exception as exc:
            if len(batch) == 1:
                batch[0].answer(incident("write.defect", exc, command=batch[0].handler.name))
                return
            # One of them is poison, and nothing was committed: alone, it takes nobody with it.
            _log.warning("commit.split", writes=len(batch), reason=repr(exc))
            while batch:
                await self._commit_or_split(batch[:1])
                del batch[0]  # answered; if the database fails now, `run` answers the rest
            return
        # Outside of the try: it is committed, and whatever fails from here on must not commit it again.
        self._relay.advance(logged)
        for write, answer in zip(batch, answers, strict=True):
            write.answer(answer)
        await self._relay.announce(logged)

    async def _transact(self, batch: list[Write]) -> tuple[list[Answer], list[store.LoggedEvent]]:
        """Apply, log and commit; returns the answers in the order of the batch, and the events."""
        started = trio.current_time()
        groups = plan(
            (write.handler, write.lane, write.handler.key(write.command), index) for index, write in enumerate(batch)
        )
        async with self._pool.connection() as conn:
            await conn.execute("begin")
            replies, drafts = await self._apply(conn, groups, batch)
            logged = await store.append(conn, drafts)
            answers = [_encode(*replies[index], logged) for index in range(len(batch))]
            await conn.execute("commit")
        self.stats.batches += 1
        self.stats.writes += len(batch)
        self.stats.events += len(logged)
        self.stats.commit_s += trio.current_time() - started
        return answers, logged

    async def _apply(
        self, conn: store.Connection, groups: list[Group[Handler, int]], batch: list[Write]
    ) -> tuple[dict[int, tuple[AnyReply, int]], list[store.Draft]]:
        """Apply the groups; returns each write's reply with the index of its first event, and all events in order."""
        replies: dict[int, tuple[AnyReply, int]] = {}
        drafts: list[store.Draft] = []
        for group in groups:
            outcomes = await group.kind.apply(conn, [batch[index].command for index in group.writes])
            for index, outcome in zip(group.writes, outcomes, strict=True):
                reply: Any = outcome.reply
                first_event = len(drafts)
                for event in outcome.events:
                    payload = event.payload if isinstance(event, CustomEvent) else codec.dump(event)
                    topic, type_ = (
                        (event.topic, event.type) if isinstance(event, CustomEvent) else (event.TOPIC, event.TYPE)
                    )
                    drafts.append(store.Draft(topic, type_, payload, batch[index].sender_id))
                    if event is reply:  # encoded once for both
                        reply = Encoded(type_, payload)
                replies[index] = (reply, first_event)
        return replies, drafts


def _encode(reply: AnyReply, first_event: int, logged: list[store.LoggedEvent]) -> Answer:
    if isinstance(reply, Encoded | CommandFailed):
        return reply
    if not isinstance(reply, Reply):
        event = logged[first_event]
        assert event.epoch is not None
        assert event.seq is not None
        reply = reply(Position(topic=event.topic, epoch=event.epoch, seq=event.seq))
    return Encoded(reply.TYPE, codec.dump(reply))
