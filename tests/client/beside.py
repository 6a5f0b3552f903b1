"""Scripted servers in a thread of their own, for clients that are not on Trio."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import trio
from attrs import define, field

from tests.client.fakes import Script, serve
from tests.client.relay import Relay

_T = TypeVar("_T")
Start = Callable[[trio.Nursery], Awaitable[_T]]
LIMIT_S = 20.0


@define
class _Thread:
    ready: threading.Event = field(factory=threading.Event)
    started: Any = None
    failure: BaseException | None = None
    token: trio.lowlevel.TrioToken | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def main(self, start: Start[Any]) -> None:
        self.token = trio.lowlevel.current_trio_token()
        with self.scope:
            async with trio.open_nursery() as nursery:
                self.started = await start(nursery)
                self.ready.set()

    def run(self, start: Start[Any]) -> None:
        try:
            trio.run(self.main, start)
        except BaseException as exc:  # noqa: ASYNC103 - raised in the other thread
            self.failure = exc
        finally:
            self.ready.set()


@contextmanager
def beside(start: Start[_T]) -> Iterator[_T]:
    """Run `start` on a Trio of its own, and what it has started until the block ends; yields what it returns."""
    of_its_own = _Thread()
    thread = threading.Thread(target=of_its_own.run, args=(start,), name="beside")
    thread.start()
    try:
        of_its_own.ready.wait(LIMIT_S)
        if of_its_own.failure is None:
            yield of_its_own.started
    finally:
        if of_its_own.token is not None and thread.is_alive():
            of_its_own.token.run_sync_soon(of_its_own.scope.cancel)
        thread.join(LIMIT_S)
    if of_its_own.failure is not None:
        raise of_its_own.failure


@contextmanager
def scripted(script: Script, *, accept: bool = True) -> Iterator[str]:
    """A server that does what the script says; yields its URL."""
    with beside(partial(_serve, script=script, accept=accept)) as url:
        yield url


@contextmanager
def relayed(script: Script, *, accept: bool = True) -> Iterator[tuple[Relay, str]]:
    """The same behind a relay, whose methods may be called by the script."""

    async def start(nursery: trio.Nursery) -> tuple[Relay, str]:
        relay = Relay(int((await serve(nursery, script, accept=accept)).split(":")[2].split("/")[0]))
        return relay, await nursery.start(relay.run)

    with beside(start) as both:
        yield both


async def _serve(nursery: trio.Nursery, *, script: Script, accept: bool) -> str:
    return await serve(nursery, script, accept=accept)
