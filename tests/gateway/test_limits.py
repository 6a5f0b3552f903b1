"""Meters, ledgers and the door: that nobody gets more than the rate, and that nothing grows with what clients do."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ngos.config import Settings
from ngos.gateway.door import RESERVE, Door
from ngos.gateway.limits import Ledger, Limit, Meter, Refusals, Use, pace_of
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.commands import Command

RATE, BURST_S = 10.0, 2.0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 8)), min_size=1, max_size=80))
def test_a_meter_lets_by_no_more_than_rate_and_burst(steps: list[tuple[float, int]]) -> None:
    """Tries to get more through than burst and rate allow, in any window, by any pattern of asking."""
    meter = Meter.of(Limit.COMMANDS_PER_S, RATE, BURST_S)
    now = 100.0
    passed: list[tuple[float, int]] = []
    for wait_s, amount in steps:
        now += wait_s
        if meter.excess_s(amount, now) <= 0:
            meter.charge(amount, now)
            passed.append((now, amount))
    for start in range(len(passed)):
        for end in range(start, len(passed)):
            window = passed[start : end + 1]
            most = RATE * (window[-1][0] - window[0][0] + BURST_S)
            # An empty meter lets anything by: so much may be over.
            assert sum(amount for _, amount in window) <= most + max(amount for _, amount in window) + 1e-6


@given(st.integers(1, 100), st.integers(1, 20))
def test_waiting_as_told_is_enough(spent: int, amount: int) -> None:
    """Tries to be refused after having waited for as long as one was told."""
    meter = Meter.of(Limit.COMMANDS_PER_S, RATE, BURST_S)
    meter.charge(spent, 5.0)
    wait_s = meter.excess_s(amount, 5.0)
    assert meter.excess_s(amount, 5.0 + max(wait_s, 0) + 1e-9) <= 0


def test_what_is_refused_is_not_charged() -> None:
    """Tries to be kept out for ever by asking again and again while one is over."""
    pace = pace_of(Settings(commands_per_s=10, burst_s=1), Refusals())
    assert [0.0] * 9 == [pace.admit(1, 1.0) for _ in range(9)]
    pace.admit(1, 1.0)
    assert all(pace.admit(1, 1.0) for _ in range(1000))
    assert 0.0 == pace.admit(1, 2.0)


def test_who_waits_as_told_is_never_cut() -> None:
    """A client that sends too much, but pauses when it is told to, is not too long over, however long it does that."""
    refusals = Refusals()
    pace = pace_of(Settings(commands_per_s=10, burst_s=1, over_limit_s=5), refusals)
    now = 0.0
    for _ in range(1000):
        while not (wait_s := pace.admit(1, now)):
            now += 0.001
        assert not pace.is_too_long()
        now += wait_s
    assert refusals.counts[Limit.COMMANDS_PER_S] == 1000


@pytest.mark.parametrize("per_s", [20.0, 1000.0])
def test_who_does_not_wait_is_cut(per_s: float) -> None:
    """A client that goes on sending twice as much is too long over after over_limit_s, or sooner if it floods."""
    pace = pace_of(Settings(commands_per_s=10, burst_s=1, over_limit_s=5), Refusals())
    now, first = 0.0, None
    while not pace.is_too_long():
        if pace.admit(1, now) and first is None:
            first = now
        now += 1 / per_s
        assert now < 60
    assert first is not None
    assert now - first < 5.2


def test_the_dearest_limit_counts() -> None:
    """Tries to get around the limit in bytes by few large messages, and around that in commands by many small ones."""
    refusals = Refusals()
    pace = pace_of(Settings(commands_per_s=1000, bytes_per_s=1000, burst_s=1), refusals)
    assert 0.0 == pace.admit(5000, 1.0)
    assert pace.admit(1, 1.0) >= 4
    assert refusals.counts[Limit.BYTES_PER_S] == 1
    assert 0.0 == pace.admit(1, 5.1)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60))
def test_a_ledger_keeps_who_is_there_and_few_others(steps: list[tuple[str, bool]]) -> None:
    """Tries to make a ledger grow by new keys, to lose a count of one that is open, or to wipe one by others."""
    ledger: Ledger[str] = Ledger(3, lambda: Use(()))
    counts: dict[str, int] = {}
    for key, enters in steps:
        if enters:
            ledger.enter(key)
            counts[key] = counts.get(key, 0) + 1
        elif counts.get(key):
            ledger.leave(key)
            counts[key] -= 1
        else:
            ledger.of(key)
        assert len(ledger) <= 3 + sum(1 for count in counts.values() if count)
    assert counts == {key: ledger.of(key).open for key in counts}


def test_coming_back_does_not_wipe_the_slate() -> None:
    """Tries to get a fresh burst by leaving and coming back."""
    meter = Meter.of(Limit.ARRIVALS_PER_S, 1, 1)
    ledger: Ledger[str] = Ledger(3, lambda: Use((meter,)))
    first = ledger.enter("a")
    ledger.leave("a")
    assert first is ledger.enter("a")


async def test_addresses(autojump_clock: trio.abc.Clock) -> None:
    """Tries to have more connections than an address may, by IPv6 addresses of one /64, or by IPv4 mapped into IPv6."""
    door = Door(Settings(connections_per_address=2), Refusals())
    assert [0, 0, 429] == [door.enter(f"2001:db8::{n}") for n in (1, 2, 3)]
    assert 0 == door.enter("2001:db8:0:1::1")
    assert [0, 0, 429] == [door.enter(address) for address in ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1")]
    door.leave("::ffff:10.0.0.1")
    assert 0 == door.enter("10.0.0.1")
    assert 5 == door.open


async def test_arrivals(autojump_clock: trio.abc.Clock) -> None:
    """Tries to begin more connections and requests than the rate; others are not held to it."""
    door = Door(Settings(arrivals_per_s=10, arrivals_at_once=5), Refusals())
    for _ in range(5):
        assert 0 == door.enter("10.0.0.1")
        door.leave("10.0.0.1")
    assert 429 == door.enter("10.0.0.1")
    assert not door.may_request("10.0.0.1")
    assert 0 == door.enter("10.0.0.2")
    await trio.sleep(0.11)
    assert door.may_request("10.0.0.1")
    assert not door.may_request("10.0.0.1")


async def test_when_all_is_full(autojump_clock: trio.abc.Clock) -> None:
    """Tries to have more connections in all than there may be, from many addresses."""
    refusals = Refusals()
    door = Door(Settings(connections=1), refusals)
    assert [0] * (RESERVE + 1) == [door.enter(f"10.0.{n // 200}.{n % 200}") for n in range(RESERVE + 1)]
    assert 503 == door.enter("10.9.9.9")
    assert 1 == refusals.counts[Limit.CONNECTIONS]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.9", "", "10.0.0.9"),
        ("10.0.0.9", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.9", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.9", "6.6.6.6, 1.2.3.4, 10.0.0.8", "1.2.3.4"),
        ("10.0.0.9", "10.0.0.7", "10.0.0.7"),
        ("5.5.5.5", "1.2.3.4", "5.5.5.5"),
        ("10.0.0.9", "rubbish", "rubbish"),
    ],
)
def test_who_comes_by_a_proxy(peer: str, forwarded: str, client: str) -> None:
    """Tries to pass for another address by X-Forwarded-For: only what our own proxies wrote counts."""
    door = Door(Settings(proxies=("10.0.0.8/31",)), Refusals())
    assert client == door.client_of(peer, forwarded)


async def test_proxies_are_many_in_one(autojump_clock: trio.abc.Clock) -> None:
    """A proxy's own address is not held to the limits of one; those behind it are, each by itself."""
    door = Door(Settings(proxies=("10.0.0.9",), connections_per_address=1), Refusals())
    assert [0] * 5 == [door.enter("10.0.0.9") for _ in range(5)]
    assert door.has_room("1.2.3.4")
    door.enter_behind("1.2.3.4")
    assert not door.has_room("1.2.3.4")
    assert door.has_room("1.2.3.5")
    door.leave_behind("1.2.3.4")
    assert door.has_room("1.2.3.4")


