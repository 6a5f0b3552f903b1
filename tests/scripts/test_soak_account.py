"""The judge of scripts/soak, on made-up samples: a leak is found, and nothing else is taken for one."""

from __future__ import annotations

import io
from random import Random

import attrs
import orjson
import pytest
from attack_parts.account import Latency, Log
from attack_parts.server import Numbers
from rich.console import Console
from soak_parts.account import Account, State, judge, warm_up_min
from soak_parts.report import line, show
from soak_parts.sample import Memory, Sample, closes
from soak_parts.trend import first_and_last, slope

MIB = 1024 * 1024


def mib_at(minute: float, leak_mib_per_h: float) -> float:
    """Memory that climbs for the first minutes, then stays, but for a wave; and what leaks."""
    warm = 15 * min(1.0, minute / 8)
    return 80 + warm + 0.3 * (int(minute * 10) % 7) / 7 + leak_mib_per_h * minute / 60


def sample(minute: float, mib: float, p99_ms: float = 4.0) -> Sample:
    latency = Latency(2000, 1.0, p99_ms, 20.0)
    return Sample(
        at_s=minute * 60,
        seconds=10.0,
        memory=Memory(int(mib * MIB) + 20 * MIB, int(mib * MIB) + MIB, int(mib * MIB) + MIB, int(mib * MIB)),
        descriptors=520,
        tasks=1600,
        connections=508,
        mailbox_bytes=0,
        commits_per_s=190.0,
        commit_ms=1.5,
        closes={"1000": 5},
        server_cpu=0.6,
        server_waited=0.0,
        readers_cpu=0.4,
        writers_cpu=0.1,
        others_cpu=0.4,
        replies=latency,
        deliveries=latency,
        late=latency,
        changes_per_s=200.0,
        deliveries_per_s=70_000.0,
        there=508,
        came_back=100,
        left_out=0,
    )


def hour(leak_mib_per_h: float = 0.0, minutes: int = 60) -> list[Sample]:
    times = [number / 6 for number in range(1, 6 * minutes + 1)]
    return [sample(minute, mib_at(minute, leak_mib_per_h)) for minute in times]


HELD = Numbers(
    memory_bytes=110 * MIB, descriptors=520, tasks=1600, connections=508, subscriptions=555, topics=2, cpu_s=9.0
)
CHECK = {"name": "numbers", "unit": "events", "looked_at": 720_000, "unchecked": 0, "faults": 0, "first": []}
QUIET = {"ended": {}, "faults": {}, "came_back": 50, "resumed": 50}
GOOD = Account(
    minutes=60.0,
    warm_up_min=10.0,
    clients=500,
    changes_per_s=200.0,
    seed=1,
    interrupted=False,
    samples=hour(),
    start=HELD,
    end=attrs.evolve(HELD, memory_bytes=111 * MIB, cpu_s=999.0),
    readers=QUIET | {"events": 495 * 500_000 + 50 * 220_000, "following": {"tokens": 495, "graph": 50}},
    writers=QUIET
    | {
        "decoded": 5 * 720_000,
        "sent": 720_000,
        "answered": 720_000,
        "owed": 0,
        "left_out": 0,
        "errors": {},
        "due": {"tokens": 500_000, "graph": 220_000},
    },
    heads={"tokens": 500_000, "graph": 220_000},
    decoders=5,
    verified={"sound": True, "faults": 0, "topics": {}, "checks": [CHECK]},
    log=Log(1000, 10, [], {}),
    closes={"1000": 5},
    exit_code=0,
    faults=[],
)


def bad(account: Account) -> list[str]:
    return [f"{v.about}: {v.text}" for v in judge(account) if v.state is State.FAILED]


def state_of(account: Account, about: str) -> State:
    return next(verdict.state for verdict in judge(account) if verdict.about == about)


def test_a_good_hour_is_good() -> None:
    """Tries to have the judge complain of memory that filled while it was warming up, and of nothing else."""
    assert [] == bad(GOOD)
    assert {State.GOOD} == {verdict.state for verdict in judge(GOOD)}
    assert GOOD.record()["good"]


@pytest.mark.parametrize("leak_mib_per_h", [2.0, 5.0, 50.0])
def test_a_leak_is_found(leak_mib_per_h: float) -> None:
    """Tries to hide a leak behind the warm-up and a wave that is a good part of it."""
    leaking = attrs.evolve(GOOD, samples=hour(leak_mib_per_h))
    (said,) = bad(leaking)
    assert said.startswith("memory: +")
    assert not leaking.record()["good"]
    assert leak_mib_per_h == pytest.approx(leaking.record()["memory_mib_per_h"]["slope"], abs=0.2)


@pytest.mark.parametrize("leak_mib_per_h", [0.0, 500.0])
def test_a_short_run_shows_no_slope(leak_mib_per_h: float) -> None:
    """Tries to have two minutes pass or fail for their memory or latency."""
    short = attrs.evolve(GOOD, minutes=2, warm_up_min=warm_up_min(2), samples=hour(leak_mib_per_h, minutes=2))
    for about in ("memory", "p99 of replies", "p99 of deliveries"):
        assert State.NOT_JUDGED is state_of(short, about)


