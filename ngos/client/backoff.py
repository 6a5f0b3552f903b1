"""How long to wait before connecting again (protocol.md section 8): full jitter, so that a crowd comes back spread out.

Pure: no clock, and the dice are the caller's. May import nothing of ngos.
"""

from __future__ import annotations

from collections.abc import Callable
from random import uniform
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 20.0
_LAST_DOUBLING: Final = 6  # 0.5 s * 2^6 is over LONGEST_S already; more would only overflow some day


class Backoff:
    """`random(0, min(20 s, 0.5 s * 2^n))`; n counts the waits since the last `reset`, the first one has n = 0."""

    def __init__(self, dice: Callable[[float, float], float] = uniform) -> None:
        """`dice(a, b)` returns a number from a to b."""
        self._dice = dice
        self._n = 0

    def next_s(self, *, at_least_s: float = 0.0) -> float:
        """Return the seconds to wait. What the server asked for, `at_least_s`, comes before the jitter."""
        most_s = min(LONGEST_S, FIRST_S * 2 ** min(self._n, _LAST_DOUBLING))
        self._n += 1
        return at_least_s + self._dice(0.0, most_s)

    def reset(self) -> None:
        """A connection proved good: the next wait is a short one again."""
        self._n = 0
