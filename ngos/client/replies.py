"""What was sent and has yet to be heard by handlers: in the order of the sends, and before the events that came later.

On asyncio. May import this package except the shells, and the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ngos.client.client import Pending
from ngos.client.errors import ConnectionLost, SessionError
from ngos.client.handlers import Handlers, in_handler
from ngos.client.messages import Message, of_failure
from ngos.protocol.codec import MessageError

UNHEARD: Final = 1000
"""So many messages that were sent may wait for a reply and its handlers; who sends waits past that."""


class Replies:
    """Tasks that each wait for one reply, and let the handlers hear it when those before it are heard."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._room = asyncio.Semaphore(UNHEARD)
        self._last: asyncio.Task[None] | None = None
        self._unheard: dict[asyncio.Task[None], Pending | None] = {}

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Those that are not done."""
        return tuple(self._unheard)

    async def room(self) -> Callable[[], None]:
        """Wait until one more may be sent; returns what gives the room back. A handler never waits for itself."""
        if in_handler():
            return lambda: None
        await self._room.acquire()
        return self._room.release

    def add(
        self, id_: str, outcome: Coroutine[Any, Any, Message], pending: Pending | None, free: Callable[[], None]
    ) -> asyncio.Task[None]:
        """Let handlers hear what becomes of a message; `free` is called when they have."""
        task = self._last = asyncio.create_task(self._hear(id_, outcome, self._last))
        self._unheard[task] = pending
        task.add_done_callback(lambda _: self._unheard.pop(task, None))
        task.add_done_callback(lambda _: free())
        return task

    async def heard(self) -> None:
        """Wait until all replies that have come so far are heard."""
        last = None
        for task, pending in self._unheard.items():
            if pending is None or not pending.is_done:
                break
            last = task
        if last is not None:
            await asyncio.wait((last,))

    async def _hear(self, id_: str, outcome: Coroutine[Any, Any, Message], before: asyncio.Task[None] | None) -> None:
        try:
            message = await outcome
        except ConnectionLost:
            return  # `callbacks.disconnected` told it, or the program left
        except (SessionError, MessageError) as exc:
            message = of_failure(exc, id_)
        if before is not None and not before.done():
            await asyncio.wait((before,))
        await self._handlers.hear(message)
