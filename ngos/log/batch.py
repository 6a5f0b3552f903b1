"""A batch within its transaction: which of its writes are new, what they come to, and who is answered what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio
from attrs import define, evolve, field

from ngos.log import store
from ngos.log.plan import Group
from ngos.log.replies import CommandKey, Given, Kept
from ngos.log.sql import Transaction
from ngos.log.write import Answer, CustomEvent, Encoded, Handler, Write
from ngos.protocol import codec
from ngos.protocol.catalog import OWN_DURABLE_TOPICS
from ngos.protocol.commands import Publish
from ngos.protocol.faults import ClientError, CommandFailed, ErrorCode
from ngos.protocol.messages import ErrorReply, Event, Reply
from ngos.protocol.values import Position


@define
class Work:
    """What applying a batch comes to. `unkept` are the replies that no handler's statement has kept."""

    answers: dict[Write[Any], Answer] = field(factory=dict)
    logged: list[store.LoggedEvent] = field(factory=list)
    unkept: list[Kept] = field(factory=list)


def not_given(batch: Sequence[Write[Any]], given: Given) -> list[Write[Any]]:
    """The writes that have no reply yet, and of those with the same id the first."""
    seen = set(given)
    fresh = []
    for write in batch:
        if write.key is not None:
            if write.key.name in seen:
                continue
            seen.add(write.key.name)
        fresh.append(write)
    return fresh


def touches_nothing_shared(group: Group[Handler, Write[Any]]) -> bool:
    """Whether no other transaction can be in the way of a group's one statement, but at its topic."""
    return all(group.kind.key(write.command) is None for write in group.writes)


def turn_at(groups: Sequence[Group[Handler, Write[Any]]], *, is_alone: bool) -> list[str]:
    """The topics to lock before a transaction touches anything else, in name order; none where it need not.

    Whoever numbers events holds their topics until the commit. Two transactions of which one has the topics and wants a
    row, and the other has the row and wants the topics, wait until Postgres ends one of them, for a second; so where
    there are other nodes, all have the topics first. A lone group of custom events touches nothing but its topics.
    """
    custom = {write.command.topic for group in groups for write in group.writes if isinstance(write.command, Publish)}
    if len(groups) == 1 and (is_alone or custom):
        return []
    return sorted({*OWN_DURABLE_TOPICS, *custom})


def answers_of(batch: Sequence[Write[Any]], given: Given, work: Work) -> list[Answer]:
    """An answer for each write: its own, or the one that a write with the same id has had."""
    first = {write.key.name: (write.key, answer) for write, answer in work.answers.items() if write.key is not None}
    answers: list[Answer] = []
    for write in batch:
        answer = work.answers.get(write)
        kept = given.get(write.key.name) if write.key is not None else None
        if answer is None or kept is not None:
            assert write.key is not None
            name = write.key.name
            key, answer = (kept.key, Encoded(kept.type, kept.payload)) if kept is not None else first[name]
            if key.command_hash != write.key.command_hash:
                answer = ClientError(ErrorCode.CONFLICT, "another command had this id: every command needs its own")
            elif isinstance(answer, Encoded):
                answer = evolve(answer, replayed=True)
        answers.append(answer)
    return answers


async def apply(tx: Transaction, group: Group[Handler, Write[Any]], work: Work) -> None:
    """Apply a group and log its events."""
    outcomes = await group.kind.apply(tx, group.writes)
    drafts: list[store.Draft] = []
    answered: list[tuple[Write[Any], Any, int]] = []  # with the index of the write's first event
    for write, outcome in zip(group.writes, outcomes, strict=True):
        reply: Any = outcome.reply
        answered_at = len(drafts)
        for event in outcome.events:
            if isinstance(event, CustomEvent):
                draft = store.Draft(event.topic, event.type, event.payload, write.sender_id)
            else:
                draft = draft_of(event, write)
                if event is reply:  # encoded once for both
                    reply = Encoded(draft.type, draft.payload)
            drafts.append(draft)
            if len(drafts) % store.TURN == 0:
                await trio.lowlevel.checkpoint()
        if outcome.logged:
            work.logged.extend(outcome.logged)
            work.answers[write] = _encode(reply, None, None)
        else:
            answered.append((write, reply, answered_at if outcome.events else -1))
    appended = await store.append(tx, drafts)
    work.logged.extend(appended)
    for write, reply, index in answered:
        first = appended[index] if index >= 0 else None
        work.answers[write] = answer = _encode(reply, first, write.key)
        if write.key is not None and isinstance(answer, Encoded):
            topic, seq = (None, None) if first is None else (first.topic, first.seq)
            work.unkept.append(Kept(write.key, answer.type, answer.payload, topic, seq))


def draft_of(event: Event, write: Write[Any]) -> store.Draft:
    """An event of the server's own that a write causes, encoded."""
    return store.Draft(event.TOPIC, event.TYPE, codec.dump(event), write.sender_id, write.key)


def _encode(
    reply: Reply | Encoded | CommandFailed | Callable[[Position], Reply],
    event: store.LoggedEvent | None,
    key: CommandKey | None,
) -> Answer:
    if isinstance(reply, Encoded):
        return reply
    if isinstance(reply, CommandFailed):
        if key is None or reply.code.retryable:
            return reply
        reply = ErrorReply.of(reply, key.command_id)  # to be kept, and given again as it is
    if not isinstance(reply, Reply):
        assert event is not None
        assert event.epoch is not None
        assert event.seq is not None
        reply = reply(Position(topic=event.topic, epoch=event.epoch, seq=event.seq))
    return Encoded(reply.TYPE, codec.dump(reply))
