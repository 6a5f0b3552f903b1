"""Each watcher saw every event once, in order, as the log has it. May import `ngos.journal` and `ngos.log.store`.

A journal is read line by line, and what it holds is compared with the log some hundred events at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from ngos.client.feed import Event
from ngos.journal import Odd, Opened, Torn, read
from ngos.log.store import to_ms
from ngos.verify.report import Check
from ngos.verify.snapshot import EVENTS, Snapshot, Topic, digest, load_object

TOGETHER: Final = 500
"""Events of a topic that are compared at once; of each, only a digest of the payload is held."""


@frozen
class Sized:
    """A journal, and how long it was before the snapshot: what came later, the snapshot may not know."""

    path: Path
    size_bytes: int


@frozen
class _Line:
    """An event of a journal, to be compared."""

    number: int
    seq: int
    id: str
    type: str
    sender_id: str | None
    timestamp_ms: int
    payload: bytes | None


@define
class _Course:
    """What a journal has of one durable topic. `last` is the last number that it has come to."""

    name: str
    epoch: str
    last: int
    topic: Topic | None
    pending: list[_Line] = field(factory=list)


async def check_journals(snapshot: Snapshot, journals: list[Sized], *, complete: bool) -> Check:
    """Check each journal; with `complete` it must also have come to the last event of each durable topic in it."""
    check = Check("journals", "events")
    for journal in journals:
        await _Reader(snapshot, journal, check).check_all(complete=complete)
    return check


@define
class _Reader:
    _snapshot: Snapshot
    _journal: Sized
    _check: Check
    _courses: dict[str, _Course] = field(init=False, factory=dict)

    async def check_all(self, *, complete: bool) -> None:
        lines = ephemeral = 0
        for number, entry in read(self._journal.path, self._journal.size_bytes):
            lines = number
            match entry:
                case Odd(why):
                    self._fault(number, f"no watcher wrote this: {why}")
                case Torn():
                    self._check.remark(f"{self._journal.path}: line {number}, the last one, is torn")
                case Opened():
                    self._open(number, entry)
                case Event(topic=str(), seq=int(), epoch=str()):
                    await self._see(number, entry)
                case Event():
                    ephemeral += 1
        for course in self._courses.values():
            await self._compare(course)
            if complete and course.topic is not None and course.last < course.topic.seq:
                self._fault(lines, f"{course.name} ends at {course.last}, the log at {course.topic.seq}")
        self._check.unchecked += ephemeral
        if not lines:
            self._check.remark(f"{self._journal.path}: is empty")
        if ephemeral:
            self._check.remark(f"{self._journal.path}: {ephemeral} events of ephemeral topics, which have no numbers")

    def _fault(self, number: int, text: str, count: int = 1) -> None:
        self._check.fault(f"{self._journal.path}, line {number}: {text}", count)

    def _course(self, number: int, name: str, epoch: str, last: int) -> _Course | None:
        """The topic's course, begun here if it was not; None where the epoch is another."""
        course = self._courses.get(name)
        if course is None:
            topic = self._snapshot.topics.get(name)
            course = self._courses[name] = _Course(name, epoch, last, topic)
            if topic is None:
                self._fault(number, f"{name} is not in the database")
            elif topic.epoch != epoch:
                self._fault(number, f"{name} is in epoch {epoch}, the log in {topic.epoch}: it was lost, or is another")
                course.topic = None
            elif topic.seq < last:
                self._fault(number, f"{name} was at {last}, and the log ends at {topic.seq}")
        if course.epoch == epoch:
            return course
        self._fault(number, f"{name} goes from epoch {course.epoch} to {epoch}")
        return None

    def _open(self, number: int, opened: Opened) -> None:
        course = self._course(number, opened.topic, opened.epoch, opened.seq)
        if course is None or opened.seq == course.last:
            return
        if opened.seq > course.last:
            self._missing(number, course, opened.seq + 1)
        else:
            self._fault(number, f"{course.name} goes on after {opened.seq}, though {course.last} was there already")

    async def _see(self, number: int, seen: Event) -> None:
        assert seen.topic is not None
        assert seen.seq is not None
        assert seen.epoch is not None
        self._check.looked_at += 1
        course = self._course(number, seen.topic, seen.epoch, seen.seq - 1)
        if course is None:
            return
        if seen.seq <= course.last:
            self._fault(number, f"{course.name} {seen.seq} comes after {course.last}: twice, or out of order")
        elif seen.seq > course.last + 1:
            self._missing(number, course, seen.seq)
        course.last = max(course.last, seen.seq)
        if course.topic is None:
            return
        try:
            payload = digest(seen.payload)
        except ValueError:
            payload = None
        line = _Line(number, seen.seq, seen.id, seen.type, seen.sender_id, seen.timestamp_ms, payload)
        course.pending.append(line)
        if len(course.pending) >= TOGETHER:
            await self._compare(course)

    def _missing(self, number: int, course: _Course, seq: int) -> None:
        """Count what is between the last event and `seq`."""
        first, last = course.last + 1, seq - 1
        which = f"{first} is missing" if first == last else f"{first} to {last} are missing"
        self._fault(number, f"{course.name} {which}", last - first + 1)
        course.last = last

    async def _compare(self, course: _Course) -> None:
        """Compare what waits with the log."""
        topic, lines = course.topic, course.pending
        if topic is None or not lines:
            return
        query = f"{EVENTS} where topic_id = %s and seq = any(%s::int8[]) and seq > %s"
        rows = await self._snapshot.rows(query, [topic.topic_id, [line.seq for line in lines], topic.pruned])
        logged = {row[0]: row[1:] for row in rows}
        for line in lines:
            if line.seq <= topic.pruned:
                self._check.unchecked += 1
            elif line.seq not in logged:
                end = f", which ends at {topic.seq}" if line.seq > topic.seq else ""
                self._fault(line.number, f"{course.name} {line.seq} was seen, and is not in the log{end}")
            else:
                type_, text, sender_id, at = logged[line.seq]
                try:
                    payload = digest(load_object(text))
                except ValueError:
                    payload = None
                said = {
                    "id": (line.id, f"{topic.epoch}-{line.seq}"),
                    "type": (line.type, type_),
                    "sender_id": (line.sender_id, sender_id),
                    "timestamp": (line.timestamp_ms, to_ms(at)),
                    "payload": (line.payload, payload),
                }
                other = [name for name, (here, there) in said.items() if here is None is not there or here != there]
                if other:
                    self._fault(line.number, f"{course.name} {line.seq} is not what the log has: {', '.join(other)}")
        lines.clear()
