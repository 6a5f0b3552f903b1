"""The replies that were given: what makes a command that is sent twice act once (protocol.md section 6).

A reply is kept in the transaction of its change. The primary key is what holds the promise: who applied the same
command before, here or on another node, has won, and our transaction leaves no trace. Then it is time to look (`find`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from attrs import frozen

from ngos.log.sql import Connection, Transaction, json_parameter

PRIMARY_KEY: Final = "replies_pkey"


@frozen
class CommandKey:
    """Names a command: `subject` says whose it is, `command_id` which, `command_hash` tells it from another."""

    subject: str
    command_id: str
    command_hash: UUID

    @property
    def name(self) -> tuple[str, str]:
        return self.subject, self.command_id


@frozen
class Kept:
    """A reply, to be kept or as it was. `seq` is the first event's of its change, on `topic`; both None without."""

    key: CommandKey
    type: str
    payload: bytes
    topic: str | None = None
    seq: int | None = None


Given = dict[tuple[str, str], Kept]
"""Replies that were given, by `CommandKey.name`."""

# `lateral` with a limit, so that each is looked up by the index: a join that was planned while the table was empty
# would read all of it, and the plan be kept while it grows (measured: 6,000 creates a second became 500).
_FIND: Final = """
select asked.subject, asked.command_id, command_hash, type, payload
from json_to_recordset(%s::json) as asked(subject text, command_id text), lateral (
    select command_hash, type, payload from replies
    where replies.subject = asked.subject and replies.command_id = asked.command_id limit 1
) as given
"""

_KEEP: Final = """
insert into replies (subject, command_id, command_hash, type, payload, topic_id, seq, created_at)
select subject, command_id, command_hash, type, payload, topic_id, new.seq, %(at)s
from json_to_recordset(%(rows)s::json) as new(subject text, command_id text, command_hash uuid, type text,
    payload text, topic text, seq int8) left join topics using (topic)
order by subject, command_id
"""
_KEEP_REFUSALS: Final = f"{_KEEP} on conflict do nothing returning subject, command_id"

_FORGET: Final = """
delete from replies where ctid = any(array(
    select ctid from replies where created_at < %s order by created_at limit %s
))
"""


async def find(conn: Connection, keys: Iterable[CommandKey]) -> Given:
    """The replies that some commands had already, by `CommandKey.name`; `Kept.key` is the command's that had it."""
    asked = [{"subject": key.subject, "command_id": key.command_id} for key in keys]
    rows = await (await conn.execute(_FIND, [json_parameter(asked)])).fetchall()
    return {
        (subject, command_id): Kept(CommandKey(subject, command_id, command_hash), type_, payload.encode())
        for subject, command_id, command_hash, type_, payload in rows
    }


async def keep(tx: Transaction, replies: Sequence[Kept]) -> None:
    """Keep the replies of a transaction. Raises psycopg's UniqueViolation where `is_given_already` says so."""
    await tx.conn.execute(_KEEP, _parameters(tx, replies))


async def keep_refusals(tx: Transaction, replies: Sequence[Kept]) -> Given:
    """The same for commands that changed nothing, outside of a transaction; returns as `find` what is not kept.

    That is what was given before. It need not have been a refusal: a token that is there already may be this very
    command's, sent again.
    """
    rows = await (await tx.conn.execute(_KEEP_REFUSALS, _parameters(tx, replies))).fetchall()
    kept = set(rows)
    given = [reply.key for reply in replies if reply.key.name not in kept]
    return await find(tx.conn, given) if given else {}


async def forget(conn: Connection, before: datetime, limit: int) -> int:
    """Drop at most `limit` of the replies that are older than `before`; returns how many there were."""
    return (await conn.execute(_FORGET, [before, limit])).rowcount


def is_given_already(error: psycopg.Error) -> bool:
    """Whether a transaction failed because one of its commands was given a reply since `find` looked."""
    return isinstance(error, psycopg.errors.UniqueViolation) and error.diag.constraint_name == PRIMARY_KEY


def _parameters(tx: Transaction, replies: Sequence[Kept]) -> dict[str, Any]:
    rows = [
        {
            "subject": reply.key.subject,
            "command_id": reply.key.command_id,
            "command_hash": reply.key.command_hash,
            "type": reply.type,
            "payload": reply.payload.decode(),
            "topic": reply.topic,
            "seq": reply.seq,
        }
        for reply in replies
    ]
    return {"rows": json_parameter(rows), "at": tx.at}
