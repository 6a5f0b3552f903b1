"""Whether a core task goes on: what feeds the watchdog. Floor 3: imports nothing of ngos."""

from __future__ import annotations

import math
from typing import Final

import trio
from attrs import define, field

IDLE: Final = math.inf


@define(eq=False)
class Pulse:
    """The sign of life of one task. `beat` when it begins a piece of work or has ended one, `rest` before it waits for
    the next.

    `limit_s`: what one piece may take; its own deadlines must end it long before. Costs a reading of the clock.
    """

    name: str
    limit_s: float
    _at: float = field(init=False, default=IDLE)

    def beat(self) -> None:
        """It goes on, with work before it."""
        self._at = trio.current_time()

    def rest(self) -> None:
        """It has nothing to do."""
        self._at = IDLE

    def stuck_s(self) -> float:
        """For how long it has been at one piece of work beyond what that may take; 0: it is not stuck."""
        return max(0.0, trio.current_time() - self._at - self.limit_s)
