"""Where psycopg's generators meet Trio: waiting for a socket. Imports nothing of ngos."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg
import trio
from psycopg.abc import RV, PQGenConn
from psycopg.waiting import Ready, Wait
from psycopg.waiting import _ready as ready_now

__all__ = ["drive_connecting", "ready_now", "wait_ready"]


async def drive_connecting(gen: PQGenConn[RV]) -> RV:
    """Run a generator that opens a socket: a connection, or a request to cancel. A lost socket: OperationalError."""
    try:
        fd, state = next(gen)
        while True:
            fd, state = gen.send(ready_now(fd, state) or await wait_ready(fd, state))
    except StopIteration as done:
        result: RV = done.value
        return result
    except OSError as error:
        raise psycopg.OperationalError("connection socket closed") from error


async def wait_ready(fd: int, state: Wait) -> int:
    """Wait for what `state` asks for; return what of it is there. OSError or ClosedResourceError if fd is gone."""
    if state == Wait.R:
        await trio.lowlevel.wait_readable(fd)
        return Ready.R
    if state == Wait.W:
        await trio.lowlevel.wait_writable(fd)
        return Ready.W
    # Both: the send buffer is full and the server may be waiting for us to read. Rare, so it may cost a nursery.
    ready = 0
    failure: Exception | None = None

    async def wait(wait_for: Callable[[int], Awaitable[None]], flag: int) -> None:
        nonlocal ready, failure
        try:
            await wait_for(fd)
            ready |= flag
        except (OSError, trio.ClosedResourceError) as error:
            failure = error
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, trio.lowlevel.wait_readable, Ready.R)
        nursery.start_soon(wait, trio.lowlevel.wait_writable, Ready.W)
    if failure:
        raise failure
    return ready
