"""The event table: append inside the change's own transaction, and read positions.

Numbers are gap-free because a topic's row is locked from the moment it is counted up until the commit, always in
name order; once a batch, not once an event (design.md, "Gap-free numbers").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import trio
from attrs import define, field, frozen

from ngos.log.replies import CommandKey
from ngos.log.sql import Connection, Transaction, json_parameter
from ngos.protocol.faults import NoRoom

TURN: Final = 1000
"""Events that are got ready before other tasks get a turn: a cascade may be long."""


@frozen
class Draft:
    """An event before it has a number. `payload` is JSON; `sender_id` the client whose command caused it.

    `command_key` is that command's, for the statements that keep its reply along with the event.
    """

    topic: str
    type: str
    payload: bytes
    sender_id: str | None
    command_key: CommandKey | None = None


@define
class LoggedEvent:
    """An event as the log holds it. `seq` and `epoch` are None on an ephemeral topic.

    `message`: as it goes out, once somebody has encoded it (`Hub.encode`); what another node tells of has only that,
    and no type nor payload.
    """

    topic: str
    type: str
    payload: bytes
    sender_id: str | None
    timestamp_ms: int
    seq: int | None = None
    epoch: str | None = None
    message: bytes | None = field(default=None, eq=False, repr=False)


_APPEND: Final = """
with draft as (
    select * from json_to_recordset(%(drafts)s::json)
        as draft(topic text, ordinal bigint, type text, sender_id text, payload text)
), locked as (
    select topic from topics where topic = any(%(topics)s::text[]) order by topic for update
), counted as (
    select topic, max(ordinal) as drafts from draft join locked using (topic) group by topic
), numbered as (
    update topics set seq = seq + drafts from counted where topics.topic = counted.topic
    returning topics.topic_id, topics.topic, topics.epoch, topics.seq - drafts as before
), appended as (
    insert into events (topic_id, seq, type, sender_id, created_at, payload)
    select topic_id, before + ordinal, type, sender_id, %(at)s, payload::json from draft join numbered using (topic)
)
select topic, epoch, before from numbered
"""


async def append(tx: Transaction, drafts: Sequence[Draft]) -> list[LoggedEvent]:
    """Number and store events in a transaction, in the order given within each topic.

    Every topic must have a row (`ensure_topics`). Returns them in the same order; nobody may see them before the
    commit. Raises what psycopg raises.
    """
    if not drafts:
        return []
    ordinals: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for draft in drafts:
        if len(rows) % TURN == TURN - 1:
            await trio.lowlevel.checkpoint()
        ordinals[draft.topic] = ordinal = ordinals.get(draft.topic, 0) + 1
        rows.append(
            {
                "topic": draft.topic,
                "ordinal": ordinal,
                "type": draft.type,
                "sender_id": draft.sender_id,
                "payload": draft.payload.decode(),
            }
        )
    parameters = {"drafts": json_parameter(rows), "topics": sorted(ordinals), "at": tx.at}
    cursor = await tx.conn.execute(_APPEND, parameters)
    numbered = {topic: (epoch, before) for topic, epoch, before in await cursor.fetchall()}
    at_ms = to_ms(tx.at)
    events = []
    for draft, row in zip(drafts, rows, strict=True):
        epoch, before = numbered[draft.topic]
        seq = before + row["ordinal"]
        events.append(LoggedEvent(draft.topic, draft.type, draft.payload, draft.sender_id, at_ms, seq=seq, epoch=epoch))
    return events


# An insert, the events of it and the replies to it, in one statement: alone in a batch, it needs no other round trip
# than its own. `done` is the insert; what it returns of `new` was accepted and numbered, in the order of `ordinal`.
_INSERT_AND_APPEND: Final = """
with new as (
    select * from json_to_recordset(%(rows)s::json)
        as new(ordinal int8, sender_id text, payload text, subject text, command_id text, command_hash uuid, {columns})
), {before} done as (
    {insert} returning {key}
), numbered as (
    update topics set seq = seq + (select count(*) from done) where topic = %(topic)s
    returning topic_id, epoch, seq - (select count(*) from done) as before
), logged as (
    select ordinal, topic_id, epoch, before + row_number() over (order by ordinal) as seq, sender_id, payload, subject,
        command_id, command_hash
    from new join done using ({key}) cross join numbered
), appended as (
    insert into events (topic_id, seq, type, sender_id, created_at, payload)
    select topic_id, seq, %(type)s, sender_id, %(at)s, payload::json from logged
), kept as (
    insert into replies (subject, command_id, command_hash, type, payload, topic_id, seq, created_at)
    select subject, command_id, command_hash, %(type)s, payload, topic_id, seq, %(at)s from logged
    where command_id is not null
)
select epoch, seq, {refusal} from new left join logged using (ordinal) order by ordinal
"""


def insert_and_append(*, columns: str, insert: str, key: str, before: str = "", refusal: str = "null") -> str:
    """The statement that `insert_logged` runs.

    `columns` declares the fields of `new`, `insert` puts them into a table, `key` is the column that it returns.
    `refusal` is what to select where a row was not inserted; `before` holds further `with` queries for both.
    """
    return _INSERT_AND_APPEND.format(columns=columns, insert=insert, key=key, before=before, refusal=refusal)


# The same where no row can be refused: nothing has to be matched, which saves a tenth. A row that is refused all the
# same is an error, and the whole statement with it.
_INSERT_AND_APPEND_ALL: Final = """
with new as (
    select * from json_to_recordset(%(rows)s::json)
        as new(ordinal int8, sender_id text, payload text, subject text, command_id text, command_hash uuid, {columns})
), done as (
    {insert}
), numbered as (
    update topics set seq = seq + %(count)s where topic = %(topic)s
    returning topic_id, epoch, seq - %(count)s as before
), appended as (
    insert into events (topic_id, seq, type, sender_id, created_at, payload)
    select topic_id, before + ordinal, %(type)s, sender_id, %(at)s, payload::json from new cross join numbered
), kept as (
    insert into replies (subject, command_id, command_hash, type, payload, topic_id, seq, created_at)
    select subject, command_id, command_hash, %(type)s, payload, topic_id, before + ordinal, %(at)s
    from new cross join numbered where command_id is not null
)
select epoch, before from numbered
"""


def insert_and_append_all(*, columns: str, insert: str) -> str:
    """The statement that `insert_all_logged` runs; as `insert_and_append`."""
    return _INSERT_AND_APPEND_ALL.format(columns=columns, insert=insert)


async def insert_logged(
    tx: Transaction, statement: str, rows: list[dict[str, Any]], events: Sequence[Draft]
) -> list[LoggedEvent | tuple[Any, ...]]:
    """Insert rows, and for each that was accepted append its event and keep that as the reply to its command.

    All events are of one topic and type.

    Returns for each row its event, or what `refusal` selected.
    """
    cursor = await tx.conn.execute(statement, _insert_parameters(tx, rows, events))
    at_ms = to_ms(tx.at)
    return [
        LoggedEvent(event.topic, event.type, event.payload, event.sender_id, at_ms, seq, epoch)
        if seq is not None
        else tuple(refusal)
        for event, (epoch, seq, *refusal) in zip(events, await cursor.fetchall(), strict=True)
    ]


async def insert_all_logged(
    tx: Transaction, statement: str, rows: list[dict[str, Any]], events: Sequence[Draft]
) -> list[LoggedEvent]:
    """The same for rows that nothing can be wrong with."""
    parameters = _insert_parameters(tx, rows, events) | {"count": len(rows)}
    ((epoch, before),) = await (await tx.conn.execute(statement, parameters)).fetchall()
    at_ms = to_ms(tx.at)
    return [
        LoggedEvent(event.topic, event.type, event.payload, event.sender_id, at_ms, seq, epoch)
        for seq, event in enumerate(events, start=before + 1)
    ]


def _insert_parameters(tx: Transaction, rows: list[dict[str, Any]], events: Sequence[Draft]) -> dict[str, Any]:
    for ordinal, (row, event) in enumerate(zip(rows, events, strict=True), start=1):
        row |= {"ordinal": ordinal, "sender_id": event.sender_id, "payload": event.payload.decode()}
        if (key := event.command_key) is not None:
            row["subject"], row["command_id"], row["command_hash"] = key.subject, key.command_id, key.command_hash
    return {"rows": json_parameter(rows), "topic": events[0].topic, "type": events[0].type, "at": tx.at}


async def lock_topics(conn: Connection, topics: Iterable[str]) -> None:
    """Lock what several statements of a transaction are going to number, in name order like all who do."""
    await conn.execute("select from topics where topic = any(%s::text[]) order by topic for update", [sorted(topics)])


_READ: Final = """
select type, payload::text, sender_id, created_at, events.seq, epoch
from events join topics using (topic_id)
where topic = %s and events.seq > %s and events.seq <= %s
order by events.seq limit %s
"""


async def read(conn: Connection, topic: str, after: int, upto: int, limit: int) -> list[LoggedEvent]:
    """Read the events of a durable topic with `after` < seq <= `upto`, in order, at most `limit` of them."""
    rows = await (await conn.execute(_READ, [topic, after, upto, limit])).fetchall()
    return [
        LoggedEvent(topic, type_, payload.encode(), sender_id, to_ms(at), seq=seq, epoch=epoch)
        for type_, payload, sender_id, at, seq, epoch in rows
    ]


@frozen
class Extent:
    """What the log holds of a durable topic: events `pruned` + 1 to `seq`."""

    epoch: str
    seq: int
    pruned: int


async def read_extents(conn: Connection, topics: Sequence[str]) -> dict[str, Extent]:
    """What the log holds of durable topics that have a row, by name."""
    query = "select topic, epoch, seq, pruned from topics where topic = any(%s::text[])"
    rows = await (await conn.execute(query, [list(topics)])).fetchall()
    return {topic: Extent(epoch, seq, pruned) for topic, epoch, seq, pruned in rows}


_ENSURE: Final = """
insert into topics (topic) select topic from unnest(%s::text[]) as topic order by topic limit %s
on conflict do nothing
"""
_ENSURE_ATTEMPTS: Final = 10


async def ensure_topics(conn: Connection, topics: Iterable[str], most: int) -> set[str]:
    """Give each durable topic a row, and with it an epoch, while there are fewer than `most`; returns those without.

    In name order, so that two nodes can't deadlock; who adds some at the same time may go over `most` by as many.
    """
    missing = set(topics)
    # Only what is missing is inserted, because a row that conflicts takes a topic_id too, and there are 2^31 of them.
    # What is in the way then is a row that another node has just made, or an epoch that another topic has: of 32 bits,
    # so it happens among 100,000 topics.
    for _ in range(_ENSURE_ATTEMPTS):
        rows = await conn.execute("select topic from topics where topic = any(%s)", [sorted(missing)])
        missing -= {topic for (topic,) in await rows.fetchall()}
        if not missing:
            break
        (count,) = await (await conn.execute("select count(*) from topics")).fetchone() or (0,)
        if count >= most:
            break
        await conn.execute(_ENSURE, [sorted(missing), most - count])
    return missing


async def read_extent(conn: Connection, topic: str, most: int) -> Extent:
    """What the log holds of a durable topic; the topic gets a row if it had none, and there are fewer than `most`.

    Raises NoRoom where there are not.
    """
    extents = await read_extents(conn, [topic])
    if not extents:
        if await ensure_topics(conn, [topic], most):
            raise NoRoom(most)
        extents = await read_extents(conn, [topic])
    return extents[topic]


def to_ms(at: datetime) -> int:
    """Unix milliseconds of a time."""
    return int(at.timestamp() * 1000)