WRITERS = GOOD.writers


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (
            attrs.evolve(GOOD, readers=GOOD.readers | {"events": GOOD.readers["events"] - 1}),
            "nothing lost: 262,100,000",
        ),
        (attrs.evolve(GOOD, writers=WRITERS | {"decoded": 3_600_001}), "nothing lost: 262,100,000 deliveries were due"),
        (
            attrs.evolve(GOOD, readers=GOOD.readers | {"faults": {"event 7 was due": 2}}),
            "nothing lost: event 7 was due",
        ),
        (attrs.evolve(GOOD, writers=WRITERS | {"faults": {"gap": 1}}), "nothing lost: gap (1 times)"),
        (attrs.evolve(GOOD, faults=["the server ended"]), "nothing lost: the server ended"),
        (attrs.evolve(GOOD, writers=WRITERS | {"due": {"tokens": 1}}), "nothing lost: the commands make"),
        (attrs.evolve(GOOD, verified=None), "ngos verify: it could not be run"),
        (
            attrs.evolve(GOOD, verified={"sound": False, "checks": [CHECK | {"first": ["a hole"]}]}),
            "ngos verify: a hole",
        ),
        (attrs.evolve(GOOD, writers=WRITERS | {"owed": 3}), "commands: 3 commands have no answer"),
        (
            attrs.evolve(GOOD, writers=WRITERS | {"errors": {"token.create: unavailable": 2}}),
            "commands: token.create: unavailable (2 times)",
        ),
        (attrs.evolve(GOOD, writers=WRITERS | {"sent": 700_000}), "load: 700,000 changes in 3,600 s"),
        (attrs.evolve(GOOD, end=attrs.evolve(HELD, descriptors=521)), "descriptors: 520 at the start, 521 at the end"),
        (attrs.evolve(GOOD, end=attrs.evolve(HELD, descriptors=None)), "descriptors: 520 at the start, None"),
        (attrs.evolve(GOOD, end=attrs.evolve(HELD, tasks=1599)), "tasks: 1,600 at the start, 1,599 at the end"),
        (attrs.evolve(GOOD, end=attrs.evolve(HELD, connections=509)), "connections: 508 at the start, 509"),
        (attrs.evolve(GOOD, end=attrs.evolve(HELD, subscriptions=556)), "subscriptions: 555 at the start, 556"),
        (attrs.evolve(GOOD, log=Log(10, 1, ["Traceback"], {})), "the server's log: Traceback"),
        (attrs.evolve(GOOD, exit_code=-9), "the server's log: the server ended with -9"),
        (
            attrs.evolve(GOOD, samples=[attrs.evolve(s, replies=slow(s)) for s in GOOD.samples])
            if (slow := lambda s: Latency(9, 1.0, 4.0 if s.at_s < 3000 else 6.1, 9.0))
            else GOOD,
            "p99 of replies: first tenth 4.0 ms, last 6.1: 1.52 times",
        ),
    ],
)
def test_what_is_wrong_is_found(account: Account, said: str) -> None:
    """Tries to have a run come out well in which one thing is not as it should be."""
    (found,) = bad(account)
    assert found.startswith(said)


def test_one_hiccup_is_no_trend() -> None:
    """Tries to have a run fail for a minute in which the machine did something else."""
    samples = list(GOOD.samples)
    for at in range(350, 356):
        samples[at] = attrs.evolve(samples[at], replies=Latency(9, 50.0, 900.0, 4000.0))
    assert [] == bad(attrs.evolve(GOOD, samples=samples))


def test_a_run_without_a_sample_can_be_told() -> None:
    """Tries to have the report fail where a signal came at once."""
    nothing = attrs.evolve(GOOD, samples=[], interrupted=True)
    console = Console(file=io.StringIO(), width=150)
    show(console, nothing)
    assert "NOT GOOD: 0.0 min, interrupted, of 60" in console.file.getvalue()
    assert State.NOT_JUDGED is state_of(nothing, "memory")


def test_what_is_printed_is_what_is_known() -> None:
    """Tries to have the report leave out a verdict, or a finding."""
    console = Console(file=io.StringIO(), width=150)
    show(console, attrs.evolve(GOOD, faults=["the server stood still"]))
    printed = console.file.getvalue()
    for said in ("FAILED  nothing lost: the server stood still", "good  memory: ", "NOT GOOD: 60.0 min, 500 clients"):
        assert said in printed
    assert "RSS 120.0 anonymous 100.0 MiB  520 files 1,600 tasks" in line(sample(1.0, 100.0))
    orjson.dumps(GOOD.record())


@pytest.mark.parametrize("per", [0.0, 1.5, -2.0])
def test_a_line_is_found_exactly(per: float) -> None:
    """Tries to have a slope that is not the line's, or doubt where there is none."""
    xs = [n / 10 for n in range(50)]
    found = slope(xs, [3 + per * x for x in xs])
    assert per == pytest.approx(found.per)
    assert 0 == pytest.approx(found.give_or_take, abs=1e-6)


def test_steps_are_less_sure_than_noise() -> None:
    """Tries to have one step of memory that stays, halfway, taken for a sure slope, as plain least squares does."""
    rng = Random(1)
    xs = [n / 360 for n in range(360)]
    step = slope(xs, [1.0 if x > 0.5 else 0.0 for x in xs])
    noise = slope(xs, [1.5 * x + rng.gauss(0, 0.25) for x in xs])
    assert step.give_or_take > 3 * noise.give_or_take
    assert noise.least < 1.5 < noise.most
    assert slope([1, 2, 3], [1, 2, 3]) is None


@pytest.mark.parametrize(("count", "due"), [(1, (0, 0)), (9, (0, 8)), (30, (1, 28)), (100, (4.5, 94.5))])
def test_tenths_are_of_the_ends(count: int, due: tuple[float, float]) -> None:
    """Tries to have a tenth of none, or not at the end."""
    assert due == first_and_last(range(count))


def test_closes_are_counted_by_code() -> None:
    """Tries to have a code lost, or one told that never was."""
    name = 'ngos_connections_closed_total{code="%s"}'
    assert {"1000": 3} == closes({name % 1000: 3.0, name % 1013: 0.0, "ngos_connections": 9.0})
