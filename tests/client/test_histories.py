"""The client's core against a model server, over generated histories: breaks, repeats, lost logs, slow consumers."""

from __future__ import annotations

from unittest import mock

from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ngos.client.backoff import Backoff
from ngos.client.errors import CommandError, ConnectionLost, GapError
from ngos.client.feed import Event, Feed, Position
from ngos.client.requests import Outcome
from ngos.client.session import Session, State
from tests.client.model import ModelServer

DURABLE, EPHEMERAL = "tokens", "chat"


@define(eq=False)
class Consumer:
    """One feed and what it has seen. `honest` is false for a start that no server can have named."""

    feed: Feed
    honest: bool = True
    seen: list[Event] = field(factory=list)

    def take(self, number: int) -> None:
        for _ in range(number):
            try:
                event = self.feed.take()
            except (GapError, CommandError):
                return
            if event is None:
                return
            self.seen.append(event)


@define(eq=False)
class Asked:
    """One command and what it came to."""

    id: str = ""
    outcomes: list[Outcome] = field(factory=list)
    forgotten: bool = False


class Histories(RuleBasedStateMachine):
    """Nothing lost, nothing twice: protocol.md sections 4 to 6 as one consumer and one caller see them."""

    def __init__(self) -> None:
        super().__init__()
        self._few = mock.patch("ngos.client.topic.REPEATS", 2)
        self._few.start()
        self.server = ModelServer(DURABLE, EPHEMERAL)
        self.session = Session(backoff=Backoff(lambda _a, _b: 0.0))
        self.consumers: list[Consumer] = []
        self.gone: list[Consumer] = []
        self.asked: list[Asked] = []

    @initialize()
    def begin(self) -> None:
        self.connect()

    # The world

    @rule(number=st.integers(1, 12))
    def publish(self, number: int) -> None:
        self.server.publish(number)

    @rule()
    def publish_ephemeral(self) -> None:
        self.server.publish_ephemeral()

    @rule()
    def prune(self) -> None:
        self.server.prune()

    @rule()
    def lose_the_log(self) -> None:
        self.server.reset()

    @rule(down=st.booleans())
    def database(self, down: bool) -> None:
        self.server.down = down

    # The network

    @precondition(lambda self: self.server.connected)
    @rule(number=st.integers(1, 8))
    def send(self, number: int) -> None:
        for _ in range(number):
            if (message := self.session.take_output()) is not None:
                self.server.inbox.append(message)

    @precondition(lambda self: self.server.inbox)
    @rule(number=st.integers(1, 8))
    def handle(self, number: int) -> None:
        for _ in range(min(number, len(self.server.inbox))):
            self.server.step()

    @precondition(lambda self: self.server.outbox)
    @rule(number=st.integers(1, 20))
    def receive(self, number: int) -> None:
        for _ in range(min(number, len(self.server.outbox))):
            self.session.receive(self.server.outbox.popleft())

    @precondition(lambda self: self.server.connected)
    @rule()
    def disconnect(self) -> None:
        self.server.disconnect()
        assert self.session.disconnected(ConnectionLost(1006, "")) is not None

    @precondition(lambda self: not self.server.connected)
    @rule(in_flight=st.sampled_from([1, 3, 256]))
    def connect(self, in_flight: int = 256) -> None:
        self.server.limits["in_flight"] = in_flight
        self.server.connect()
        self.session.receive(self.server.outbox.popleft())
        assert self.session.state is State.CONNECTED

    # The program

    @precondition(lambda self: len(self.consumers) < 4)
    @rule(limit=st.sampled_from([1, 3, 1000]), back=st.none() | st.integers(-2, 30), knows_epoch=st.booleans())
    def subscribe(self, limit: int, back: int | None, knows_epoch: bool) -> None:
        start = None
        log = self.server.log
        if back is not None:
            start = Position(log.epoch if knows_epoch else None, max(0, log.seq - back))
        feed = Feed(DURABLE, limit_events=limit, limit_bytes=1_000_000, wake=lambda: None, start=start)
        honest = start is None or (knows_epoch and start.seq <= log.seq)
        self.session.attach(feed)
        self.consumers.append(Consumer(feed, honest))

    @precondition(lambda self: self.consumers)
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        consumer = data.draw(st.sampled_from(self.consumers))
        self.consumers.remove(consumer)
        self.gone.append(consumer)
        self.session.detach(consumer.feed)

    @rule()
    def follow_ephemeral(self) -> None:
        feed = Feed(EPHEMERAL, limit_events=1000, limit_bytes=1_000_000, wake=lambda: None)
        self.session.attach(feed)

    @precondition(lambda self: self.consumers)
    @rule(data=st.data(), number=st.integers(1, 10))
    def take(self, data: st.DataObject, number: int) -> None:
        data.draw(st.sampled_from(self.consumers)).take(number)

    @rule()
    def request(self) -> None:
        asked = Asked()
        asked.id = self.session.request("token.create", {"number": len(self.asked)}, asked.outcomes.append)
        self.asked.append(asked)

    @precondition(lambda self: any(not asked.outcomes for asked in self.asked))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from([asked for asked in self.asked if not asked.outcomes]))
        asked.forgotten = True
        self.session.forget(asked.id)

    # The promises

    @invariant()
    def each_event_once_and_in_order(self) -> None:
        for consumer in (*self.consumers, *self.gone):
            numbers = [event.seq for event in consumer.seen]
            assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + len(numbers))) if numbers else True
            assert len({event.epoch for event in consumer.seen}) <= 1
            assert [event.payload["content"] for event in consumer.seen] == [
                f"{event.epoch}/{event.seq}" for event in consumer.seen
            ]

    @invariant()
    def bounded(self) -> None:
        for consumer in self.consumers:
            assert len(consumer.feed._waiting) <= consumer.feed._limit_events

    @invariant()
    def a_gap_is_a_gap(self) -> None:
        for consumer in self.consumers:
            position, log = consumer.feed.position, self.server.log
            if isinstance(consumer.feed.ended, GapError) and consumer.honest:
                assert position is not None
                assert not log.holds(position.seq, position.epoch)

    @invariant()
    def one_effect_and_at_most_one_answer(self) -> None:
        for asked in self.asked:
            assert len(asked.outcomes) <= (0 if asked.forgotten else 1)
            assert self.server.effects.get(asked.id, 0) <= 1

    def teardown(self) -> None:
        try:
            if self.session.established is not None:
                self.settle()
        finally:
            self._few.stop()

    def settle(self) -> None:
        """With a sound server, all that is owed comes: no feed is stuck, no command unanswered."""
        self.server.down = False
        for _ in range(10_000):
            if self.session.verdict is not None and self.server.connected:
                self.disconnect()
            if not self.server.connected:
                self.connect()
            before = [len(consumer.seen) for consumer in self.consumers]
            self.send(100)
            self.handle(100)
            idle = not self.server.outbox
            self.receive(1000)
            for consumer in self.consumers:
                consumer.take(1)
            if idle and before == [len(consumer.seen) for consumer in self.consumers] and not self.server.inbox:
                break
        else:
            raise AssertionError("it never settles")
        log = self.server.log
        for consumer in self.consumers:
            if consumer.feed.ended is None:
                assert consumer.feed.taken == Position(log.epoch, log.seq)
            else:
                assert isinstance(consumer.feed.ended, GapError | CommandError)
        for asked in self.asked:
            assert asked.forgotten or len(asked.outcomes) == 1
        self.each_event_once_and_in_order()
        self.one_effect_and_at_most_one_answer()


class TestHistories(Histories.TestCase):  # type: ignore[misc,name-defined]
    """Tries to break every promise above, with a hundred histories."""

    settings = settings(
        max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
