"""What a run came to, and whether it is good. Pure.

The aim for memory, 1 MiB an hour, is what an hour can show, and far below any leak that a request causes: in an hour of
200 changes a second it is 1.5 bytes a change, or 350 bytes for each of 3,000 clients that come back, while the smallest
object that Python could keep of either has 40 bytes, and a connection thousands. Memory is what the server has made
itself (anonymous, swap included): pages of libraries come and go with who else reads them.

The time before is not looked at (`warm_up_min`): at first the latest events fill their 1 MiB for each topic, the pages
of the log that were replayed fill up to 32 MiB, which takes minutes at 50 clients a minute that come back, and Python's
allocator keeps each arena (1 MiB; before 3.10, 256 KiB) for as long as one object is in it, so that memory climbs, ever
more slowly, to what the busiest moment took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import attrs
from attack_parts.account import Log
from attack_parts.server import SAME, Numbers

from soak_parts.sample import Sample
from soak_parts.trend import Slope, first_and_last, slope, tenth

MIB = 1024 * 1024
MIB_PER_H = 1.0
P99_TIMES = 1.5
WARM_UP_MIN, WARM_UP_SHARE = 10.0, 1 / 6
LONG_ENOUGH_S = 20 * 60
TENTH_S = 60.0
RATE = 0.99
SHOWN = 5


class State(Enum):
    """What a verdict says."""

    GOOD = "good"
    FAILED = "FAILED"
    NOT_JUDGED = "not judged"


@attrs.frozen
class Verdict:
    """One aim, and whether it was met."""

    about: str
    state: State
    text: str


@attrs.frozen(kw_only=True)
class Account:
    """All that was seen. `faults` are findings that the run itself met with; the other counts are of the end."""

    minutes: float
    warm_up_min: float
    clients: int
    changes_per_s: float
    seed: int
    interrupted: bool
    samples: Sequence[Sample]
    start: Numbers
    end: Numbers
    readers: Mapping[str, Any]
    writers: Mapping[str, Any]
    heads: Mapping[str, int]
    """The last event of each topic, as the database has it."""
    decoders: int
    verified: Mapping[str, Any] | None
    log: Log
    closes: Mapping[str, int]
    exit_code: int | None
    faults: Sequence[str]

    def settled(self) -> list[Sample]:
        """The samples after the warm-up."""
        return [sample for sample in self.samples if sample.at_s > self.warm_up_min * 60]

    def record(self) -> dict[str, Any]:
        """It as JSON."""
        grown = memory_slope(self)
        verdicts = judge(self)
        return {
            "good": not any(verdict.state is State.FAILED for verdict in verdicts),
            "verdicts": [attrs.asdict(verdict) | {"state": verdict.state.value} for verdict in verdicts],
            "memory_mib_per_h": None if grown is None else {"slope": grown.per, "give_or_take": grown.give_or_take},
        } | attrs.asdict(self)


def warm_up_min(minutes: float) -> float:
    """How long it is, of a run of so many minutes."""
    return min(WARM_UP_MIN, minutes * WARM_UP_SHARE)


def memory_slope(account: Account) -> Slope | None:
    """MiB an hour, after the warm-up."""
    samples = account.settled()
    return slope([s.at_s / 3600 for s in samples], [s.memory.made_bytes / MIB for s in samples])


def judge(account: Account) -> list[Verdict]:
    """Every aim in turn."""
    return [
        _nothing_lost(account),
        _verified(account),
        _answered(account),
        _load(account),
        _memory(account),
        *(_same(account, name) for name in SAME),
        *(_latency(account, name) for name in ("replies", "deliveries")),
        _log(account),
    ]


def _verdict(about: str, wrong: Sequence[str], good: str) -> Verdict:
    return Verdict(about, State.FAILED if wrong else State.GOOD, "; ".join(wrong) or good)


def _nothing_lost(account: Account) -> Verdict:
    wrong = [*account.faults]
    for counts in (account.readers, account.writers):
        wrong += [f"{what} ({times} times)" for what, times in list(counts["faults"].items())[:SHOWN]]
    following = account.readers["following"]
    due = sum(head * (following.get(topic, 0) + account.decoders) for topic, head in account.heads.items())
    got = account.readers["events"] + account.writers["decoded"]
    if got != due:
        wrong.append(f"{due:,} deliveries were due, and there were {got:,}")
    written = account.writers["due"]
    if not account.writers["errors"] and {topic: n for topic, n in account.heads.items() if n} != written:
        wrong.append(f"the commands make {written} events, and the log has {dict(account.heads)}")
    return _verdict("nothing lost", wrong, f"{got:,} deliveries, each event once and in order to each client")


def _verified(account: Account) -> Verdict:
    if account.verified is None:
        return Verdict("ngos verify", State.FAILED, "it could not be run")
    found = [text for check in account.verified["checks"] for text in check["first"]]
    looked_at = ", ".join(f"{check['looked_at']:,} {check['unit']}" for check in account.verified["checks"])
    return _verdict("ngos verify", found if not account.verified["sound"] else [], looked_at)


def _answered(account: Account) -> Verdict:
    writers = account.writers
    wrong = [f"{what} ({times} times)" for what, times in writers["errors"].items()]
    if writers["owed"]:
        wrong.append(f"{writers['owed']} commands have no answer")
    return _verdict("commands", wrong, f"{writers['answered']:,} sent, answered, and as they should be")


def _load(account: Account) -> Verdict:
    """A load that was not there proves nothing."""
    seconds = sum(sample.seconds for sample in account.samples)
    due = account.changes_per_s * seconds
    sent = account.writers["sent"]
    text = f"{sent:,} changes in {seconds:,.0f} s, {account.writers['left_out']:,} left out as the machine stood still"
    return Verdict("load", State.GOOD if seconds and sent >= RATE * due else State.FAILED, text)


def _memory(account: Account) -> Verdict:
    samples = account.settled()
    if not samples:
        return Verdict("memory", State.NOT_JUDGED, "no sample after the warm-up")
    grown = memory_slope(account)
    first, last = first_and_last([sample.memory.made_bytes / MIB for sample in samples])
    tenths = f"first tenth {first:.1f} MiB, last {last:.1f}, after {account.warm_up_min:.1f} min of warm-up"
    long_s = samples[-1].at_s - samples[0].at_s
    if grown is None or long_s < LONG_ENOUGH_S:
        need = LONG_ENOUGH_S // 60
        return Verdict("memory", State.NOT_JUDGED, f"{long_s / 60:.1f} min show no slope, {need} are needed; {tenths}")
    text = f"{grown.per:+.2f} MiB/h, give or take {grown.give_or_take:.2f} (95 %); aim {MIB_PER_H:g}; {tenths}"
    if grown.per > MIB_PER_H:
        return Verdict("memory", State.FAILED, text)
    if grown.most > MIB_PER_H:
        return Verdict("memory", State.GOOD, f"{text}; a longer run would be surer")
    return Verdict("memory", State.GOOD, text)


def _same(account: Account, name: str) -> Verdict:
    start, end = getattr(account.start, name), getattr(account.end, name)
    if start is None or end is None:
        return Verdict(name, State.FAILED, f"{start} at the start, {end} at the end: the server did not say")
    return Verdict(name, State.GOOD if start == end else State.FAILED, f"{start:,} at the start, {end:,} at the end")


def _latency(account: Account, name: str) -> Verdict:
    about = f"p99 of {name}"
    samples = [sample for sample in account.settled() if getattr(sample, name) is not None]
    if not samples:
        return Verdict(about, State.NOT_JUDGED, "nothing was measured after the warm-up")
    first, last = first_and_last([getattr(sample, name).p99_ms for sample in samples])
    text = f"first tenth {first:.1f} ms, last {last:.1f}: {last / max(first, 0.01):.2f} times; aim {P99_TIMES:g}"
    # Else a machine that others made busy, later on, looks like a server that became slow.
    waited = first_and_last([sample.server_waited for sample in samples])
    others = first_and_last([sample.others_cpu for sample in samples])
    text += (
        f" (waits for its core {waited[0]:.0%}, {waited[1]:.0%}; cores of all others {others[0]:.1f}, {others[1]:.1f})"
    )
    seconds = sum(sample.seconds for sample in samples[: tenth(len(samples))])
    if seconds < TENTH_S:
        return Verdict(
            about, State.NOT_JUDGED, f"a tenth of {seconds:.0f} s shows none, {TENTH_S:g} are needed; {text}"
        )
    return Verdict(about, State.GOOD if last <= P99_TIMES * first else State.FAILED, text)


def _log(account: Account) -> Verdict:
    wrong = [*account.log.faults[:SHOWN]]
    if account.exit_code != 0:
        wrong.append(f"the server ended with {account.exit_code}")
    return _verdict("the server's log", wrong, f"{account.log.lines:,} lines, none of them an error")
