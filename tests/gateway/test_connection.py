"""The connection over a fake transport, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trio.testing import MockClock, wait_all_tasks_blocked

from ngos.errors import StorageUnavailable
from ngos.gateway.mailbox import Backlog
from ngos.gateway.tally import Tally
from ngos.gateway.turn import AT_ONCE
from ngos.protocol.close import CloseCode
from ngos.protocol.faults import ClientError, ErrorCode
from ngos.protocol.messages import Pong
from ngos.protocol.parcel import Parcel
from ngos.tracing import traces_of
from tests.gateway.fakes import GREETING, FakeCommitter, FakeTransport, connection_of


def types(transport: FakeTransport) -> list[str]:
    return [message["type"] for message in transport.sent]


def reply_ids(transport: FakeTransport) -> list[str | None]:
    return [message.get("reply_to") for message in transport.sent[1:]]


async def test_the_greeting_is_first(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to get an answer in before the greeting."""
    transport = FakeTransport()
    transport.say("ping", id_="1")
    nursery.start_soon(connection_of(transport).run, GREETING)
    await wait_all_tasks_blocked()
    assert ["connection.established", "pong"] == types(transport)
    nursery.cancel_scope.cancel()


async def test_replies_come_in_the_order_of_the_commands(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to have a read, or an error, answered before the writes that were sent before it."""
    transport, committer = FakeTransport(), FakeCommitter()
    nursery.start_soon(connection_of(transport, committer).run, GREETING)
    transport.say("token.create", id_="1")
    transport.say("token.create", id_="2")
    transport.say("ping", id_="3")
    transport.say("token.create", id_="4")
    transport.say("nonsense", id_="5")
    await wait_all_tasks_blocked()
    assert [] == reply_ids(transport)
    assert 2 == len(committer.writes)
    committer.answer_all()
    await wait_all_tasks_blocked()
    assert ["1", "2", "3"] == reply_ids(transport)
    committer.answer_all()
    await wait_all_tasks_blocked()
    assert ["1", "2", "3", "4", "5"] == reply_ids(transport)
    nursery.cancel_scope.cancel()


async def test_a_flood_of_pings_changes_no_order(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to have a write's reply overtake the reply to what was sent before it, while a flood waits for its turn."""
    transport, committer = FakeTransport(bare=100), FakeCommitter()
    connection = connection_of(transport, committer)
    for _ in range(AT_ONCE):
        connection.reader._turn._slots.acquire_nowait()
    nursery.start_soon(connection.run, GREETING)
    transport.say("ping", id_="1")
    transport.say("token.create", id_="2")
    await wait_all_tasks_blocked()
    committer.answer_all()
    connection.reader._turn._slots.release()
    await wait_all_tasks_blocked()
    assert ["1", "2"] == reply_ids(transport)
    nursery.cancel_scope.cancel()


async def test_no_more_in_flight_than_allowed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to fill the committer from one connection."""
    transport, committer = FakeTransport(), FakeCommitter()
    nursery.start_soon(connection_of(transport, committer, in_flight=3).run, GREETING)
    for number in range(10):
        transport.say("token.create", id_=str(number))
    for expected in (3, 3, 3, 1):
        await wait_all_tasks_blocked()
        assert expected == len(committer.writes)
        committer.answer_all()
    nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_read_its_replies_is_not_read(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Tries to make the server hold answers without end for a client that only asks."""

    async def big(*_: Any) -> Pong:
        return Pong(message_id="x" * 100_000)

    transport = FakeTransport()
    connection = connection_of(transport, answer=big, mailbox_age_s=1000)
    nursery.start_soon(connection.run, GREETING)
    await wait_all_tasks_blocked()
    transport.blocked = True
    for _ in range(100):
        transport.say("ping")
    await wait_all_tasks_blocked()
    assert connection.mailbox.reply_bytes < 400_000
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("type_", ["token.create", "ping"])
async def test_a_command_that_waits_when_the_connection_ends(
    type_: str, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Tries to leave the span of a command open that is not at its turn when its connection ends."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    transport = FakeTransport()
    committer = FakeCommitter()
    connection = connection_of(transport, committer, tally=Tally(traces_of(provider)), in_flight=1)
    nursery.start_soon(connection.run, GREETING)
    transport.say("token.create")
    transport.say(type_)
    await wait_all_tasks_blocked()
    assert 1 == len(committer.writes)
    connection.end(CloseCode.RESTARTING)
    await wait_all_tasks_blocked()
    committer.answer_all()
    await wait_all_tasks_blocked()
    assert [(type_, "cancelled"), ("token.create", "ok")] == [
        (span.name, span.attributes["ngos.outcome"]) for span in exporter.get_finished_spans()
    ]


async def test_a_flood_of_nonsense_that_is_not_read(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to fill the memory with the errors that answer what is no command."""
    transport = FakeTransport()
    connection = connection_of(transport, mailbox_age_s=1000)
    nursery.start_soon(connection.run, GREETING)
    await wait_all_tasks_blocked()
    transport.blocked = True
    for _ in range(20_000):
        transport.say_raw(b"")
    await wait_all_tasks_blocked()
    assert connection.mailbox.reply_bytes < 400_000
    nursery.cancel_scope.cancel()


async def test_room_that_is_made_at_its_own_cost(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to end the server by a reply that fills what may wait in all, of one who waits for room itself."""

    async def big(*_: Any) -> Pong:
        return Pong(message_id="x" * 100_000)

    backlog = Backlog(500_000)
    transport = FakeTransport()
    connection = connection_of(transport, answer=big, mailbox_age_s=1000, backlog=backlog)
    backlog.relieve = lambda: connection.end(CloseCode.TRY_AGAIN_LATER)
    nursery.start_soon(connection.run, GREETING)
    await wait_all_tasks_blocked()
    transport.blocked = True
    for _ in range(3):
        transport.say("ping")
    await wait_all_tasks_blocked()
    assert connection.mailbox.is_high
    backlog.limit_bytes = backlog.bytes + 10  # others fill the rest
    transport.say_raw(b"nonsense")
    transport.say("ping")
    await wait_all_tasks_blocked()
    connection.mailbox.clear()
    await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()


async def test_too_many_events_waiting(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to hold more events for a reader that stopped than the mailbox may."""
    transport = FakeTransport(blocked=True)
    connection = connection_of(transport, mailbox_bytes=256 * 1024)
    nursery.start_soon(connection.run, GREETING)
    await wait_all_tasks_blocked()
    for _ in range(256):
        connection.offer_events(Parcel.of([b"x" * 1024]))
    assert connection.verdict is None
    connection.offer_events(Parcel.of([b"x"]))
    assert CloseCode.TRY_AGAIN_LATER == connection.verdict
    await wait_all_tasks_blocked()
    assert CloseCode.TRY_AGAIN_LATER == transport.closed


async def test_an_outlet_that_was_shut_stays_shut(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to have events sent again after some were dropped, because the writer ends well in the instant of that."""
    # Which task is first in a turn is up to chance.
    for _ in range(20):
        await _end_while_the_writer_ends(nursery)


async def _end_while_the_writer_ends(nursery: trio.Nursery) -> None:
    taken = trio.Event()

    class Slow(FakeTransport):
        async def send(self, parcels: Sequence[Parcel]) -> None:
            await taken.wait()

        def hold(self, held: bool) -> None:
            holds.append(held)

    holds: list[bool] = []
    transport = Slow()
    connection = connection_of(transport, mailbox_bytes=256 * 1024)
    nursery.start_soon(connection.run, GREETING)
    await wait_all_tasks_blocked()
    transport.blocked = True
    connection.offer_events(Parcel.of([b"x"]))
    await wait_all_tasks_blocked()
    taken.set()
    connection.offer_events(Parcel.of([b"x" * 256 * 1024]))
    assert CloseCode.TRY_AGAIN_LATER == connection.verdict
    assert holds.pop()
    holds.clear()
    await wait_all_tasks_blocked()
    assert all(holds)


async def test_a_byte_that_waits_too_long(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to keep a connection by not reading the last few bytes."""
    transport = FakeTransport(blocked=True)
    started = trio.current_time()
    await connection_of(transport, mailbox_age_s=10).run(GREETING)
    assert CloseCode.TRY_AGAIN_LATER == transport.closed
    assert 10 == pytest.approx(trio.current_time() - started, abs=0.1)


async def test_a_silent_peer_is_pinged_then_cut(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to stay connected without a sign of life."""
    transport = FakeTransport(answers_pings=False)
    started = trio.current_time()
    await connection_of(transport).run(GREETING)
    assert CloseCode.NO_SIGN_OF_LIFE == transport.closed
    assert 22.5 <= transport.pings[0] - started <= 27.5
    assert 10 == pytest.approx(trio.current_time() - transport.pings[0], abs=0.1)


async def test_a_ping_that_can_not_be_sent(autojump_clock: MockClock) -> None:
    """Tries to stay connected for ever by taking nothing in, so that not even a Ping can be sent."""

    class Stuck(FakeTransport):
        async def ping(self) -> bool:
            self.pings.append(trio.current_time())
            await trio.sleep_forever()
            return True

    transport = Stuck()
    await connection_of(transport).run(GREETING)
    assert CloseCode.NO_SIGN_OF_LIFE == transport.closed
    assert 10 == pytest.approx(trio.current_time() - transport.pings[0], abs=0.1)


async def test_a_peer_that_leaves(autojump_clock: MockClock) -> None:
    """Tries to have a connection wait, for answers or for its writer, when there is nobody left to send them to."""
    transport, committer = FakeTransport(), FakeCommitter()
    transport.say("token.create", id_="1")
    connection = connection_of(transport, committer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, GREETING)
        await wait_all_tasks_blocked()
        transport.blocked = True
        connection.offer_events(Parcel.of([b"{}"]))
        transport.leave(1009)
        with trio.fail_after(0.1):
            while not connection.outbox.is_shut:  # noqa: ASYNC110 - its end is what is awaited
                await trio.sleep(0.01)
    assert CloseCode.MESSAGE_TOO_BIG == connection.verdict
    committer.answer_all()
    assert 0 == connection.mailbox.size_bytes


@pytest.mark.parametrize("ticks", [0, 1, 2, 3])
async def test_an_answer_that_comes_late(autojump_clock: MockClock, ticks: int) -> None:
    """Tries to have the committer, which answers a connection that is just ending, start a task where none may start.

    Which task is first in a turn is up to chance, so it takes some tries to hit the instant.
    """
    for _ in range(25):
        transport, committer = FakeTransport(), FakeCommitter()
        for number in range(3):
            transport.say("token.create", id_=str(number))
        connection = connection_of(transport, committer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run, GREETING)
            await wait_all_tasks_blocked()
            transport.blocked = True
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                for _ in range(ticks):
                    await trio.lowlevel.checkpoint()
                committer.answer_all()
        assert 0 == connection.mailbox.size_bytes


async def test_a_cut_waits_for_nothing(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to hold up a connection that is cut: by what waits to be sent, and by what is being committed."""
    transport, committer = FakeTransport(), FakeCommitter()
    transport.say("token.create", id_="1")
    connection = connection_of(transport, committer)
    nursery.start_soon(connection.run, GREETING)
    await wait_all_tasks_blocked()
    transport.blocked = True
    connection.offer_events(Parcel.of([b"{}"]))
    connection.cut()
    await wait_all_tasks_blocked()
    assert connection.outbox.is_shut
    assert transport.aborted


async def test_a_peer_that_answers_pings_stays(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to have a listener cut that never says a thing but answers every Ping."""
    transport = FakeTransport()
    connection = connection_of(transport)
    nursery.start_soon(connection.run, GREETING)
    await trio.sleep(3600)
    assert connection.verdict is None
    assert 130 <= len(transport.pings) <= 162
    nursery.cancel_scope.cancel()


async def test_a_long_command_is_not_silence(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to have a client cut for silence while the server itself keeps it waiting."""

    async def slow(*_: Any) -> Pong:
        await trio.sleep(120)
        return Pong(message_id=None)

    transport = FakeTransport(answers_pings=False)
    connection = connection_of(transport, answer=slow)
    nursery.start_soon(connection.run, GREETING)
    transport.say("ping", id_="1")
    await trio.sleep(121)
    assert ["1"] == reply_ids(transport)
    assert connection.verdict is None
    nursery.cancel_scope.cancel()


async def test_a_binary_message(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to lose the answers that were due when the connection has to end."""
    transport, committer = FakeTransport(), FakeCommitter()
    transport.say("ping", id_="1")
    transport.say_raw(None)
    await connection_of(transport, committer).run(GREETING)
    assert CloseCode.BINARY_MESSAGE == transport.closed
    assert ["1"] == reply_ids(transport)


async def test_a_message_over_the_limit(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries a message that is one byte too long."""
    transport = FakeTransport()
    transport.say_raw(b" " * 65537)
    await connection_of(transport).run(GREETING)
    assert CloseCode.MESSAGE_TOO_BIG == transport.closed


async def test_the_first_verdict_stays(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to change why a connection ends."""
    transport = FakeTransport()
    connection = connection_of(transport)
    nursery.start_soon(connection.run, GREETING)
    await wait_all_tasks_blocked()
    connection.end(CloseCode.RESTARTING)
    connection.end(CloseCode.NORMAL)
    await wait_all_tasks_blocked()
    assert CloseCode.RESTARTING == transport.closed


async def test_one_that_does_not_read_has_less_than_a_second_to_close(autojump_clock: MockClock) -> None:
    """Tries to outlive the age of its oldest byte by not taking in the Close."""
    transport = FakeTransport(blocked=True, close_hangs=True)
    started = trio.current_time()
    await connection_of(transport, mailbox_age_s=10, close_s=2).run(GREETING)
    assert CloseCode.TRY_AGAIN_LATER == transport.closed
    assert trio.current_time() - started < 11


async def test_closing_is_bounded(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to hold up the server by never answering its Close."""
    transport = FakeTransport(close_hangs=True)
    connection = connection_of(transport, close_s=2)
    transport.say_raw(None)
    with trio.fail_after(2.5):
        await connection.run(GREETING)


async def test_what_fails_is_answered(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to get an exception's text, or no answer at all, out of a handler that fails."""
    failures = iter([StorageUnavailable("secret"), ClientError(ErrorCode.FORBIDDEN, "no"), KeyError("secret")])

    async def fail(*_: Any) -> Pong:
        raise next(failures)

    transport = FakeTransport()
    connection = connection_of(transport, answer=fail)
    nursery.start_soon(connection.run, GREETING)
    for number in range(3):
        transport.say("ping", id_=str(number))
    await wait_all_tasks_blocked()
    replies = transport.sent[1:]
    assert ["unavailable", "forbidden", "internal"] == [reply["payload"]["code"] for reply in replies]
    assert ["0", "1", "2"] == [reply["payload"]["original_message_id"] for reply in replies]
    assert [True, False, True] == [reply["payload"]["retryable"] for reply in replies]
    assert not any("secret" in reply["payload"]["message"] for reply in replies)
    nursery.cancel_scope.cancel()


async def test_a_defect_is_told(autojump_clock: MockClock) -> None:
    """Tries to have a defect of ours told as a normal end, after which no client would come back."""

    class Broken(FakeTransport):
        async def send(self, parcels: Sequence[Parcel]) -> None:
            raise RuntimeError("broken")

    transport = Broken(blocked=True)
    with pytest.RaisesGroup(RuntimeError):
        await connection_of(transport).run(GREETING)
    assert CloseCode.INTERNAL == transport.closed


async def test_a_slow_but_steady_reader(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Tries to have a reader cut of which no byte ever waits for 10 s, for what was sent long ago."""

    class Steady(FakeTransport):
        async def send(self, parcels: Sequence[Parcel]) -> None:
            await trio.sleep(sum(parcel.size_bytes for parcel in parcels) / 100_000)

    connection = connection_of(Steady(blocked=True))
    nursery.start_soon(connection.run, GREETING)
    await trio.sleep(1)
    for _ in range(45):
        connection.offer_events(Parcel.of([b"x" * 20_000]))
    for _ in range(40):  # as fast as it reads
        await trio.sleep(0.2)
        connection.offer_events(Parcel.of([b"x" * 20_000]))
    await trio.sleep(20)
    assert connection.verdict is None
    nursery.cancel_scope.cancel()
