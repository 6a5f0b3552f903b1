"""Each read against the state at the position that it claimed. Pure.

Promises: a read is sound only if what it told is what the events up to its position make, and that position is not
before any write that somebody, on whatever node, had been answered before the read was sent. A path has no position: it
has to be right at one of those that the log can have had while it was asked for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import orjson
from attrs import define, field, frozen

from hunt_parts.state import State, digest

MOST_EXAMPLES = 10


@frozen
class Written:
    """A write that was answered: when it was sent and answered, and which event of a topic it made."""

    sent_s: float
    answered_s: float
    topic: str
    seq: int


@frozen
class Read:
    """A read that was answered. `seq` is its position, of `topic`; a path has None, and is kept whole as `path`."""

    node: int
    type: str
    asked: bytes
    sent_s: float
    answered_s: float
    topic: str
    epoch: str | None = None
    seq: int | None = None
    told: bytes = b""
    path: tuple[str, ...] | None = None


@define(eq=False)
class Verdict:
    """What came of it. `behind`: reads at a position from before a write that was answered already."""

    reads: Counter[str] = field(factory=Counter)
    stale: int = 0
    behind: int = 0
    examples: list[str] = field(factory=list)

    def note(self, what: str, read: Read) -> None:
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{what}: node {read.node}, {read.type} {read.asked.decode()} at {read.seq}")


@frozen(eq=False)
class Bounds:
    """Where the log of a topic was, as far as those who wrote can tell."""

    answered: Sequence[tuple[float, int]]
    sent: Sequence[tuple[float, int]]
    head: int

    @classmethod
    def of(cls, written: Sequence[Written], topic: str, head: int) -> Bounds:
        of_topic = [write for write in written if write.topic == topic]
        answered = sorted((write.answered_s, write.seq) for write in of_topic)
        highest = list(accumulate((seq for _, seq in answered), max))
        sent = sorted((write.sent_s, write.seq) for write in of_topic)
        lowest = list(accumulate((seq for _, seq in reversed(sent)), min))[::-1]
        return cls(
            [(at, seq) for (at, _), seq in zip(answered, highest, strict=True)],
            [(at, seq) for (at, _), seq in zip(sent, lowest, strict=True)],
            head,
        )

    def lowest(self, at_s: float) -> int:
        """What had been answered by then."""
        index = bisect_left(self.answered, (at_s, 0))
        return self.answered[index - 1][1] if index else 0

    def highest(self, at_s: float) -> int:
        """What can have been committed by then: nothing that was sent later."""
        index = bisect_right(self.sent, (at_s, self.head + 1))
        return self.sent[index][1] - 1 if index < len(self.sent) else self.head


def judge(
    reads: Sequence[Read],
    written: Sequence[Written],
    log: dict[str, list[tuple[str, dict[str, Any]]]],
    epochs: set[str],
) -> Verdict:
    """`log` holds the events of each topic, from the first on, as type and payload."""
    verdict = Verdict()
    for topic, events in log.items():
        of_topic = [read for read in reads if read.topic == topic]
        bounds = Bounds.of(written, topic, len(events))
        _judge_topic(verdict, of_topic, bounds, events, epochs)
    return verdict


def _judge_topic(
    verdict: Verdict, reads: Sequence[Read], bounds: Bounds, events: list[tuple[str, dict[str, Any]]], epochs: set[str]
) -> None:
    due: dict[int, list[Read]] = {}
    paths: dict[int, list[tuple[Read, int]]] = {}
    for read in reads:
        verdict.reads[read.type] += 1
        lowest = bounds.lowest(read.sent_s)
        if read.seq is None:
            paths.setdefault(lowest, []).append((read, bounds.highest(read.answered_s)))
            continue
        if read.seq < lowest or read.epoch not in epochs:
            verdict.behind += 1
            verdict.note(f"behind {lowest}", read)
        if read.seq > len(events):
            verdict.stale += 1
            verdict.note("beyond the log", read)
        due.setdefault(read.seq, []).append(read)
    state = State()
    open_paths: list[tuple[Read, int]] = []
    for seq in range(len(events) + 1):
        if seq:
            state.apply(*events[seq - 1])
        answers: dict[tuple[str, bytes], bytes] = {}
        for read in due.get(seq, ()):
            key = read.type, read.asked
            if key not in answers:
                answers[key] = digest(state.answer(read.type, orjson.loads(read.asked)))
            if answers[key] != read.told:
                verdict.stale += 1
                verdict.note("not what the log says", read)
        open_paths += paths.get(seq, [])
        open_paths = list(_still_wrong(verdict, open_paths, state, seq))
    for read, _ in open_paths:
        verdict.stale += 1
        verdict.note("no such path", read)


def _still_wrong(verdict: Verdict, paths: list[tuple[Read, int]], state: State, seq: int) -> Iterator[tuple[Read, int]]:
    """Those that are not right at this position; what has no further one to be right at is counted."""
    known: dict[tuple[bytes, tuple[str, ...] | None], bool] = {}
    for read, highest in paths:
        key = read.asked, read.path
        if key not in known:
            path = None if read.path is None else list(read.path)
            known[key] = state.is_shortest(path, **orjson.loads(read.asked))
        if known[key]:
            continue
        if seq >= highest:
            verdict.stale += 1
            verdict.note("no such path", read)
        else:
            yield read, highest
