"""The bounded queue of one connection: what it still has to be sent. Sync, but for waiting.

Worst case per connection: `limit_bytes` of events and one round of fan-out, and replies up to REPLY_BYTES and the
replies to what was in flight when they were passed: the reader stops there until the client has read (`low`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import trio
from attrs import define, field

REPLY_BYTES: Final = 256 * 1024


@define(eq=False)
class Mailbox:
    """Messages wait here until the writer has sent them: until then their bytes count."""

    limit_bytes: int
    event_bytes: int = field(init=False, default=0)
    reply_bytes: int = field(init=False, default=0)
    _messages: deque[tuple[bytes, bool, float]] = field(init=False, factory=deque)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _sent: trio.Event = field(init=False, factory=trio.Event)
    _taken: int = field(init=False, default=0)

    def put_reply(self, message: bytes) -> None:
        """Queue a reply. Never refused: the client asked for it, and what it may ask for is bounded elsewhere."""
        self.reply_bytes += len(message)
        self._messages.append((message, False, trio.current_time()))
        self._arrived.set()

    def put_events(self, messages: Sequence[bytes]) -> bool:
        """Queue events. False: with them more waits than may (protocol.md section 9), and they are not queued."""
        size_bytes = sum(map(len, messages))
        if self.event_bytes + size_bytes > self.limit_bytes:
            return False
        now = trio.current_time()
        self.event_bytes += size_bytes
        self._messages.extend((message, True, now) for message in messages)
        self._arrived.set()
        return True

    async def arrived(self) -> None:
        """Wait until there is something to send."""
        if not self._messages:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def peek(self) -> tuple[list[bytes], float]:
        """All that waits, and the time since which the first of it does. `sent` takes it out."""
        self._taken = len(self._messages)
        return [message for message, _, _ in self._messages], self._messages[0][2]

    def sent(self) -> None:
        """What `peek` showed is with the kernel."""
        for _ in range(self._taken):
            message, is_event, _ = self._messages.popleft()
            if is_event:
                self.event_bytes -= len(message)
            else:
                self.reply_bytes -= len(message)
        self._taken = 0
        self._sent.set()

    async def low(self) -> None:
        """Wait until so few replies wait that more may be made."""
        while self.reply_bytes > REPLY_BYTES:
            await self._next_sent()

    async def empty(self) -> None:
        """Wait until all is sent."""
        while self._messages:
            await self._next_sent()

    async def _next_sent(self) -> None:
        if self._sent.is_set():
            self._sent = trio.Event()
        await self._sent.wait()
