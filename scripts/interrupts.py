"""Ctrl-C in a script that starts processes. Runs on Trio."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def interruptible(work: Callable[[], Awaitable[T]]) -> T:
    """Do it. SIGINT and SIGTERM cancel it, and come out as KeyboardInterrupt, in a group; so does all that it raises.

    Python would raise the latter wherever our own code is just then: also between the start of a process and the
    moment from which somebody sees to its end.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, signals)
            result = await work()
            nursery.cancel_scope.cancel()
    return result


async def _heed(signals: AsyncIterator[int]) -> None:
    await anext(signals)
    raise KeyboardInterrupt
