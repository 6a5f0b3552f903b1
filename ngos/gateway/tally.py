"""What became of commands, and how long that took; traced where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field, frozen

from ngos.distribution import Distribution
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.faults import CommandFailed
from ngos.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

UNKNOWN: Final = "unknown"
"""The type of what could not be read as a command."""
OK: Final = "ok"
CANCELLED: Final = "cancelled"


@frozen(eq=False)
class Begun:
    """A command that is to be answered: since when, in Trio's time, and its span."""

    type: str
    at: float
    span: Span | None


@define(eq=False)
class Tally:
    """Counts answers by type and outcome: `ok`, or an error's code. Both are of this program, never of a client."""

    traces: Traces | None = None
    counts: dict[tuple[str, str], int] = field(init=False, factory=dict)
    seconds: dict[str, Distribution] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.seconds = {type_: Distribution() for type_ in (*COMMANDS, UNKNOWN)}

    def begin(self, type_: str, at: float, traceparent: str | None) -> Begun:
        """A command was read, at a Trio time; `end` is to follow."""
        return Begun(type_, at, None if self.traces is None else self.traces.begin(type_, traceparent))

    def end(self, begun: Begun, failure: CommandFailed | None) -> None:
        """It was answered: by its reply, or by an error."""
        outcome = OK if failure is None else str(failure.code)
        self.count(begun.type, begun.at, outcome)
        if begun.span is not None:
            assert self.traces is not None
            self.traces.end(begun.span, outcome)

    def abandon(self, begun: Begun) -> None:
        """Nobody will be answered: its connection is over."""
        if begun.span is not None:
            assert self.traces is not None
            self.traces.end(begun.span, CANCELLED)

    def count(self, type_: str, at: float, outcome: str) -> None:
        """The same for what has no span: it was never a command."""
        key = type_, outcome
        self.counts[key] = self.counts.get(key, 0) + 1
        self.seconds[type_].observe(trio.current_time() - at)
