"""The way of one subscription from the past to the present, at the pace of its client (protocol.md section 5)."""

from __future__ import annotations

from typing import Final, Protocol

import structlog
import trio
from attrs import define, field

from ngos.errors import StorageUnavailable
from ngos.gateway.mailbox import Mailbox
from ngos.log.history import PAGE_EVENTS, History, Pruned
from ngos.log.hub import Hub
from ngos.log.topic import Subscriber
from ngos.protocol.close import CloseCode

RETRY_S: Final = 0.25

_log = structlog.get_logger("ngos.replay")


class Client(Subscriber, Protocol):
    """Whose replay it is: a connection."""

    verdict: CloseCode | None

    @property
    def mailbox(self) -> Mailbox: ...

    @property
    def turn(self) -> trio.Lock: ...


@define(eq=False)
class Replay:
    """The events behind `after`, for one subscriber that the hub holds as replaying; then it joins the others.

    The next events are read when those before are with the kernel: a client that reads slowly is not slow in the sense
    of section 9 as long as it reads, and costs one chunk of memory, however many topics it replays: they take turns.
    One that stops is cut like any other.
    """

    _hub: Hub
    _history: History
    _client: Client
    _topic: str
    _after: int
    scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)

    async def run(self) -> None:
        """Replay, and join; until then, `scope` ends it without a trace in the hub."""
        with self.scope:
            while self._client.verdict is None:
                # Cancelled as it was about to go on, it must do nothing more.
                await trio.lowlevel.checkpoint()
                if self._hub.join(self._topic, self._client, self._after):
                    return
                try:
                    async with self._client.turn:
                        await self._offer_page()
                except StorageUnavailable:
                    await trio.sleep(RETRY_S)
                except Pruned as exc:
                    await trio.lowlevel.checkpoint_if_cancelled()
                    # It read so slowly that what it was promised is gone. It comes back, and is told.
                    _log.warning("replay.overtaken", topic=self._topic, reason=str(exc))
                    self._client.overtaken()
                    return

    async def _offer_page(self) -> None:
        """Give the client the rest of a page of the log, each part of it once the client has read the one before.

        A page and not a part: of many topics by turns, their pages would be more than `History` keeps.
        """
        while True:
            await self._client.mailbox.empty()
            await trio.lowlevel.checkpoint_if_cancelled()  # in the same moment: the topic may be gone already
            topic = self._hub.topic(self._topic)
            assert topic is not None  # it is held open for us
            assert topic.head is not None
            if self._client.verdict is not None or self._after == topic.head:
                return  # while we waited
            parcel, last = await self._history.behind(topic, self._after, topic.head)
            await trio.lowlevel.checkpoint_if_cancelled()
            self._client.offer_events(parcel)
            self._after = last
            if last % PAGE_EVENTS == 0:
                return
            await trio.lowlevel.checkpoint()
