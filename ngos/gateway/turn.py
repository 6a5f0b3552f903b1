"""How long one connection goes on before the others get their turn. Knows Trio, and nothing of connections."""

from __future__ import annotations

from typing import Final

import trio
from attrs import define, field

TURN_S: Final = 0.002
"""What is done of what is here already, before other tasks get a turn."""
CROWDED_S: Final = 0.005
"""Who waits for so long until it is his turn again is one of many who have as much to be done."""
STAY_BEHIND: Final = 10
STAY_BEHIND_S: Final = 0.25
"""He then leaves so many turns to others, but does not stay away for longer than this."""


@define(eq=False)
class Turn:
    """The turn of one connection."""

    _ends: float = field(init=False, default=0.0)

    def begin(self) -> None:
        """Say that it has waited by itself just now."""
        self._ends = trio.current_time() + TURN_S

    def is_over(self, now: float) -> bool:
        return now >= self._ends

    async def give(self) -> None:
        """Let others have theirs; where that takes long, because many want one, stay behind for a while.

        So a crowd that never stops sending is served a few at a time, and whoever asks for little is served between.
        """
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        waited_s = trio.current_time() - began
        if waited_s > CROWDED_S:
            await trio.sleep(min(waited_s * STAY_BEHIND, STAY_BEHIND_S))
        self.begin()
