"""How late tasks are woken up: what everybody waits for everybody else, before anything of his own is done. Floor 3."""

from __future__ import annotations

from typing import Final

import trio
from attrs import define, field

from ngos.distribution import LAG_S, Distribution

SLEEP_S: Final = 0.1


@define(eq=False)
class LoopLag:
    """Measures as long as `run` runs: by how many seconds it is woken up late."""

    seconds: Distribution = field(init=False, factory=lambda: Distribution(LAG_S))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure every SLEEP_S, until cancelled."""
        task_status.started()
        while True:
            due = trio.current_time() + SLEEP_S
            await trio.sleep_until(due)
            self.seconds.observe(max(0.0, trio.current_time() - due))
