"""What watchers saw, by their journals, beside the log: an opinion of our own, next to that of `ngos verify`.

Promises: each topic of each watcher is followed from where it began to the end of the log; whatever comes out of
turn, or is not what the log has, is a finding of one of the KINDS. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import orjson

from chaos_parts.facts import Logged

KINDS = {
    "gaps": "events that a watcher was not shown before a later one",
    "repeats": "events that a watcher was shown again",
    "disorder": "events that a watcher was shown after a later one",
    "different": "events that a watcher was shown otherwise than the log has them",
    "unseen": "topics whose end a watcher did not see",
}

Findings = dict[str, list[str]]


def judge_watcher(name: str, lines: Iterable[bytes], log: Sequence[Logged]) -> Findings:
    """Compare a watcher's journal, line by line, with the whole log."""
    findings: Findings = {kind: [] for kind in KINDS}
    logged = {(event.topic, event.seq): event for event in log}
    last: dict[str, int] = {}
    missing: dict[str, set[int]] = defaultdict(set)
    for line in lines:
        entry = orjson.loads(line)
        begins = entry.get("subscribed")
        topic, seq = (begins or entry)["topic"], (begins or entry)["seq"]
        where = f"{name}: {topic}/{seq}"
        before = last.setdefault(topic, seq if begins else 0)
        skipped = range(before + 1, seq + 1 if begins else seq)
        if skipped:
            missing[topic].update(skipped)
            findings["gaps"].append(f"{where} after {before}")
        last[topic] = max(before, seq)
        if begins:
            continue
        if seq in missing[topic]:
            missing[topic].discard(seq)
            findings["disorder"].append(f"{where} after {before}")
        elif seq <= before:
            findings["repeats"].append(f"{where} after {before}")
        event = logged.get((topic, seq))
        seen = (entry["epoch"], entry["type"], entry.get("sender_id"), entry["payload"])
        if event is None or seen != (event.epoch, event.type, event.sender_id, event.payload):
            findings["different"].append(f"{where}: {entry['type']}, but {event}")
    ends = {event.topic: event.seq for event in log}
    findings["unseen"] += [
        f"{name}: {topic} ended at {seq}, the log at {ends.get(topic, 0)}"
        for topic, seq in last.items()
        if seq != ends.get(topic, 0)
    ]
    return findings
