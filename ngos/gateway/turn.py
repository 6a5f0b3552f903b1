"""How long one connection goes on before the others get their turn. Knows Trio, and nothing of connections.

Trio gives each task that can go on a step in each pass of its loop. Who has much to be done takes what is his own turn
here; and of those who do, only AT_ONCE go on in a pass, one after the other: so a crowd that never stops sending makes
the passes no longer, and whoever asks for little is served between. Nothing is left idle for it.
"""

from __future__ import annotations

from typing import Final

import trio
from attrs import define, field

TURN_S: Final = 0.002
"""What is done of what is here already, before other tasks get a turn."""
AT_ONCE: Final = 2


def make_slots() -> trio.Semaphore:
    """What all connections share: who has one may go on."""
    return trio.Semaphore(AT_ONCE)


@define(eq=False)
class Turn:
    """The turn of one connection."""

    _slots: trio.Semaphore
    _ends: float = field(init=False, default=0.0)

    def begin(self) -> None:
        """Say that it has waited by itself just now."""
        self._ends = trio.current_time() + TURN_S

    def is_over(self, now: float) -> bool:
        return now >= self._ends

    async def give(self) -> None:
        """Let others have theirs, and those who had to give theirs before us go on first. Always a checkpoint."""
        async with self._slots:
            await trio.lowlevel.checkpoint()
        self.begin()
