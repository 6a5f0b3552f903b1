"""One replay by itself, where reality can't stage the moment."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from attrs import define, field

from ngos.gateway.mailbox import Backlog, Mailbox
from ngos.gateway.replay import Replay
from ngos.log.hub import Hub
from ngos.log.store import Extent
from ngos.protocol.close import CloseCode
from ngos.protocol.parcel import Parcel


@define(eq=False)
class Client:
    """Remembers what it is offered."""

    verdict: CloseCode | None = None
    mailbox: Mailbox = field(factory=lambda: Mailbox(1 << 20, Backlog(1 << 30)))
    turn: trio.Lock = field(factory=trio.Lock)
    offered: list[Parcel] = field(factory=list)

    def offer_events(self, parcel: Parcel) -> None:
        self.offered.append(parcel)

    def overtaken(self) -> None:
        raise NotImplementedError


async def test_given_up_in_the_moment_of_its_answer() -> None:
    """Tries to be given events of a subscription that moved just when the log had answered its replay."""

    async def read_extent(_topic: str) -> Extent:
        return Extent("0123abcd", seq=10, pruned=0)

    class History:
        async def behind(self, _topic: Any, _after: int, _upto: int) -> tuple[Parcel, int]:
            replay.scope.cancel()
            return Parcel.of([b"{}"]), 10

    hub, client = Hub(read_extent), Client()
    history: Any = History()
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await hub.position("tokens")
        hub.hold("tokens", client)
        replay = Replay(hub, history, client, "tokens", 0)
        await replay.run()
        assert ([], 1) == (client.offered, hub.counts()["tokens"])
        assert not hub._topics["tokens"].joining
        nursery.cancel_scope.cancel()


async def test_given_up_in_the_moment_it_may_go_on() -> None:
    """Tries to end a connection as a defect: it unsubscribes in the moment when all before was sent."""

    async def read_extent(_topic: str) -> Extent:
        return Extent("0123abcd", seq=10, pruned=0)

    hub, client = Hub(read_extent), Client()
    history: Any = None
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await hub.position("tokens")
        hub.hold("tokens", client)
        client.mailbox.put_reply(Parcel.of([b"{}"]))
        replay = Replay(hub, history, client, "tokens", 0)
        nursery.start_soon(replay.run)
        await trio.testing.wait_all_tasks_blocked()
        client.mailbox.peek()
        client.mailbox.sent()  # the writer's task; and then, in the reader's, the same turn of the loop:
        replay.scope.cancel()
        hub.remove("tokens", client)
        await trio.testing.wait_all_tasks_blocked()
        assert {} == hub.counts()
        nursery.cancel_scope.cancel()


async def test_many_topics_take_turns() -> None:
    """Tries to have a client that reads chunk by chunk cut as slow, by replaying many topics to it at the same time."""
    topics = [f"t{n}" for n in range(40)]
    waiting: list[int] = []

    async def read_extent(_topic: str) -> Extent:
        return Extent("0123abcd", seq=3, pruned=0)

    @define(eq=False)
    class Reader(Client):
        def offer_events(self, parcel: Parcel) -> None:
            super().offer_events(parcel)
            assert self.mailbox.put_events(parcel)
            waiting.append(self.mailbox.size_bytes)

    class History:
        async def behind(self, _topic: Any, after: int, _upto: int) -> tuple[Parcel, int]:
            await trio.lowlevel.checkpoint()  # the log is read
            return Parcel.of([b"x" * 60_000]), after + 1

    hub, client = Hub(read_extent), Reader()
    history: Any = History()

    async def read() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            if client.mailbox:
                client.mailbox.peek()
                client.mailbox.sent()

    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        nursery.start_soon(read)
        async with trio.open_nursery() as replays:
            for topic in topics:
                await hub.position(topic)
                hub.hold(topic, client)
                replays.start_soon(Replay(hub, history, client, topic, 0).run)
        assert len(client.offered) == 3 * len(topics)
        assert max(waiting) < 2 * 60_000
        nursery.cancel_scope.cancel()
