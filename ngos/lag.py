"""How late the event loop is: for everything that waits for its turn. Floor 3."""

from __future__ import annotations

from typing import Final

import trio

from ngos.distribution import Distribution

EVERY_S: Final = 0.1
"""Ten wake-ups a second cost a thousandth of a core, and no stall of that length goes unseen."""


async def watch_lag(lag: Distribution, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Sleep for `EVERY_S`, again and again, and note how much later it is than that; until cancelled."""
    task_status.started()
    while True:
        due = trio.current_time() + EVERY_S
        await trio.sleep_until(due)
        lag.observe(trio.current_time() - due)
