"""Turns: who never stops sending is served between those who ask for little."""

from __future__ import annotations

import trio
from attrs import define
from trio.testing import MockClock

from ngos.gateway.turn import CROWDED_S, STAY_BEHIND, STAY_BEHIND_S, TURN_S, Turn


@define(eq=False)
class Crowd(trio.abc.Instrument):
    """Lets the next pass of the event loop take so long, as if many tasks had their turn in it; after it time flies.

    Whether a task runs before another in one pass is Trio's to throw dice for.
    """

    clock: MockClock
    takes_s: float
    is_over: bool = False

    def before_io_wait(self, timeout: float) -> None:
        if not self.is_over:
            self.is_over = True
            self.clock.jump(self.takes_s)
            self.clock.autojump_threshold = 0


async def gives_in(clock: MockClock, takes_s: float) -> float:
    """How long one stays behind where a turn of all others takes so long."""
    began = trio.current_time()
    trio.lowlevel.add_instrument(Crowd(clock, takes_s))
    await Turn().give()
    return round(trio.current_time() - began - takes_s, 9)


async def test_alone_nobody_stays_behind(mock_clock: MockClock) -> None:
    """Tries to slow down one who has much to do, while nobody else wants anything."""
    turn = Turn()
    turn.begin()
    assert not turn.is_over(trio.current_time())
    for _ in range(100):
        mock_clock.jump(TURN_S)
        assert turn.is_over(trio.current_time())
        await turn.give()
    assert 100 * TURN_S == round(trio.current_time(), 9)


async def test_among_a_few_nobody_stays_behind(mock_clock: MockClock) -> None:
    """Tries to slow down those who share the server with a few others."""
    assert 0 == await gives_in(mock_clock, CROWDED_S * 0.99)


async def test_in_a_crowd_one_stays_behind(mock_clock: MockClock) -> None:
    """Tries to take a turn again as soon as all others had one, in a crowd that never stops."""
    assert STAY_BEHIND * CROWDED_S * 2 == await gives_in(mock_clock, CROWDED_S * 2)


async def test_nobody_stays_away_for_long(mock_clock: MockClock) -> None:
    """Tries to have one wait for a multiple of a stall of seconds."""
    assert STAY_BEHIND_S == await gives_in(mock_clock, 5.0)
