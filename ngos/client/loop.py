"""What the client asks of an event loop: these few things, so that the rest is the same for all. Pure.

May import nothing of ngos. A coroutine that waits only for what is here runs on every loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

OF_ANOTHER_LOOP: Final = "this client is of another event loop, perhaps another thread's"


class Lot(Protocol):
    """Where tasks wait until somebody who never waits wakes them; as Trio's `ParkingLot`."""

    async def park(self) -> None:
        """Wait for `unpark_all`. Cancelled, it just leaves."""

    def unpark_all(self) -> object:
        """Wake all who wait now."""


class Loop(Protocol):
    """An event loop, as a client needs it."""

    def lot(self) -> Lot:
        """Return a new Lot. Raises RuntimeError on another loop than the client's."""

    def now_s(self) -> float:
        """Return the loop's clock, in seconds since some moment."""

    async def checkpoint(self) -> None:
        """Do what a function of this loop does that need not wait: on Trio let others run, on asyncio nothing.

        Raises RuntimeError on another loop than the client's.
        """

    async def within(self, limit_s: float, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait, but no longer than `limit_s` seconds; who called looks whether there is what it waited for."""
