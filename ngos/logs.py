"""Where log lines go, which of them, and how many: the one place that sets structlog up.

What a client could cause in floods is held to a rate by the line's event name, which is one of a fixed set: BURST at
once and PER_S from then on; what was left out is told by a line `log.suppressed` when there is room again, and counted.
An incident's line is never left out, only its traceback. May import `ngos.config`.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, Final

import structlog
from attrs import define, field

from ngos.config import Settings

PER_S: Final = 10.0
"""Lines a second of one event, at length: 130 MB a day, if somebody tries."""
BURST: Final = 200
TRACEBACKS_PER_S: Final = 1 / 60
TRACEBACKS: Final = 10
"""Tracebacks of one incident at once; they are some KiB each."""

LINES: Final = (
    "auth.keys_failed",
    "commit.again",
    "commit.failed",
    "commit.split",
    "connection.closed",
    "connection.opened",
    "http.connection_failed",
    "listener.no_room",
    "mailboxes.full",
    "nodes.no_answer",
    "read.failed",
    "refusals.again",
    "relay.overtaken",
    "replay.overtaken",
)
"""The events whose lines are held to a rate. What else is logged comes about by starts, stops and timers."""
INCIDENTS: Final = (
    "auth.defect",
    "backplane.defect",
    "connection.defect",
    "doctor.defect",
    "http.defect",
    "read.defect",
    "server.defect",
    "write.defect",
)
"""The events whose tracebacks are. Those of others (there are none, see tests/test_logs.py) share OTHER."""
OTHER: Final = "other"

_log = structlog.get_logger("ngos")


@define(eq=False)
class _Bucket:
    per_s: float
    most: float
    left: float
    at: float
    dropped: int = 0

    def refill(self, now: float) -> None:
        self.left = min(self.most, self.left + (now - self.at) * self.per_s)
        self.at = now

    def take(self, now: float) -> bool:
        self.refill(now)
        if self.left < 1:
            self.dropped += 1
            return False
        self.left -= 1
        return True


@define(eq=False)
class Limiter:
    """A structlog processor, the first: raises DropEvent for lines that are below `level`, or too many.

    `suppressed` counts the lines that were left out since the start, and the tracebacks, by event.
    """

    level: int = logging.INFO
    _clock: Callable[[], float] = time.monotonic
    suppressed: dict[str, int] = field(init=False, factory=lambda: dict.fromkeys((*LINES, *INCIDENTS, OTHER), 0))
    _lines: dict[str, _Bucket] = field(init=False)
    _tracebacks: dict[str, _Bucket] = field(init=False)
    _untold: set[str] = field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        now = self._clock()
        self._lines = {name: _Bucket(PER_S, BURST, BURST, now) for name in LINES}
        self._tracebacks = {
            name: _Bucket(TRACEBACKS_PER_S, TRACEBACKS, TRACEBACKS, now) for name in (*INCIDENTS, OTHER)
        }

    def __call__(self, _logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if _LEVELS[method] < self.level:
            raise structlog.DropEvent
        now = self._clock()
        if self._untold:
            self._tell(now)
        name = str(line.get("event"))
        if "incident" in line:
            of = name if name in self._tracebacks else OTHER
            if not self._tracebacks[of].take(now):
                self.suppressed[of] += 1
                line.pop("exc_info", None)
                line["traceback"] = "left out: there were many of this event"
        elif (bucket := self._lines.get(name)) is not None and not bucket.take(now):
            self.suppressed[name] += 1
            self._untold.add(name)
            raise structlog.DropEvent
        return line

    def _tell(self, now: float) -> None:
        """Tell of what was left out, where there is room for the event's lines again."""
        roomy = set()
        for name in self._untold:
            bucket = self._lines[name]
            bucket.refill(now)
            if bucket.left >= 1:
                roomy.add(name)
        self._untold -= roomy  # before they are told of: each of those lines comes by here, too
        for name in sorted(roomy):
            bucket = self._lines[name]
            lines, bucket.dropped = bucket.dropped, 0
            # In an empty context: it is not of the connection whose line comes next.
            contextvars.Context().run(_log.warning, "log.suppressed", of=name, lines=lines)


LIMITER: Final = Limiter()
"""The process's, as structlog's configuration is."""
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
}
_processors: Final[list[structlog.typing.Processor]] = []
"""One list for good: loggers that were used already hold on to it."""


def set_log_level(level: str) -> None:
    """Log from this level on: debug, info, warning or error. Loggers that were used already follow."""
    LIMITER.level = getattr(logging, level.upper())


def _tell_worker(worker: int, _logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line["worker"] = worker
    return line


def configure_logging(settings: Settings, worker: int | None = None) -> None:
    """Send structlog's lines to stderr, as the settings say. Called again, loggers that were used already follow.

    `worker`: the number that each line tells, where several processes write to one stderr.
    """
    renderer: structlog.typing.Processor
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The other formatters show local variables, and with them what is secret.
            exception_formatter=structlog.dev.plain_traceback,
        )
    set_log_level(settings.log_level)
    _processors[:] = [
        LIMITER,
        *([] if worker is None else [partial(_tell_worker, worker)]),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([structlog.processors.format_exc_info] if settings.log_format == "json" else []),
        renderer,
    ]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # LIMITER has the level, which may change
        # A line in one write, with its end: workers share one stderr, and PrintLogger's newline comes by another write.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
