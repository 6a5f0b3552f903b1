"""Subscribing, where reality can't stage the moment."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from attrs import field, frozen

from ngos.config import Settings
from ngos.errors import StorageUnavailable
from ngos.gateway.limits import Refusals
from ngos.gateway.session import Session
from ngos.log.hub import Hub
from ngos.log.store import Extent
from ngos.protocol.commands import Subscribe
from ngos.services.handlers import Call
from ngos.services.topics import Topics


@frozen(eq=False)
class Nobody:
    """A connection that follows nothing."""

    settings: Settings = Settings()  # noqa: RUF009 - frozen
    subscriptions: dict[str, Any] = field(factory=dict)

    def subscribe(self, topic: str, replay: Any = None) -> None:
        self.subscriptions[topic] = replay


@pytest.mark.parametrize("cancelled", [False, True])
async def test_nothing_stays_of_a_subscribe_that_failed(cancelled: bool) -> None:
    """Tries to leave a topic with its task behind that nobody follows, by failing after its position was read."""

    async def read_extent(_topic: str) -> Extent:
        return Extent("0123abcd", seq=10, pruned=0)

    async def fail(_topic: str) -> Extent:
        if cancelled:
            await trio.sleep_forever()
        raise StorageUnavailable("no")

    hub, history = Hub(read_extent), object()
    nobody: Any = None
    session = Session(nobody, Refusals(), hub, history, fail, Topics(hub.publish, (), 100))  # type: ignore[arg-type]
    ahead = Subscribe(topic="tokens", since=11)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        with trio.move_on_after(0.01), suppress(StorageUnavailable):
            await session.subscribe(ahead, Call(None, "me", Nobody()))
        assert {} == hub.counts()
        nursery.cancel_scope.cancel()


async def test_a_topic_that_ceases_to_be_durable_meanwhile() -> None:
    """Tries to be told that a topic is durable, by a reload of the settings while the log is asked for its position."""
    asked, goes_on = trio.Event(), trio.Event()

    async def read_extent(_topic: str) -> Extent:
        asked.set()
        await goes_on.wait()
        return Extent("0123abcd", seq=10, pruned=0)

    hub, unused = Hub(read_extent), object()
    topics = Topics(hub.publish, ("chat.*",), 100)
    nobody: Any = None
    session = Session(nobody, Refusals(), hub, unused, read_extent, topics)  # type: ignore[arg-type]
    replies: list[Any] = []

    async def subscribe() -> None:
        replies.append(await session.subscribe(Subscribe(topic="chat.1"), Call(None, "me", Nobody())))

    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        nursery.start_soon(subscribe)
        await asked.wait()
        topics.keep_as((), 100)
        goes_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [(False, None, None)] == [(reply.durable, reply.epoch, reply.seq) for reply in replies]
        assert {"chat.1": 1} == hub.counts()
        nursery.cancel_scope.cancel()
