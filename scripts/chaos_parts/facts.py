"""What the database says: every event of the log, as the account wants it.

Promises only to read. Imports ngos.postgres by way of `postgres`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import orjson

from chaos_parts.postgres import connected

_EVENTS = """
select topic, events.seq, epoch, type, sender_id, created_at, payload
from events join topics using (topic_id) order by topic, events.seq
"""
_REPLIES = "select subject, command_id, type, payload, created_at from replies order by subject, command_id"
_POSITIONS = "select topic, seq from topics order by topic"


@attrs.frozen
class Logged:
    """An event of the log. `at` is the time of its transaction."""

    topic: str
    seq: int
    epoch: str
    type: str
    sender_id: str | None
    at: datetime
    payload: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.type} {self.topic}/{self.seq} by {self.sender_id}"


async def read_events(url: str) -> list[Logged]:
    """All events, in order within each topic."""
    async with connected(url) as connection:
        rows = await (await connection.execute(_EVENTS)).fetchall()
    return [Logged(*row) for row in rows]


async def read_positions(url: str) -> dict[str, int]:
    """The number of the last event, by topic."""
    async with connected(url) as connection:
        return dict(await (await connection.execute(_POSITIONS)).fetchall())


async def keep_tables(url: str, directory: Path) -> None:
    """Write the log, and the replies that the server has kept, as JSON lines, for who looks into it afterwards."""
    async with connected(url) as connection:
        for name, query in (("events", _EVENTS), ("replies", _REPLIES)):
            rows = await (await connection.execute(query)).fetchall()
            (directory / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
