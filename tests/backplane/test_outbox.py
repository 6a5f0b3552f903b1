"""What waits to be sent to the other nodes."""

from __future__ import annotations

import os

import trio
import trio.testing

from ngos.backplane.bundle import HEAD_BYTES, PART_BYTES
from ngos.backplane.outbox import WAITING_BYTES, Outbox


def test_is_bounded_in_bytes() -> None:
    """Tries to fill the memory of a node whose bus takes nothing."""
    outbox = Outbox()
    for _ in range(3 * WAITING_BYTES // 100_000):
        outbox.put("log", b"x" * 100_000)
    assert outbox.size_bytes <= WAITING_BYTES
    assert outbox.dropped["log"] == 3 * WAITING_BYTES // 100_000 - WAITING_BYTES // 100_000
    outbox.clear()
    assert (0, False) == (outbox.size_bytes, bool(outbox))
    outbox.put("event", b"x")
    assert [("event", b"x")] == outbox.take(0)


def test_who_publishes_much_leaves_room_for_wake_ups() -> None:
    """Tries to have durable events come late because of ephemeral ones, by filling what waits for a slow bus."""
    outbox = Outbox()
    for _ in range(3 * WAITING_BYTES // 100_000):
        outbox.put("event", b"x" * 100_000)
        outbox.put("log", b"x" * 1_000)
        outbox.put("node", b"x" * 100)
    assert {"event"} == outbox.dropped.keys()
    assert outbox.size_bytes <= WAITING_BYTES


def test_a_bundle_has_what_fits() -> None:
    """Tries to have a bundle be longer than it may, or leave something behind for good."""
    outbox = Outbox()
    for size in (10, 20, 500, 30, 40):
        outbox.put("log", b"x" * size)
    limit = HEAD_BYTES + 2 * PART_BYTES + 30
    sizes = []
    while outbox:
        sizes.append([len(body) for _, body in outbox.take(limit)])
    assert [[10, 20], [500], [30], [40]] == sizes
    assert 0 == outbox.size_bytes
    assert {"log": 5} == dict(outbox.sent)


async def test_wakes_up_for_either(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to sleep on when something is there to be sent, or to be read."""
    del autojump_clock
    outbox = Outbox()
    reading, writing = os.pipe()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.wait_or_readable, reading)
            nursery.start_soon(outbox.sent_all)
            await trio.testing.wait_all_tasks_blocked()
            outbox.put("log", b"x")
        await outbox.wait_or_readable(reading)
        outbox.take(100)
        os.write(writing, b"x")
        await outbox.wait_or_readable(reading)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.wait)
            await trio.testing.wait_all_tasks_blocked()
            outbox.put("log", b"x")
    finally:
        os.close(reading)
        os.close(writing)
