"""Experience: what was lived through, step by step, in trajectories (protocol.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import attrs
import orjson
from attrs import define

from ngos.log.sql import Transaction, json_parameter, json_text
from ngos.log.write import Outcome, Write
from ngos.postgres.pool import Pool
from ngos.protocol.commands import ExperienceList, ExperienceRecord
from ngos.protocol.messages import ExperienceListed, ExperienceRecorded, Reply
from ngos.protocol.values import Experience, Position
from ngos.services.handlers import reads, writes
from ngos.services.identity import uuid7
from ngos.services.pages import decode_cursor, encode_cursor

PAGE_JSON_BYTES: Final = 1024 * 1024
"""A page ends early where the JSON of its experiences comes to more: `next` leads on."""

# The trajectories' rows are locked in name order, and stay locked until the commit: numbers without gaps.
_RECORD: Final = """
with new as (
    select * from json_to_recordset(%(rows)s::json) as new(event_id uuid, event_type text, token_id uuid,
        state_before text, state_after text, action text, reward float8, priority float8, trajectory_id text,
        step int8, metadata text)
), counted as (
    insert into trajectories as known (trajectory_id, sequence_number)
    select trajectory_id, max(step) from new where trajectory_id is not null group by trajectory_id
    order by trajectory_id
    on conflict (trajectory_id) do update set sequence_number = known.sequence_number + excluded.sequence_number
    returning trajectory_id, sequence_number
), before as (
    select trajectory_id, counted.sequence_number - max(step) as steps from counted join new using (trajectory_id)
    group by trajectory_id, counted.sequence_number
)
insert into experiences (event_id, event_type, token_id, state_before, state_after, action, reward, priority,
    trajectory_id, sequence_number, metadata, created_at)
select event_id, event_type, token_id, state_before::json, state_after::json, action::json, reward, priority,
    trajectory_id, steps + step, metadata::json, %(at)s from new left join before using (trajectory_id)
returning event_id, sequence_number
"""

_JSON = ("state_before", "state_after", "action", "metadata")
_COLUMNS = (
    "event_id, event_type, token_id, state_before::text, state_after::text, action::text, reward, priority,"
    " trajectory_id, sequence_number, metadata::text, created_at"
)
_JSON_BYTES = (
    "coalesce(octet_length(state_before::text), 0) + coalesce(octet_length(state_after::text), 0)"
    " + coalesce(octet_length(action::text), 0) + octet_length(metadata::text)"
)


@define(eq=False)
class Experiences:
    """The experience service."""

    _pool: Pool

    @writes(ExperienceRecord)
    async def record(self, tx: Transaction, writes: Sequence[Write[ExperienceRecord]]) -> Sequence[Outcome]:
        commands = [write.command for write in writes]
        steps: dict[str, int] = {}
        rows = []
        for command in commands:
            row = attrs.asdict(command, recurse=False) | {"event_id": uuid7(), "step": None}
            if command.trajectory_id is not None:
                steps[command.trajectory_id] = row["step"] = steps.get(command.trajectory_id, 0) + 1
            for name in _JSON:
                if row[name] is not None:
                    row[name] = json_text(row[name])
            rows.append(row)
        cursor = await tx.conn.execute(_RECORD, {"rows": json_parameter(rows), "at": tx.at})
        numbers: dict[UUID, int | None] = dict(await cursor.fetchall())
        outcomes = []
        for command, row in zip(commands, rows, strict=True):
            event = ExperienceRecorded(
                **attrs.asdict(command, recurse=False),
                event_id=row["event_id"],
                sequence_number=numbers[row["event_id"]],
                created_at=tx.at,
            )
            outcomes.append(Outcome(event, (event,)))
        return outcomes

    @reads(ExperienceList)
    async def list(self, command: ExperienceList) -> Reply:
        query, parameters = list_query(command)
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(query, parameters)).fetchall()
        epoch, seq = rows[0][:2]
        matches = [row[2:] for row in rows if row[2] is not None]
        page = matches[: command.limit]
        more = bool(matches) and matches[0][-1] > len(page)
        return ExperienceListed(
            events=tuple(_experience(row) for row in page),
            count=len(page),
            next=encode_cursor(page[-1][11], page[-1][0]) if more else None,
            position=Position(topic="experience", epoch=epoch, seq=seq),
        )


def list_query(command: ExperienceList) -> tuple[str, dict[str, Any]]:
    """The one statement, and so the one snapshot, that reads a page and the position it is true at."""
    conditions = []
    parameters: dict[str, Any] = {"limit": command.limit + 1}
    for name in ("event_type", "token_id", "trajectory_id"):
        value = getattr(command, name)
        if value is not None:
            conditions.append(f"{name} = %({name})s")
            parameters[name] = value
    if command.after is not None:
        conditions.append("(created_at, event_id) < (%(created_at)s, %(event_id)s)")
        parameters["created_at"], parameters["event_id"] = decode_cursor(command.after)
    where = "where " + " and ".join(conditions) if conditions else ""
    query = f"""
        select epoch, seq, page.* from topics left join lateral (
            select {_COLUMNS}, available from (
                select *, count(*) over () as available, sum({_JSON_BYTES}) over (
                    order by created_at desc, event_id desc rows between unbounded preceding and 1 preceding
                ) as bytes_before from (
                    select * from experiences {where} order by created_at desc, event_id desc limit %(limit)s
                ) as page
            ) as page where coalesce(bytes_before, 0) < {PAGE_JSON_BYTES}
        ) as page on true
        where topic = 'experience' order by page.created_at desc, page.event_id desc
    """
    return query, parameters


def _experience(row: tuple[Any, ...]) -> Experience:
    return Experience(
        event_id=row[0],
        event_type=row[1],
        token_id=row[2],
        state_before=_json(row[3]),
        state_after=_json(row[4]),
        action=_json(row[5]),
        reward=row[6],
        priority=row[7],
        trajectory_id=row[8],
        sequence_number=row[9],
        metadata=_json(row[10]),
        created_at=row[11],
    )


def _json(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)
