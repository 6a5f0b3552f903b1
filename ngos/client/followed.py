"""A topic that NeuroGraphWebSocketClient follows, by one subscription after another where there are gaps.

May import this package except the shells, and the protocol.
"""

from __future__ import annotations

import asyncio

from attrs import define, field

from ngos.client.errors import SessionError
from ngos.client.messages import Message, of_client
from ngos.client.subscription import Subscription
from ngos.protocol.converters import WRITER
from ngos.protocol.messages import Subscribed


@define(eq=False)
class Followed:
    """The subscription that is in force, and what the first one's agreement came to."""

    events: Subscription
    opened: asyncio.Future[Subscribed] = field(factory=lambda: asyncio.get_running_loop().create_future())
    heard: asyncio.Event = field(factory=asyncio.Event)
    """Set when the handlers of the agreement are done: those of the events come after."""
    task: asyncio.Task[None] | None = None

    async def answer(self, id_: str) -> Message:
        """Wait for the server's agreement, and return it as the reply to `id_`. Raises why there is none."""
        return of_client("subscribed", WRITER.unstructure(await asyncio.shield(self.opened)), id_)

    def agreed(self, opening: Subscribed) -> None:
        """The server has agreed."""
        if not self.opened.done():
            self.opened.set_result(opening)

    def refused(self, exc: Exception) -> bool:
        """Tell who waits for the agreement; False where there was one before."""
        if self.opened.done():
            return False
        self.opened.set_exception(exc)
        self.opened.exception()  # perhaps nobody waits, and that is fine
        return True

    def close(self) -> None:
        """Unsubscribe; never waits."""
        self.events.stop()
        if self.refused(SessionError("unsubscribed before it was subscribed")) and self.task is not None:
            self.task.cancel()
