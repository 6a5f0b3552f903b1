"""Topics to subscribers: turns, ends and contexts. No database."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from attrs import define, field

from ngos.errors import StorageUnavailable
from ngos.log.hub import CHANNEL_BATCHES, ROUND_BYTES, TAIL_BYTES, TAILS_BYTES, TURN, TURN_BYTES, Hub
from ngos.log.store import Extent, LoggedEvent
from ngos.protocol.parcel import Parcel

EPOCH = "0123abcd"
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who")


@define(eq=False)
class Ear:
    """A subscriber that remembers what it got, and the turn and the context that it got it in."""

    parcels: list[Parcel] = field(factory=list)
    turns: list[int] = field(factory=list)
    contexts: set[str | None] = field(factory=set)
    turn: list[int] = field(factory=lambda: [0])

    def offer_events(self, parcel: Parcel) -> None:
        self.parcels.append(parcel)
        self.turns.append(self.turn[0])
        self.contexts.add(WHO.get(None))

    def overtaken(self) -> None:
        raise NotImplementedError

    @property
    def messages(self) -> list[bytes]:
        return [message for parcel in self.parcels for message in parcel.messages]


@define
class Reader:
    """Reads positions, or fails."""

    seq: int = 0
    failing: bool = False
    reads: int = 0
    gate: trio.Event | None = None

    async def __call__(self, _topic: str) -> Extent:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if self.failing:
            raise StorageUnavailable("no")
        return Extent(EPOCH, self.seq, pruned=0)


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
async def hub(reader: Reader) -> AsyncIterator[Hub]:
    hub = Hub(reader)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield hub
        nursery.cancel_scope.cancel()


def events(first: int, count: int, *, size_bytes: int = 2) -> list[LoggedEvent]:
    payload = b'"' + b"x" * (size_bytes - 2) + b'"'
    return [LoggedEvent("tokens", "t", payload, None, 0, seq=first + n, epoch=EPOCH) for n in range(count)]


async def ticker(turn: list[int]) -> None:
    while True:
        await trio.lowlevel.checkpoint()
        turn[0] += 1


async def test_a_burst_comes_in_rounds(hub: Hub) -> None:
    """A burst larger than a round is handed out in rounds, and every other task has its turns meanwhile."""
    turn = [0]
    ears = [Ear(turn=turn) for _ in range(3)]
    for ear in ears:
        hub.add("tokens", ear, after=(await hub.position("tokens")).seq)
    topic = hub.topic("tokens")
    assert topic is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker, turn)
        await trio.lowlevel.checkpoint()
        await hub.put(topic, events(1, 200, size_bytes=10_000))
        while sum(len(ear.messages) for ear in ears) < 600:  # noqa: ASYNC110 - turns are what is counted
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    for ear in ears:
        assert len(ear.parcels) >= 200 * 10_000 // ROUND_BYTES
        assert max(parcel.size_bytes for parcel in ear.parcels) < ROUND_BYTES + 11_000
        # Trio runs what is ready in any order, so the other's turn may be before or after the round.
        assert all(turn < later for turn, later in zip(ear.turns, ear.turns[2:], strict=False))
    assert all(one is other for one, other in zip(ears[0].parcels, ears[1].parcels, strict=True)), "encoded once"


async def test_many_subscribers_come_in_turns(hub: Hub) -> None:
    """With more subscribers than a turn holds, other tasks have turns while one message is handed out."""
    turn = [0]
    ears = [Ear(turn=turn) for _ in range(3 * TURN)]
    for ear in ears:
        hub.add("room", ear, after=None)
    async with trio.open_nursery() as nursery:
        await hub.publish(LoggedEvent("room", "t", b"{}", None, 0))
        nursery.start_soon(ticker, turn)
        while not ears[-1].messages:  # noqa: ASYNC110 - turns are what is counted
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    # Three rounds; Trio runs what is ready in any order, so two of them may see the same turn of the other's.
    assert 2 <= len({ear.turns[0] for ear in ears})
    assert {1} == {len(ear.messages) for ear in ears}


async def test_ten_thousand_subscribers(hub: Hub) -> None:
    """Tries to hold up every other task with one event for 10,000, or with one of a megabyte for a few."""
    turn = [0]
    ears = [Ear(turn=turn) for _ in range(10_000)]
    for ear in ears:
        hub.add("room", ear, after=None)
    large = [Ear(turn=turn) for _ in range(64)]
    for ear in large:
        hub.add("large", ear, after=None)
    async with trio.open_nursery() as nursery:
        await hub.publish(LoggedEvent("room", "t", b"{}", None, 0))
        await hub.publish(LoggedEvent("large", "t", b'"' + b"x" * TURN_BYTES + b'"', None, 0))
        nursery.start_soon(ticker, turn)
        while not (ears[-1].messages and large[-1].messages):  # noqa: ASYNC110 - turns are what is counted
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert 10_000 // TURN // 2 <= len({ear.turns[0] for ear in ears})
    assert 64 // 2 <= len({ear.turns[0] for ear in large})
    assert {1} == {len(ear.messages) for ear in ears + large}


async def test_leaving_in_the_midst_of_a_fan_out(hub: Hub) -> None:
    """Who leaves while a message is handed out gets nothing after that, and nobody else misses it."""
    ears = [Ear() for _ in range(3 * TURN)]
    for ear in ears:
        hub.add("room", ear, after=None)
    await hub.publish(LoggedEvent("room", "t", b"{}", None, 0))
    while not ears[0].messages:  # noqa: ASYNC110 - turns are what is counted
        await trio.lowlevel.checkpoint()
    assert [] == ears[-1].messages
    hub.remove("room", ears[-1])
    hub.remove("room", ears[0])
    await trio.testing.wait_all_tasks_blocked()
    assert [1] * (len(ears) - 1) + [0] == [len(ear.messages) for ear in ears]


async def test_the_last_one_out_ends_the_task(hub: Hub) -> None:
    """A topic's task lives as long as it has subscribers, and no longer."""
    assert hub._nursery is not None
    one, other = Ear(), Ear()
    hub.add("room", one, after=None)
    hub.add("room", other, after=None)
    assert (1, {"room": 2}) == (len(hub._nursery.child_tasks), hub.counts())
    hub.remove("room", one)
    hub.remove("room", one)
    hub.remove("nowhere", one)
    assert {"room": 1} == hub.counts()
    hub.remove("room", other)
    await trio.testing.wait_all_tasks_blocked()
    assert (0, {}, None) == (len(hub._nursery.child_tasks), hub.counts(), hub.topic("room"))
    await hub.publish(LoggedEvent("room", "t", b"{}", None, 0))
    hub.add("room", one, after=None)
    await hub.publish(LoggedEvent("room", "t", b"{}", None, 0))
    await trio.testing.wait_all_tasks_blocked()
    assert (1, 0) == (len(one.messages), len(other.messages))


