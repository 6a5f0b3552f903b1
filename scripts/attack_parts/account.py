"""What a run came to, and whether it is good. Pure.

Promises: `judge` names everything that is not as issue 5 has it, and nothing else; how slow the honest ones became, and
whether new ones got in, is told and not judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import attrs
import orjson

from attack_parts.server import Numbers
from attack_parts.tally import Tally

MIB = 1024 * 1024
LOG_BYTES_PER_S = 256 * 1024
EXAMPLES = 5
PHASES = ("before", "during", "held", "after")


@attrs.frozen
class Latency:
    """How long something took, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency | None:
        """The nearest rank; None of nothing."""
        ordered = sorted(seconds)
        if not ordered:
            return None

        def rank(share: float) -> float:
            return round(ordered[ceil(share * len(ordered)) - 1] * 1000, 2)

        return cls(len(ordered), rank(0.5), rank(0.99), rank(1.0))


@attrs.frozen
class Spent:
    """What a phase took, in seconds.

    `…_waited_s` is for how long the process was ready to run and others had its core: much of it, and the latencies
    are rather the machine's than the server's.
    """

    server_cpu_s: float
    server_waited_s: float
    honest_waited_s: float


@attrs.frozen
class Phase:
    """A time of the run, and what the honest ones measured in it."""

    seconds: float
    replies: Latency | None
    deliveries: Latency | None
    by_command: Mapping[str, Latency | None]
    spent: Spent


@attrs.frozen
class Arrived:
    """Those who came in a phase: how long until they were greeted, and why others were not."""

    greeted: Latency | None
    turned_away: Mapping[str, int]


@attrs.frozen
class Log:
    """What the server has written."""

    size_bytes: int
    lines: int
    faults: Sequence[str]
    """Lines that say error, have a traceback, or are none of its own."""
    most_frequent: Mapping[str, int]

    @classmethod
    def of(cls, data: bytes) -> Log:
        """Read the log of one life; the one line that is not JSON is the address."""
        faults, events = [], Counter[str]()
        lines = data.splitlines()
        for line in lines:
            if line.startswith(b"http://"):
                continue
            try:
                said = orjson.loads(line)
                level, event = said["level"], said["event"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                faults.append(line.decode(errors="replace")[:300])
                continue
            events[event] += 1
            if level in ("error", "critical") or "exception" in said:
                faults.append(line.decode(errors="replace")[:300])
        return cls(len(data), len(lines), faults, dict(events.most_common(EXAMPLES)))


@attrs.frozen(kw_only=True)
class Account:
    """Everything that a run came to."""

    attack_s: float
    memory_tolerance_bytes: int
    phases: Mapping[str, Phase]
    arrivals: Mapping[str, Arrived]
    before: Numbers
    after: Sequence[tuple[float, Numbers]]
    """By seconds after the end of the attack; the last is the one that is judged."""
    most_memory_bytes: int
    most_descriptors: int
    descriptor_limit: int
    sent: int
    unanswered: int
    foreign_events: int
    errors: Mapping[str, int]
    closes: Mapping[str, int]
    reconnects: int
    kinds: Mapping[str, Tally]
    attackers_cpu_s: float
    log: Log
    exit_code: int | None
    failures: Sequence[str] = ()
    """What did not happen within its deadline."""

    def record(self) -> dict[str, Any]:
        """It as JSON, with the verdict."""
        faults = judge(self)
        plain = attrs.asdict(self, recurse=True, filter=lambda attribute, _: attribute.name != "kinds")
        return {
            "good": not faults,
            "faults": faults,
            **plain,
            "p99_ratio": p99_ratio(self),
            "kinds": {name: tally.record() for name, tally in self.kinds.items()},
        }


def p99_ratio(account: Account) -> float | None:
    """How many times slower the slowest hundredth of the replies was during the attack than before."""
    before, during = account.phases["before"].replies, account.phases["during"].replies
    if before is None or during is None:
        return None
    return round(during.p99_ms / before.p99_ms, 2)


def judge(account: Account) -> list[str]:
    """What is wrong, a line each; nothing: it is as it should be."""
    found = [*account.failures]
    before, (after_s, after) = account.before, account.after[-1]
    for name in ("descriptors", "tasks", "connections", "subscriptions"):
        was, now = getattr(before, name), getattr(after, name)
        if was is not None and was != now:
            found.append(f"{name}: {was} before, {now} {after_s:.0f} s after")
    if before.descriptors is None:
        found.append("descriptors: the server did not say how many of them are Postgres's, before")
    grown = after.memory_bytes - before.memory_bytes
    if grown > account.memory_tolerance_bytes:
        found.append(f"memory: grew by {grown / MIB:.0f} MiB, over {account.memory_tolerance_bytes / MIB:.0f}")
    for what, counts in (("got an error", account.errors), ("was disconnected", account.closes)):
        found += [f"an honest client {what}: {name}, {count} times" for name, count in counts.items() if count]
    if account.reconnects:
        found.append(f"honest clients came back {account.reconnects} times")
    if account.unanswered:
        found.append(f"honest clients: {account.unanswered} commands without an answer")
    if account.phases["before"].replies is None or account.phases["during"].replies is None:
        found.append("honest clients measured nothing")
    found += [f"the server logged: {line}" for line in account.log.faults[:EXAMPLES]]
    if len(account.log.faults) > EXAMPLES:
        found.append(f"the server logged {len(account.log.faults) - EXAMPLES} more lines of that sort")
    if account.log.size_bytes > LOG_BYTES_PER_S * account.attack_s + MIB:
        found.append(f"the log has {account.log.size_bytes:,} bytes, over {LOG_BYTES_PER_S:,} a second of attack")
    found += [f"the attack {name} did nothing" for name, tally in account.kinds.items() if not tally.attempts]
    if account.exit_code != 0:
        found.append(f"the server ended with {account.exit_code}")
    return found


def make_phases(
    bounds: Mapping[str, tuple[float, float]],
    spent: Mapping[str, Spent],
    replies: Mapping[str, Sequence[tuple[float, float]]],
    deliveries: Sequence[tuple[float, float]],
) -> dict[str, Phase]:
    """Part the samples by when their command was sent; `bounds` by the system's monotonic clock."""
    phases = {}
    for name, (begin, end) in bounds.items():
        by_command = {
            type_: [seconds for at, seconds in samples if begin <= at < end] for type_, samples in replies.items()
        }
        phases[name] = Phase(
            round(end - begin, 2),
            Latency.of(seconds for some in by_command.values() for seconds in some),
            Latency.of(seconds for at, seconds in deliveries if begin <= at < end),
            {type_: Latency.of(some) for type_, some in by_command.items()},
            spent[name],
        )
    return phases
