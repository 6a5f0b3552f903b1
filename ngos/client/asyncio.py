"""The client for asyncio programs: `connect(url)`, requests from many tasks at once, subscriptions as iterators.

    async with connect("ws://127.0.0.1:8000/ws", client_id="me") as client:
        async for event in client.subscribe("tokens"):
            ...

What a client is, is in `ngos.client.client`; the sockets are in `ngos.client.asyncio_connection`. May import this
package except the other shells, and the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ngos.client.address import Address
from ngos.client.asyncio_connection import Line
from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.client import Client
from ngos.client.loop import OF_ANOTHER_LOOP
from ngos.client.proof import Proof, Token
from ngos.client.requests import QUEUE_BYTES
from ngos.client.session import Session
from ngos.client.subscription import Subscription

__all__ = ["Client", "Subscription", "connect"]


@asynccontextmanager
async def connect(
    url: str,
    *,
    client_id: str | None = None,
    token: Token | None = None,
    connect_s: float = 10.0,
    request_s: float = 30.0,
    reconnect: bool = True,
    backoff: Backoff | None = None,
    queue_bytes: int = QUEUE_BYTES,
    callbacks: Callbacks | None = None,
) -> AsyncIterator[Client]:
    """Connect to a server, stay connected, and disconnect when the block ends.

    All is as for `ngos.client.trio.connect`: the arguments, what is raised and when, and that what the block raises
    leaves it as it is. Proxies are not used, whatever the environment says.

    The block is to be entered and left by one task; others may use the client. Cancelled, it still says goodbye to
    the server, for at most a second, and no task is left when it is over.
    """
    address = Address.of(url, client_id, token if isinstance(token, str) else None, connect_s)
    loop = _AsyncioLoop()
    changed = loop.lot()
    session = Session(
        proof=Proof(token),
        reconnect=reconnect,
        backoff=backoff,
        queue_bytes=queue_bytes,
        callbacks=callbacks,
        on_output=lambda: line.flush(),  # noqa: PLW0108 - there is no line yet
        on_state=changed.unpark_all,
    )
    block = _Block()
    line = Line(session, address, on_defect=block.cancel)
    serving = asyncio.create_task(line.run())
    try:
        await _started(line, serving)
        yield Client(loop, session, changed, request_s)
    except asyncio.CancelledError:  # noqa: ASYNC103 - the callback's exception is raised in its place
        if not block.was_ours():
            raise
    finally:
        line.leave()
        try:
            await _finish(serving)
        except asyncio.CancelledError:  # noqa: ASYNC103 - as above
            if not block.was_ours():
                raise
        if line.defect is not None:
            await block.settle()
            raise line.defect


async def _started(line: Line, serving: asyncio.Task[None]) -> None:
    """Wait for the first connection. Raises ConnectFailed; cancelled, it is given up."""
    try:
        await asyncio.wait((line.started, serving), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        if not line.started.done():
            serving.cancel()
        raise
    refused = line.started.result() if line.started.done() else None
    if refused is not None:
        raise refused


async def _finish(serving: asyncio.Task[None]) -> None:
    """Wait until the goodbye is said, also when cancelled meanwhile, and only then be cancelled."""
    cancelled: asyncio.CancelledError | None = None
    while not serving.done():
        try:
            await asyncio.wait((serving,))
        except asyncio.CancelledError as exc:  # noqa: ASYNC103 - raised when the goodbye is said
            cancelled = exc
    if cancelled is not None:
        raise cancelled


class _Block:
    """The task in the block, which is cancelled when a callback has failed; as `asyncio.timeout` does it."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._task.cancel()

    def was_ours(self) -> bool:
        """Take the cancellation back. Returns whether nobody else wants the task cancelled."""
        if not self._cancelled:
            return False
        self._cancelled = False
        return self._task.uncancel() <= self._before

    async def settle(self) -> None:
        """Take it back where the block ended before it heard of it."""
        if self._cancelled and self.was_ours():
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:  # noqa: ASYNC103 - it was ours
                pass


class _Lot:
    """As Trio's ParkingLot."""

    def __init__(self) -> None:
        self._parked: set[asyncio.Future[None]] = set()

    async def park(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked.add(waiter)
        try:
            await waiter
        finally:
            self._parked.discard(waiter)

    def unpark_all(self) -> None:
        parked, self._parked = self._parked, set()
        for waiter in parked:
            if not waiter.done():
                waiter.set_result(None)


class _AsyncioLoop:
    """asyncio, as `ngos.client.loop` has it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def lot(self) -> _Lot:
        self._check()
        return _Lot()

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def checkpoint(self) -> None:
        self._check()

    async def within(self, limit_s: float, wait: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(limit_s) as limit:
                await wait()
        except TimeoutError:
            if not limit.expired():
                raise

    def _check(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(OF_ANOTHER_LOOP)
