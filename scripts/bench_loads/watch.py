"""What a load saw phase by phase: the server's memory, and what another client (`beside`) waited for replies."""

from __future__ import annotations

import asyncio
from time import perf_counter

from bench_loads.beside import Samples
from bench_loads.common import LoadError, Numbers, Run, latencies, rss_kb

LOOK_S = 0.025


class Watch:
    """Looks at the server's memory, often, in phases that follow each other."""

    def __init__(self, run: Run, pid: int) -> None:
        self._run = run
        self._pid = pid
        self._phases: dict[str, list[float]] = {}  # from, to, the most kB in between
        self._now: list[float] = []
        self._task = asyncio.create_task(self._look())

    def enter(self, name: str) -> None:
        """A phase begins; the one before is over."""
        now = perf_counter()
        if self._now:
            self._now[1] = now
        self._phases[name] = self._now = [now, float("inf"), 0.0]

    def numbers(self, samples: Samples) -> Numbers:
        """Of each phase the most memory, and the latencies of what was sent in it. The last phase is over now."""
        self._task.cancel()
        numbers: Numbers = {}
        for name, (start, end, most_kb) in self._phases.items():
            sent = [ms for at, ms in zip(samples.sent_at, samples.ms, strict=True) if start <= at < end]
            numbers[f"{name}_rss_mb"] = most_kb / 1024
            numbers |= {f"{name}_{key}": value for key, value in latencies(sent).items()}
        return numbers

    async def _look(self) -> None:
        while True:
            if self._now:
                try:
                    self._now[2] = max(self._now[2], rss_kb(self._pid))
                except LoadError as exc:
                    self._run.fail(str(exc))
                    return
            await asyncio.sleep(LOOK_S)
