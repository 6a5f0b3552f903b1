"""How late tasks are woken up: what everybody waits for everybody else, before anything of his own is done. Floor 3."""

from __future__ import annotations

from typing import Final

import trio
from attrs import define, field

from ngos.distribution import LAG_S, Distribution

SLEEP_S: Final = 0.1


@define(eq=False)
class LoopLag:
    """Measures as long as `run` runs. `last_s`: how late it was woken up the last time, in seconds."""

    seconds: Distribution = field(init=False, factory=lambda: Distribution(LAG_S))
    last_s: float = field(init=False, default=0.0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure every SLEEP_S, until cancelled."""
        task_status.started()
        while True:
            due = trio.current_time() + SLEEP_S
            await trio.sleep_until(due)
            self.last_s = max(0.0, trio.current_time() - due)
            self.seconds.observe(self.last_s)
