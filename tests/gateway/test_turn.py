"""Turns: who never stops sending is served between those who ask for little, and nothing is left idle for it."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from ngos.gateway.turn import AT_ONCE, TURN_S, Turn, make_slots


async def test_when_a_turn_is_over(mock_clock: MockClock) -> None:
    """Tries to go on for longer than a turn, or to have one cut short."""
    turn = Turn(make_slots())
    turn.begin()
    for _ in range(3):
        assert not turn.is_over(trio.current_time() + TURN_S * 0.9)
        mock_clock.jump(TURN_S)
        assert turn.is_over(trio.current_time())
        await turn.give()


async def test_a_crowd_makes_the_passes_no_longer() -> None:
    """Tries to hold up one who asks for little, by a hundred who never stop; and to starve one of those."""
    slots = make_slots()
    turns = [0] * 100
    between: list[int] = []

    async def greedy(number: int) -> None:
        turn = Turn(slots)
        while True:
            await turn.give()
            turns[number] += 1

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(greedy, number)
        before = 0
        while min(turns) < 10:
            await trio.lowlevel.checkpoint()
            between.append(sum(turns) - before)
            before = sum(turns)
        nursery.cancel_scope.cancel()
    assert max(between) <= 2 * AT_ONCE, "of two passes, since who is first in one is chance"
    assert max(turns) <= min(turns) + 2


async def test_alone_one_goes_on() -> None:
    """Tries to have one wait who is the only one that wants anything."""
    turn = Turn(make_slots())
    with trio.fail_after(5):
        for _ in range(10_000):
            await turn.give()
