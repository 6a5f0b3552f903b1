"""What was answered is what was logged, and no change answered two commands (protocol.md section 6)."""

from __future__ import annotations

from typing import Any, Final

from ngos.protocol.messages import ErrorReply, GraphNotFound, Published, TokenNotFound
from ngos.verify.report import FIRST, Check
from ngos.verify.snapshot import Snapshot, canonical, load_object

_WITHOUT_EVENT: Final = (ErrorReply.TYPE, TokenNotFound.TYPE, GraphNotFound.TYPE)

_REPLIES: Final = """
select subject, command_id, replies.type, replies.payload, replies.topic_id, replies.seq, topic, epoch, topics.pruned,
    events.type, events.payload::text
from replies left join topics using (topic_id)
    left join events on events.topic_id = replies.topic_id and events.seq = replies.seq
"""

_TWICE: Final = """
select topic, replies.seq, count(*), min(command_id), max(command_id), (sum(count(*) - 1) over ())::int8
from replies left join topics using (topic_id)
where replies.seq is not null group by topic, replies.topic_id, replies.seq having count(*) > 1
order by 1, 2 limit %s
"""


async def check_replies(snapshot: Snapshot) -> Check:
    """Each reply is that of the event that it points at; who changed nothing points at none; no two share one."""
    check = Check("replies", "replies")
    async for page in snapshot.pages(_REPLIES):
        for subject, command_id, *reply in page:
            check.looked_at += 1
            what = _fault(check, *reply)
            if what is not None:
                check.fault(f"the reply to {command_id!r} of {subject!r}, {reply[0]}, {what}")
    shared = await snapshot.rows(_TWICE, [FIRST])
    for topic, seq, count, first, last, _ in shared:
        check.fault(f"{topic} {seq} is the event of {count} replies, as those to {first!r} and {last!r}", count - 1)
    more = shared[0][5] - sum(row[2] - 1 for row in shared) if shared else 0
    if more:
        check.fault(f"{more} more replies have an event that is another's", more)
    return check


def _fault(
    check: Check,
    type_: str,
    payload: str,
    topic_id: int | None,
    seq: int | None,
    topic: str | None,
    epoch: str | None,
    pruned: int | None,
    event_type: str | None,
    event_payload: str | None,
) -> str | None:
    """What is wrong with a reply, or None."""
    try:
        said = load_object(payload)
    except ValueError:
        return "is not a JSON object"
    if type_ in _WITHOUT_EVENT:
        return None if topic_id is None and seq is None else f"points at {topic} {seq}, though it changed nothing"
    if topic_id is None or seq is None:
        return "points at no event, though it changed something"
    if topic is None or pruned is None:
        return f"points at a topic that is not there, number {topic_id}"
    if type_ == Published.TYPE:
        position = {"topic": topic, "durable": True, "epoch": epoch, "seq": seq}
        told = {name: said.get(name) for name in position}
        if told != position:
            return f"tells of {told['topic']} {told['seq']} in {told['epoch']}, and points at {topic} {seq} in {epoch}"
    if seq <= pruned:
        check.unchecked += 1
        return None
    if event_type is None or event_payload is None:
        return f"points at {topic} {seq}, which is not there"
    if type_ == Published.TYPE:
        return None
    if type_ != event_type:
        return f"points at {topic} {seq}, which is {event_type}"
    if payload != event_payload and not _equal(said, event_payload):
        return f"does not say what {topic} {seq} says"
    return None


def _equal(said: dict[str, Any], text: str) -> bool:
    try:
        return canonical(said) == canonical(load_object(text))
    except ValueError:
        return False
