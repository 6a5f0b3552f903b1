"""The shells as a test sees them: one coroutine, that waits by way of the client alone, runs on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import pytest
import trio
from attrs import evolve

import ngos.client.asyncio
import ngos.client.trio
from ngos.client.client import Client
from ngos.client.heartbeat import Heartbeat, Look

LIMIT_S = 20.0


class Shell(Protocol):
    """A shell, and its loop.

    `run` fails a test that hangs, leaves a task or a socket, or has an exception that nobody saw.
    """

    def connect(self, url: str, **arguments: Any) -> AbstractAsyncContextManager[Client]: ...

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None: ...

    async def cancelled(self, work: Callable[[], Awaitable[None]], when: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, and cancel it when `when` is over; it must be cancelled by that, and not end otherwise."""


class OnTrio:
    def connect(self, url: str, **arguments: Any) -> AbstractAsyncContextManager[Client]:
        return ngos.client.trio.connect(url, **arguments)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def within() -> None:
            with trio.fail_after(LIMIT_S):
                await main()

        trio.run(within)

    async def cancelled(self, work: Callable[[], Awaitable[None]], when: Callable[[], Awaitable[None]]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                await when()
                scope.cancel()
        assert scope.cancelled_caught


class OnAsyncio:
    def connect(self, url: str, **arguments: Any) -> AbstractAsyncContextManager[Client]:
        return ngos.client.asyncio.connect(url, **arguments)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        unseen: list[dict[str, Any]] = []

        async def within() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
            async with asyncio.timeout(LIMIT_S):
                await main()
            assert {asyncio.current_task()} == asyncio.all_tasks()
            loop: Any = asyncio.get_running_loop()
            assert 1 == len(loop._selector.get_map())  # the loop's own, by which threads wake it

        asyncio.run(within())
        assert [] == unseen

    async def cancelled(self, work: Callable[[], Awaitable[None]], when: Callable[[], Awaitable[None]]) -> None:
        async def task() -> None:
            await work()

        working = asyncio.create_task(task())
        await when()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working


SHELLS = {"trio": OnTrio(), "asyncio": OnAsyncio()}
on_each_shell = pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS.keys())


def pings_from_now_on(monkeypatch: pytest.MonkeyPatch) -> list[Look]:
    """The Pings that clients send for want of a sign of life; the next comes only where the last was answered.

    Clients look for the answer every 10 ms, and not only when it is due: that may be as late as a stall takes.
    """
    pings: list[Look] = []
    look = Heartbeat.look

    def looking(heartbeat: Heartbeat, now_s: float, received_s: float) -> Look:
        seen = look(heartbeat, now_s, received_s)
        if seen.ping:
            pings.append(seen)
        return evolve(seen, next_s=min(seen.next_s, now_s + 0.01))

    monkeypatch.setattr(Heartbeat, "look", looking)
    return pings


class Told:
    """What waits for a thing to happen, on whichever loop, and in whichever thread it does."""

    def __init__(self) -> None:
        self.what: list[Any] = []

    def __call__(self, *what: Any) -> None:
        self.what.append(what)

    async def wait(self, client: Client, count: int = 1) -> None:
        """Wait, by asking the server again and again, until there is so much of it."""
        while len(self.what) < count:
            await client.ping()
