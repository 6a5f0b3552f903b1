"""Logs of some length for tests, written by SQL as the server would have written them."""

from __future__ import annotations

import psycopg

FILL = """
with topic as (
    update topics set seq = seq + %(count)s where topic = %(topic)s returning topic_id, seq - %(count)s as before
)
insert into events (topic_id, seq, type, sender_id, created_at, payload)
select topic_id, before + n, 'filled', 'filler', now(),
    json_build_object('n', before + n, 'text', repeat('x', %(text_bytes)s))
from topic, generate_series(1, %(count)s) as n
"""
PRUNE = "update topics set pruned = %(upto)s where topic = %(topic)s"
SWEEP = """
delete from events using topics
where events.topic_id = topics.topic_id and topic = %(topic)s and events.seq <= topics.pruned
"""


def fill(conninfo: str, topic: str, count: int, text_bytes: int = 20) -> None:
    """Append `count` events of type `filled`, whose payload has the event's number as `n`."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("set synchronous_commit = off")
        db.execute(FILL, {"count": count, "topic": topic, "text_bytes": text_bytes})


def prune(conninfo: str, topic: str, upto: int) -> None:
    """Drop the events up to a position, as retention does."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        for statement in (PRUNE, SWEEP):
            db.execute(statement, {"topic": topic, "upto": upto})
