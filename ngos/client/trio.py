"""The client for Trio programs: `connect(url)`, requests from many tasks at once, subscriptions as iterators.

    async with connect("ws://127.0.0.1:8000/ws", client_id="me") as client:
        async for event in client.subscribe("tokens"):
            ...

What a client is, is in `ngos.client.client`; the sockets are in `ngos.client.trio_connection`. May import this package
except the other shells, and the protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from ngos.client.address import Address
from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.client import Client
from ngos.client.loop import OF_ANOTHER_LOOP
from ngos.client.proof import Proof, Token
from ngos.client.requests import QUEUE_BYTES
from ngos.client.session import Session
from ngos.client.subscription import Subscription
from ngos.client.trio_connection import Line

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

    `url` as in ws://127.0.0.1:8000/ws; `client_id` names this client to others and makes its commands idempotent
    (protocol.md section 6; without it, one is made here). `connect_s` is for all until `connection.established`,
    `request_s` for each command's reply, breaks included.

    `token` goes into the `Authorization` header: a string, or a function, plain or async, that is asked anew for each
    connection; what it raises is that connection's ConnectFailed. What `Client.authenticate` was accepted with takes
    its place. When the server refuses a token, with 401 or 4401, the client comes back only with another one than
    that: with a string it is over.

    When the connection breaks, the client waits as section 8 has it, `random(0, min(20 s, 0.5 s * 2^n))`, the first
    time too, and connects anew: subscriptions resume where they were, commands without a reply are sent again under
    their ids. `backoff` is for who wants other dice. With `reconnect=False` the first break is the end. Commands that
    have no reply take at most `queue_bytes`, then requests raise QueueFull. `callbacks` hear of connections, resumed
    topics and gaps; what one raises ends the block.

    Raises ConnectFailed, for the first connection alone. When there will be none any more (`Client.lost` says why: a
    close code or a refusal that forbids it), the block goes on: requests and subscriptions raise ConnectionLost. What
    the block raises leaves it as it is, not in an exception group. Cancelled, it still says goodbye to the server, for
    at most a second.
    """
    failure: BaseException | None = None
    address = Address.of(url, client_id, token if isinstance(token, str) else None, connect_s)
    loop = _TrioLoop()
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
    async with trio.open_nursery() as nursery:
        line = Line(session, address, on_defect=nursery.cancel_scope.cancel)
        try:
            try:
                refused = await nursery.start(line.run)
                if refused is not None:
                    raise refused
                yield Client(loop, session, changed, request_s)
            finally:
                line.leave()
        except BaseException as exc:  # noqa: ASYNC103 - raised below, where no nursery makes it a group
            failure = exc
    if line.defect is not None:
        raise line.defect
    if failure is not None:
        raise failure


class _TrioLoop:
    """Trio, as `ngos.client.loop` has it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def lot(self) -> trio.lowlevel.ParkingLot:
        self._check()
        return trio.lowlevel.ParkingLot()

    def now_s(self) -> float:
        return trio.current_time()

    async def checkpoint(self) -> None:
        self._check()
        await trio.lowlevel.checkpoint()

    async def within(self, limit_s: float, wait: Callable[[], Awaitable[None]]) -> None:
        with trio.move_on_after(limit_s):
            await wait()

    def _check(self) -> None:
        if trio.lowlevel.current_trio_token() is not self._token:
            raise RuntimeError(OF_ANOTHER_LOOP)
