"""How long things took, before, during and after each fault: commands, and events on their way to the other nodes.

A command takes from its first sending to its first reply, whatever happened between. An event takes from the reply
to its command, at one node, to its arrival at a listener of another; it may be there before the reply is. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from chaos_parts.plan import Fault


@attrs.frozen
class Timed:
    """A command that was answered, at the node of that place; times in seconds of the journals' clock."""

    id: str
    sent_at: float
    answered_at: float
    node: int


@attrs.define
class Times:
    """What the journals say of times. `troubles`: when a command had no reply, or one that says: again."""

    commands: list[Timed] = attrs.field(factory=list)
    troubles: list[tuple[float, str]] = attrs.field(factory=list)
    heard: list[dict[str, float]] = attrs.field(factory=list)
    """By the place of the node: when the event of each command was there."""

    def add_journal(self, lines: Iterable[bytes], nodes: Sequence[int]) -> None:
        """Take a writer's journal in; `nodes` are the places of those in its list."""
        sent: dict[str, float] = {}
        for line in lines:
            match orjson.loads(line):
                case {"send": id_, "at": at}:
                    sent[id_] = at
                case {"answer": id_, "at": at, "node": node} if id_ in sent:
                    self.commands.append(Timed(id_, sent.pop(id_), at, nodes[node]))
                case {"trouble": _, "why": why, "at": at}:
                    self.troubles.append((at, why))

    def add_listener(self, lines: Iterable[bytes]) -> None:
        """Take the journal of the next node's listener in."""
        heard: dict[str, float] = {}
        for line in lines:
            entry = orjson.loads(line)
            heard.setdefault(entry["id"], entry["at"])
        self.heard.append(heard)


@attrs.frozen
class Span:
    """A fault, and when it began and was over."""

    fault: Fault
    detail: str
    begun_at: float
    over_at: float


@attrs.frozen
class Spread:
    """So many, and how long they took, in milliseconds; None where there was none."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        """Of these."""
        found = sorted(seconds)
        if not found:
            return cls(0, None, None, None)
        last = len(found) - 1
        p50, p99, longest = (round(1000 * found[round(share * last)], 2) for share in (0.5, 0.99, 1))
        return cls(len(found), p50, p99, longest)


@attrs.frozen
class Phase:
    """What was sent in one of three stretches of time: `before`, `during`, `after`."""

    kind: str
    detail: str
    name: str
    seconds: float
    commands: Spread
    deliveries: Spread
    troubles: Mapping[str, int]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return attrs.asdict(self)


def phases(times: Times, spans: Iterable[Span], around_s: float) -> list[Phase]:
    """Three phases for each fault. Before and after take `around_s`, and so does at least the fault."""
    commands = sorted(times.commands, key=lambda command: command.sent_at)
    found = []
    for span in spans:
        over_at = max(span.over_at, span.begun_at + around_s)
        bounds = (span.begun_at - around_s, span.begun_at, over_at, over_at + around_s)
        for name, start, end in zip(("before", "during", "after"), bounds[:-1], bounds[1:], strict=True):
            within = commands[_place(commands, start) : _place(commands, end)]
            troubles: dict[str, int] = {}
            for at, why in times.troubles:
                if start <= at < end:
                    troubles[why] = troubles.get(why, 0) + 1
            found.append(
                Phase(
                    kind=span.fault.kind.value,
                    detail=span.detail,
                    name=name,
                    seconds=round(end - start, 2),
                    commands=Spread.of(command.answered_at - command.sent_at for command in within),
                    deliveries=Spread.of(_deliveries(times, within)),
                    troubles=troubles,
                )
            )
    return found


def _place(commands: Sequence[Timed], at: float) -> int:
    return bisect_left(commands, at, key=lambda command: command.sent_at)


def _deliveries(times: Times, commands: Iterable[Timed]) -> Iterable[float]:
    for command in commands:
        for node, heard in enumerate(times.heard):
            if node != command.node and command.id in heard:
                yield heard[command.id] - command.answered_at
