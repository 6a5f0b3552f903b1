"""Numbers without holes: those of each topic's events, and those of each trajectory's experiences. Postgres counts."""

from __future__ import annotations

from typing import Final

from ngos.protocol.catalog import OWN_DURABLE_TOPICS
from ngos.verify.report import FIRST, Check
from ngos.verify.snapshot import Snapshot, Topic

_COUNT: Final = """
select count(*) filter (where seq <= %(seq)s), count(*) filter (where seq > %(seq)s), max(seq)
from events where topic_id = %(topic_id)s and seq > %(pruned)s
"""

_HOLES: Final = """
select before + 1, seq - 1 from (
    select seq, lag(seq, 1, %(pruned)s) over (order by seq) as before from (
        select seq from events where topic_id = %(topic_id)s and seq > %(pruned)s and seq <= %(seq)s
        union all select %(seq)s + 1
    ) as numbered
) as pairs where seq > before + 1 order by seq limit %(limit)s
"""

_TRAJECTORIES: Final = """
select trajectory_id, trajectories.sequence_number, steps, numbers, least, most
from trajectories full join (
    select trajectory_id, count(*) as steps, count(distinct sequence_number) as numbers, min(sequence_number) as least,
        max(sequence_number) as most
    from experiences where trajectory_id is not null group by trajectory_id
) as lived using (trajectory_id)
"""

_STRAYS: Final = """
select event_id from experiences where (trajectory_id is null) <> (sequence_number is null) limit %s
"""


async def check_numbers(snapshot: Snapshot) -> Check:
    """Each topic has the events from the oldest that was not pruned to its `seq`, without holes or extras."""
    check = Check("numbers", "events")
    for name in sorted(OWN_DURABLE_TOPICS - snapshot.topics.keys()):
        check.fault(f"{name}: the topic is gone")
    for topic in snapshot.topics.values():
        await _check_topic(snapshot, topic, check)
    return check


async def _check_topic(snapshot: Snapshot, topic: Topic, check: Check) -> None:
    named = {"topic_id": topic.topic_id, "seq": topic.seq, "pruned": topic.pruned, "limit": FIRST}
    if topic.pruned > topic.seq:
        check.fault(f"{topic.name}: pruned up to {topic.pruned}, though its last number is {topic.seq}")
    ((there, extra, most),) = await snapshot.rows(_COUNT, named)
    check.looked_at += there + extra
    check.unchecked += min(topic.pruned, topic.seq)
    if extra:
        check.fault(f"{topic.name}: {extra} after its last number {topic.seq}, up to {most}", extra)
    missing = max(0, topic.seq - topic.pruned) - there
    if missing <= 0:
        return
    for first, last in await snapshot.rows(_HOLES, named):
        which = f"{first} is missing" if first == last else f"{first} to {last} are missing"
        check.fault(f"{topic.name}: {which}", last - first + 1)
        missing -= last - first + 1
    if missing:
        check.fault(f"{topic.name}: {missing} more are missing", missing)


async def check_trajectories(snapshot: Snapshot) -> Check:
    """Each trajectory's experiences are numbered 1 to n, once each, and n is the last number that was given out."""
    check = Check("trajectories", "trajectories")
    async for page in snapshot.pages(_TRAJECTORIES):
        for trajectory_id, last, steps, numbers, least, most in page:
            check.looked_at += 1
            if steps is None:
                check.fault(f"{trajectory_id}: numbers up to {last} were given out, and there is no experience")
            elif not (last == steps == numbers == most and least == 1):
                check.fault(
                    f"{trajectory_id}: {steps} experiences have {numbers} numbers from {least} to {most}; "
                    f"the last that was given out is {last}"
                )
    for (event_id,) in await snapshot.rows(_STRAYS, [FIRST]):
        check.fault(f"experience {event_id} has a trajectory or a number in it, without the other")
    return check
