"""Every change has its event, and every event its change.

A topic's events are folded, in order, into what they say that there is; then each row of the table must be just what
its latest event says, and nothing that was created and not deleted may be without a row. Of each thing only its latest
event's number, version and digest are held.

Where the log was pruned, a row whose event is gone can't be checked, unless it is so new that its event can't be gone;
and what was deleted is remembered as well, for a row of it must not pass for an old one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from attrs import define, field

from ngos.verify.report import FIRST, Check
from ngos.verify.snapshot import EVENTS, Snapshot, Topic, digest, load_object
from ngos.verify.tables import TABLES, Table

SKEW: Final = timedelta(minutes=1)
"""How much later than the oldest event the time of a pruned one may be.

A change has the time at which its transaction began, by its node's clock; the numbers have the order of the commits.
"""
_DELETED: Final = b""


@define
class _Fold:
    """What a topic's events say. `latest` is, by id: digest (16 bytes), digest of `kept` (8), seq (8), version (8)."""

    table: Table
    check: Check
    pruned: bool
    latest: dict[bytes, bytes] = field(factory=dict)
    oldest: datetime | None = None

    def event(self, seq: int, type_: str, text: str, at: datetime) -> None:
        """Apply an event."""
        table = self.table
        self.check.looked_at += 1
        self.oldest = at if self.oldest is None else self.oldest
        try:
            payload = load_object(text)
            key = UUID(payload[table.key]).bytes
            state = _state(table, payload, seq)
        except (KeyError, ValueError, TypeError, AttributeError):
            self.fault(seq, f"{type_} does not say of which {table.noun}")
            return
        before = self.latest.get(key)
        name = f"{table.noun} {UUID(bytes=key)}"
        if type_ == table.creates:
            if before:
                self.fault(seq, f"{name} is created again, it was in {table.topic} {_seq(before)}")
            elif table.updates and payload.get("version") != 1:
                self.fault(seq, f"{name} is created with version {payload.get('version')}")
            self.latest[key] = state
        elif type_ == table.updates:
            if before:
                if _version(state) != _version(before) + 1:
                    self.fault(seq, f"{name} goes from version {_version(before)} to {payload.get('version')}")
            elif before == _DELETED or not self.pruned:
                self.fault(seq, f"{name} is changed, and was {'deleted' if before == _DELETED else 'never created'}")
            self.latest[key] = state
        elif type_ == table.deletes:
            if before:
                if before[16:24] != state[16:24]:
                    self.fault(seq, f"{name} is deleted as another than it was in {table.topic} {_seq(before)}")
            elif before == _DELETED or not self.pruned:
                self.fault(seq, f"{name} is deleted, and was {'before' if before == _DELETED else 'never created'}")
            if self.pruned:
                self.latest[key] = _DELETED
            else:
                self.latest.pop(key, None)
        else:
            self.fault(seq, f"{type_} is no event of this topic")

    def fault(self, seq: int, text: str) -> None:
        self.check.fault(f"{self.table.topic} {seq}: {text}")


async def check_changes(snapshot: Snapshot) -> Check:
    """Compare the tables with what the events say."""
    check = Check("changes", "events and rows")
    for table in TABLES:
        topic = snapshot.topics.get(table.topic)
        if topic is None:
            check.fault(f"{table.topic}: the topic is gone, its changes can't be told")
            continue
        fold = _Fold(table, check, topic.pruned > 0)
        async for seq, type_, text, _sender_id, at in snapshot.events(topic):
            fold.event(seq, type_, text, at)
        await _compare(snapshot, topic, fold)
    return check


async def _compare(snapshot: Snapshot, topic: Topic, fold: _Fold) -> None:
    """Compare each row with its latest event; what is left then are events without a row."""
    table, check = fold.table, fold.check
    async for page in snapshot.pages(table.select):
        for row in page:
            check.looked_at += 1
            name = f"{table.noun} {row[0]}"
            state = fold.latest.pop(row[0].bytes, None)
            if state == _DELETED:
                check.fault(f"{name} is there, though its last event deleted it")
            elif state is None:
                # Where everything was pruned there is nothing to tell by what is new.
                if not fold.pruned:
                    check.fault(f"{name} is there, without an event")
                elif fold.oldest is not None and row[-1] > fold.oldest + SKEW:
                    check.fault(f"{name} is there, without an event, though it is newer than what was pruned")
                else:
                    check.unchecked += 1
            elif state[:16] != _digest_of(table, row):
                fields = ""
                if check.faults < FIRST:
                    fields = await _differences(snapshot, topic, table, row, _seq(state))
                check.fault(f"{name} is not what {table.topic} {_seq(state)} says{fields}")
    for key, state in fold.latest.items():
        if state != _DELETED:
            check.fault(f"{table.noun} {UUID(bytes=key)} is not there, though {table.topic} {_seq(state)} says so")


def _state(table: Table, payload: dict[str, Any], seq: int) -> bytes:
    kept = digest([payload[name] for name in table.kept])[:8] if table.kept else bytes(8)
    version = payload.get("version", 0)
    if type(version) is not int or not 0 <= version < 2**63:
        version = 0
    return digest(payload) + kept + seq.to_bytes(8, "big") + version.to_bytes(8, "big")


def _seq(state: bytes) -> int:
    return int.from_bytes(state[24:32], "big")


def _version(state: bytes) -> int:
    return int.from_bytes(state[32:40], "big")


def _digest_of(table: Table, row: tuple[Any, ...]) -> bytes | None:
    """None for a row that can't even be written as JSON."""
    try:
        return digest(table.value(*row))
    except ValueError:
        return None


async def _differences(snapshot: Snapshot, topic: Topic, table: Table, row: tuple[Any, ...], seq: int) -> str:
    """Which fields of a row are not what its event says."""
    rows = await snapshot.rows(f"{EVENTS} where topic_id = %s and seq = %s", [topic.topic_id, seq])
    try:
        said = load_object(rows[0][2])
        there = table.value(*row)
    except (ValueError, IndexError):
        return ": it can't be read"
    names = sorted(name for name in said.keys() | there.keys() if said.get(name, ...) != there.get(name, ...))
    texts = [f"{name} {_brief(there, name)}, said {_brief(said, name)}" for name in names]
    return ": " + "; ".join(texts) if texts else ""


def _brief(value: dict[str, Any], name: str) -> str:
    if name not in value:
        return "nothing"
    text = orjson.dumps(value[name]).decode()
    return text if len(text) <= 60 else text[:57] + "…"
