"""What became of commands, and how long that took; traced where that is asked for."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Final

import orjson
import trio
from attrs import define, field

from ngos.distribution import FAST_S, Distribution
from ngos.log.write import Answer
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
FROM_THE_START: Final = (ErrorCode.INTERNAL.value, ErrorCode.UNAVAILABLE.value)
"""Failures of ours that are shown before there are any, so that the first is seen to rise from 0; so is `ok`."""


def outcome_of(answer: Answer) -> str:
    """`ok`, or the error's code."""
    if isinstance(answer, CommandFailed):
        return answer.code.value
    if answer.type == ErrorReply.TYPE:  # a refusal that is kept, to be given again
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
    """Counts answers by type and outcome: `ok`, or an error's code. Both are of this program, never of a client.

    On the way of every command, so what went well is counted once, with its time: `counts` finds out the rest.
    """

    traces: Traces | None = None
    seconds: dict[str, Distribution] = field(
        init=False, factory=lambda: {type_: Distribution(FAST_S) for type_ in COMMANDS}
    )
    _errors: dict[tuple[str, str], int] = field(
        init=False, factory=lambda: dict.fromkeys(product(COMMANDS, FROM_THE_START), 0)
    )
    _timed_errors: Counter[str] = field(init=False, factory=Counter)

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many answers there were, by type and outcome. Made anew each time."""
        ok = {(type_, OK): timed.count - self._timed_errors[type_] for type_, timed in self.seconds.items()}
        return ok | self._errors

    def begin(self, type_: str, at: float, traceparent: str | None) -> Begun:
        """A command was read, at a Trio time; `end` is to follow, or `abandon`."""
        return Begun(type_, at, None if self.traces is None else self.traces.begin(type_, traceparent))

    def end(self, begun: Begun, answer: Answer | None) -> None:
        """It was answered: by a reply (None will do), or by an error."""
        self.seconds[begun.type].observe(trio.current_time() - begun.at)
        outcome = OK if answer is None else outcome_of(answer)
        if outcome != OK:
            self._timed_errors[begun.type] += 1
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

    def _count(self, type_: str, error: str) -> None:
        key = type_, error
        self._errors[key] = self._errors.get(key, 0) + 1
