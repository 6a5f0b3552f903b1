"""What became of commands, and how long that took; traced where that is asked for."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

import orjson
import trio
from attrs import define, field

from ngos.distribution import FAST_S, Distribution
from ngos.log.write import Answer, Encoded
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.faults import CommandFailed, ErrorCode
from ngos.protocol.messages import ErrorReply
from ngos.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

UNKNOWN: Final = "unknown"
"""The type of what could not be read as a command."""
OK: Final = "ok"
CANCELLED: Final = "cancelled"
FROM_THE_START: Final = (OK, ErrorCode.INTERNAL.value, ErrorCode.UNAVAILABLE.value)
"""Outcomes that are shown before there are any, so that the first failure of ours is seen to rise from 0."""


def outcome_of(answer: Answer | None) -> str:
    """`ok`, or the error's code. None: a reply."""
    if isinstance(answer, CommandFailed):
        return answer.code.value
    if isinstance(answer, Encoded) and answer.type == ErrorReply.TYPE:  # a refusal that is kept, to be given again
        return ErrorCode(orjson.loads(answer.payload)["code"]).value
    return OK


@define(eq=False)
class Begun:
    """A command that is to be answered: since when, in Trio's time, and its span."""

    type: str
    at: float
    span: Span | None


@define(eq=False)
class Tally:
    """Counts answers by type and outcome: `ok`, or an error's code. Both are of this program, never of a client."""

    traces: Traces | None = None
    counts: dict[tuple[str, str], int] = field(
        init=False, factory=lambda: dict.fromkeys(product(COMMANDS, FROM_THE_START), 0)
    )
    seconds: dict[str, Distribution] = field(
        init=False, factory=lambda: {type_: Distribution(FAST_S) for type_ in COMMANDS}
    )

    def begin(self, type_: str, at: float, traceparent: str | None) -> Begun:
        """A command was read, at a Trio time; `end` is to follow, or `abandon`."""
        return Begun(type_, at, None if self.traces is None else self.traces.begin(type_, traceparent))

    def end(self, begun: Begun, answer: Answer | None) -> None:
        """It was answered: by a reply (None will do), or by an error."""
        outcome = outcome_of(answer)
        self.seconds[begun.type].observe(trio.current_time() - begun.at)
        self._count(begun.type, outcome)
        if begun.span is not None:
            assert self.traces is not None
            self.traces.end(begun.span, outcome)

    def abandon(self, begun: Begun) -> None:
        """Nobody will be answered: its connection is over."""
        if begun.span is not None:
            assert self.traces is not None
            self.traces.end(begun.span, CANCELLED)

    def refused(self, type_: str | None, failure: CommandFailed) -> None:
        """It was not let through, or never a command: then its type is not known. Of these nothing is timed."""
        self._count(type_ or UNKNOWN, failure.code.value)

    def _count(self, type_: str, outcome: str) -> None:
        key = type_, outcome
        self.counts[key] = self.counts.get(key, 0) + 1