async def test_putting_into_a_topic_that_ends(hub: Hub) -> None:
    """Who waits to put into a topic's full channel is set free when its last subscriber leaves."""
    ear = Ear()
    hub.add("tokens", ear, after=(await hub.position("tokens")).seq)
    topic = hub.topic("tokens")
    assert topic is not None
    async with trio.open_nursery() as nursery:
        for n in range(CHANNEL_BATCHES):
            await hub.put(topic, events(n + 1, 1))
        nursery.start_soon(hub.put, topic, events(CHANNEL_BATCHES + 1, 1))
        hub.remove("tokens", ear)
    await hub.put(topic, events(1, 1))


async def test_waiting_for_a_topic_that_ends(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have who waits for room in a topic's channel wait for ever, or fail, when its last subscriber leaves."""

    async def stand_still(*_args: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Hub, "_fan_out", stand_still)
    ear = Ear()
    hub.add("room", ear, after=None)
    event = LoggedEvent("room", "t", b"{}", None, 0)
    await hub.publish(event)
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        for _ in range(CHANNEL_BATCHES + 2):
            nursery.start_soon(hub.publish, event)
        await trio.testing.wait_all_tasks_blocked()
        assert 2 == len(nursery.child_tasks)
        hub.remove("room", ear)


async def test_a_channel_that_is_full_keeps_the_order(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have who publishes just as a full channel has room again overtake who waits for that."""
    room, fan_out = trio.Event(), Hub._fan_out

    async def publish(number: int) -> None:
        await hub.publish(LoggedEvent("room", "t", str(number).encode(), None, 0))

    async def publish_the_last() -> None:
        await publish(CHANNEL_BATCHES + 2)

    stages = [room.wait, publish_the_last]

    async def staged(*args: Any) -> None:
        if stages:
            await stages.pop(0)()  # the second without a checkpoint: nobody else has had a turn since there is room
        await fan_out(*args)

    monkeypatch.setattr(Hub, "_fan_out", staged)
    ear = Ear()
    hub.add("room", ear, after=None)
    async with trio.open_nursery() as nursery:
        await publish(0)
        await trio.testing.wait_all_tasks_blocked()
        for n in range(CHANNEL_BATCHES):
            await publish(n + 1)
        nursery.start_soon(publish, CHANNEL_BATCHES + 1)
        await trio.testing.wait_all_tasks_blocked()
        room.set()
    await trio.testing.wait_all_tasks_blocked()
    assert list(range(CHANNEL_BATCHES + 3)) == [orjson.loads(message)["payload"] for message in ear.messages]


async def test_empty_context(hub: Hub) -> None:
    """A topic's task does not carry the context of whoever subscribed first."""
    WHO.set("the first subscriber")
    ear = Ear()
    hub.add("room", ear, after=None)
    hub.add("tokens", ear, after=(await hub.position("tokens")).seq)
    await hub.publish(LoggedEvent("room", "t", b"{}", None, 0))
    topic = hub.topic("tokens")
    assert topic is not None
    await hub.put(topic, events(1, 1))
    await trio.testing.wait_all_tasks_blocked()
    assert {None} == ear.contexts
    assert hub._nursery is not None
    assert 2 == len(hub._nursery.child_tasks)
    assert not [task for task in hub._nursery.child_tasks if WHO in task.context]


@pytest.mark.parametrize("after", range(8))
async def test_joining_in_the_midst_of_a_batch(hub: Hub, reader: Reader, after: int) -> None:
    """Whatever position of what waits in the channel a subscription starts behind, it gets all that follows, once."""
    first, joiner = Ear(), Ear()
    hub.add("tokens", first, after=(await hub.position("tokens")).seq)
    topic = hub.topic("tokens")
    assert topic is not None
    await hub.put(topic, events(1, 3))
    await hub.put(topic, events(4, 3))
    hub.add("tokens", joiner, after=after)
    await trio.testing.wait_all_tasks_blocked()
    await hub.put(topic, events(7, 2))
    await trio.testing.wait_all_tasks_blocked()
    await hub.put(topic, events(9, 1))
    await trio.testing.wait_all_tasks_blocked()
    assert 9 == len(first.messages)
    assert first.messages[after:] == joiner.messages


async def test_a_failed_read_leaves_nothing(hub: Hub, reader: Reader) -> None:
    """Where the position can't be read, or the reader is cancelled, no topic and no task stay behind."""
    reader.failing = True
    with pytest.raises(StorageUnavailable):
        await hub.position("tokens")
    reader.gate = trio.Event()
    with trio.move_on_after(0):
        await hub.position("tokens")
    await trio.testing.wait_all_tasks_blocked()
    assert hub._nursery is not None
    assert (0, {}) == (len(hub._nursery.child_tasks), hub.counts())


async def test_a_failed_read_beside_a_waiting_one(hub: Hub, reader: Reader) -> None:
    """One whose read fails, or who gives up, does not take the topic from another who waits for its own."""
    reader.gate = trio.Event()
    reader.seq = 7
    ear = Ear()
    positions: list[Any] = []

    async def subscribe() -> None:
        position = await hub.position("tokens")
        hub.add("tokens", ear, after=position.seq)
        positions.append(position.seq)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribe)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await hub.position("tokens")
        reader.gate.set()
    assert [7] == positions
    topic = hub.topic("tokens")
    assert topic is not None
    await hub.put(topic, events(8, 1))
    await trio.testing.wait_all_tasks_blocked()
    assert 1 == len(ear.messages)


async def test_moving_a_subscription(hub: Hub) -> None:
    """Subscribing again moves the subscription: from its new position on, each event once."""
    ear = Ear()
    for name in ("tokens", "tokens"):
        hub.add(name, ear, after=(await hub.position(name)).seq)
    topic = hub.topic("tokens")
    assert topic is not None
    await hub.put(topic, events(1, 2))
    await trio.testing.wait_all_tasks_blocked()
    topic.head = 2
    hub.add("tokens", ear, after=(await hub.position("tokens")).seq)
    assert {"tokens": 1} == hub.counts()
    await hub.put(topic, events(3, 1))
    await trio.testing.wait_all_tasks_blocked()
    assert 3 == len(ear.messages)


@pytest.mark.parametrize("failing", [False, True])
async def test_many_come_back_at_once(hub: Hub, reader: Reader, failing: bool) -> None:
    """Tries to have the log asked once by each of those who subscribe at once, or to leave one without an answer."""
    reader.seq, reader.failing, reader.gate = 7, failing, trio.Event()
    told: list[int | None] = []

    async def subscribe() -> None:
        try:
            position = await hub.position("tokens")
        except StorageUnavailable:
            told.append(None)
        else:
            hub.add("tokens", Ear(), position.seq)
            told.append(position.seq)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(subscribe)
        await trio.testing.wait_all_tasks_blocked()
        reader.gate.set()
    assert [None if failing else 7] * 50 == told
    assert 1 == reader.reads


async def test_who_reads_for_all_leaves(hub: Hub, reader: Reader) -> None:
    """Tries to leave the others without an answer by cancelling the one whose read they wait for."""
    reader.gate = trio.Event()
    told: list[int] = []

    async def subscribe() -> None:
        told.append((await hub.position("tokens")).seq)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            async with trio.open_nursery() as inner:
                inner.start_soon(subscribe)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(subscribe)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        reader.gate.set()
    assert [0] == told
    assert 2 == reader.reads


async def test_what_the_tails_take_in_all() -> None:
    """Tries to fill the memory with the latest events of many topics that were busy once and are quiet now."""
    hub = Hub(Reader())
    long = b'"' + b"x" * (TAIL_BYTES // 2) + b'"'
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        names = [f"t{n}" for n in range(2 * TAILS_BYTES // TAIL_BYTES)]
        for name in names:
            ear = Ear()
            hub.add(name, ear, after=(await hub.position(name)).seq)
            topic = hub.topic(name)
            assert topic is not None
            for seq in (1, 2, 3):
                await hub.put(topic, [LoggedEvent(name, "x", long, None, 0, seq=seq, epoch=EPOCH)])
            await trio.testing.wait_all_tasks_blocked()
            assert topic.tail.first <= 3
        sizes = [topic.tail.size_bytes for name in names if (topic := hub.topic(name)) is not None]
        assert TAILS_BYTES - TAIL_BYTES < sum(sizes) <= TAILS_BYTES
        assert hub._tails_bytes == sum(sizes)
        hub.remove(names[-1], ear)
        assert hub._tails_bytes == sum(sizes[:-1])
        nursery.cancel_scope.cancel()


async def test_an_event_without_a_number_among_numbered_ones(hub: Hub) -> None:
    """Tries to have an ephemeral event of a node with other settings make a gap in what is kept of a durable topic."""
    ear = Ear()
    position = await hub.position("tokens")
    hub.add("tokens", ear, after=position.seq)
    topic = hub.topic("tokens")
    assert topic is not None
    await hub.put(topic, events(1, 1))
    hub.offer("tokens", [LoggedEvent("tokens", "", b"", None, 0, message=b'{"type":"ephemeral"}')])
    await hub.put(topic, events(2, 1))
    await trio.testing.wait_all_tasks_blocked()
    assert [1, 2] == [orjson.loads(message)["seq"] for message in ear.messages]
    assert 2 == topic.fanned
