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


@frozen
class Nobody:
    """A connection that follows nothing."""

    settings: Settings = Settings()  # noqa: RUF009 - frozen
    subscriptions: dict[str, Any] = field(factory=dict)


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
    session = Session(nobody, Refusals(), hub, history, fail, Topics(hub, (), 100))  # type: ignore[arg-type]
    ahead = Subscribe(topic="tokens", since=11)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        with trio.move_on_after(0.01), suppress(StorageUnavailable):
            await session.subscribe(ahead, Call(None, "me", Nobody()))
        assert {} == hub.counts()
        nursery.cancel_scope.cancel()