async def test_misdeeds_count_at_the_door(autojump_clock: trio.abc.Clock) -> None:
    """Tries to come back for more as often as an honest client may, after each time that one was cut."""
    door = Door(Settings(arrivals_per_s=10, arrivals_at_once=100), Refusals())
    cut = 0
    while door.enter("10.0.0.1") == 0:
        door.leave("10.0.0.1")
        door.misdeed("10.0.0.1")
        cut += 1
    assert 5 == cut
    assert 0 == door.enter("10.0.0.2")


def test_what_is_dear_is_paid_for_by_who_comes_next() -> None:
    """Tries to have dear commands at the price of cheap ones."""
    pace = pace_of(Settings(commands_per_s=10, burst_s=1), Refusals())
    assert 0.0 == pace.admit(1, 1.0)
    pace.spend(100, 1.0)
    assert pace.admit(1, 1.0) > 9
    assert 0.0 == pace.admit(1, 11.0)


@pytest.mark.parametrize("command", COMMANDS.values())
def test_costs(command: type[Command]) -> None:
    """Tries to find a command that costs nothing, or one that a page of the largest kind could not pay for."""
    fields = attrs.fields_dict(command)
    sample: dict[str, Any] = {name: None for name, field in fields.items() if field.default is attrs.NOTHING}
    largest = {"limit": 1000, "full": True, "total": True}
    dear = command(**sample, **{name: value for name, value in largest.items() if name in fields})
    assert 1 <= command(**sample).cost() <= dear.cost() < Settings().commands_per_s
