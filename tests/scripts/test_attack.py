"""scripts/attack runs, tells what happened, and can find a server wanting. How fast anything is, is not tested."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import orjson
import pytest
from attack_parts.account import Account, Arrived, Latency, Log, Phase, Spent, judge, make_phases, p99_ratio
from attack_parts.kinds import KINDS
from attack_parts.report import show
from attack_parts.server import Numbers, Server
from attack_parts.tally import Tally
from attack_parts.wire import CLOSE, PONG, TEXT, Frames, frame, outcome_of
from rich.console import Console
from trio.testing import MockClock

from tests.databases import TestServer
from tests.scripts.marked import Script

LIMIT_S = 60.0
SHORT = ("--seconds", "3", "--before-seconds", "2", "--held-seconds", "0.5", "--honest", "5", "--attackers", "4")
SOME = ("a-terabyte", "long-control", "json-depth", "connect-and-close")
ONLY = tuple(argument for name in SOME for argument in ("--only", name))


def directories() -> set[Path]:
    return set(Path("/tmp").glob("ngos-attack-*"))


@pytest.fixture
def attack(postgres_server: TestServer):
    """Runs scripts/attack; no process, no database and no file may be left behind."""
    before = directories()
    attack = Script("attack", "--database-url", postgres_server.conninfo)
    yield attack
    assert [] == attack.processes()
    assert before >= directories()
    assert [] == attack.databases(postgres_server.conninfo)


def test_a_short_attack_is_told_soundly(attack: Script) -> None:
    """Tries to have attacks that nothing met, phases that nobody measured, or a verdict that is not the exit code."""
    done = attack(*SHORT, *ONLY, "--json")
    record = json.loads(done.stdout)
    assert record["good"] == (not record["faults"]) == (0 == done.returncode), done.stdout + done.stderr
    assert set(SOME) == set(record["kinds"])
    outcomes = {name: kind["outcomes"] for name, kind in record["kinds"].items()}
    assert outcomes["a-terabyte"].keys() >= {"connection.established", "closed 1009"}
    assert outcomes["long-control"].keys() >= {"connection.established", "closed 1002"}
    assert outcomes["json-depth"].keys() >= {"error invalid_json"}
    for name in ("before", "during"):
        phase = record["phases"][name]
        replies, deliveries = phase["replies"], phase["deliveries"]
        assert 0 < replies["p50_ms"] <= replies["p99_ms"] <= replies["max_ms"]
        assert {"server_cpu_s", "server_waited_s", "honest_waited_s"} == phase["spent"].keys()
        # A create is heard by all five.
        assert 0 < deliveries["count"] == 5 * phase["by_command"]["token.create"]["count"]
        arrived = record["arrivals"][name]
        assert 0 < arrived["greeted"]["count"] + sum(arrived["turned_away"].values())
    # Of the time after it nothing is promised, in so short a one: where nothing came, it says null.
    assert record["sent"] >= sum(phase["replies"]["count"] for phase in record["phases"].values() if phase["replies"])
    assert {} == record["errors"] == record["closes"]
    assert 5 == record["before"]["connections"] == record["before"]["subscriptions"]
    assert 0 < record["log"]["size_bytes"]


def test_ctrl_c_leaves_nothing_behind(attack: Script) -> None:
    """Tries to leave processes, a database or files behind by interrupting it in the midst of the attack."""
    with attack.start("--seconds", "60", "--before-seconds", "1", "--honest", "2") as process:
        until(lambda: any("attack_parts.attackers" in line for line in attack.processes()), process)
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(20)
        assert "Traceback" not in process.stderr.read()


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition, for as long as the process runs."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "kindness"), "'kindness' is not one of"),
        (("--seconds", "0"), "is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(attack: Script, arguments: tuple[str, ...], said: str) -> None:
    """Tries to have an attack begin that was asked for wrongly."""
    done = attack(*arguments)
    assert 2 == done.returncode
    assert said in " ".join(done.stderr.split())


# The judge, on a made-up account.

BEFORE = Numbers(
    memory_bytes=80_000_000, descriptors=120, tasks=310, connections=100, subscriptions=100, topics=None, cpu_s=3.0
)
LATENCY = Latency(100, 1.0, 2.0, 3.0)
SPENT = Spent(1.0, 0.1, 0.2)
PHASE = Phase(20.0, LATENCY, LATENCY, {"ping": LATENCY}, SPENT)
GOOD = Account(
    attack_s=60.0,
    memory_tolerance_bytes=10_000_000,
    phases=dict.fromkeys(("before", "during", "held", "after"), PHASE),
    arrivals={"before": Arrived(LATENCY, {}), "during": Arrived(None, {"no answer": 60})},
    before=BEFORE,
    after=[(0.0, attrs.evolve(BEFORE, tasks=999, descriptors=999)), (1.5, attrs.evolve(BEFORE, cpu_s=9.0))],
    most_memory_bytes=90_000_000,
    most_descriptors=999,
    descriptor_limit=1024,
    sent=400,
    unanswered=0,
    foreign_events=7,
    errors={},
    closes={},
    reconnects=0,
    kinds={"pings": Tally(5, 100, Counter({"Pong": 5}))},
    attackers_cpu_s=40.0,
    log=Log(1000, 10, [], {"connection.opened": 5}),
    exit_code=0,
)


def ending_with(**numbers: object) -> Account:
    return attrs.evolve(GOOD, after=[*GOOD.after, (30.0, attrs.evolve(BEFORE, **numbers))])


def test_a_good_account_is_good() -> None:
    """Tries to have the judge complain of what is as it should be, though it was not at once."""
    assert [] == judge(GOOD)
    assert GOOD.record()["good"]


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (ending_with(descriptors=121), "descriptors: 120 before, 121 30 s after"),
        (ending_with(descriptors=119), "descriptors: 120 before, 119 30 s after"),
        (ending_with(descriptors=None), "descriptors: 120 before, None 30 s after"),
        (ending_with(tasks=311), "tasks: 310 before, 311 30 s after"),
        (ending_with(connections=99), "connections: 100 before, 99 30 s after"),
        (ending_with(subscriptions=101), "subscriptions: 100 before, 101 30 s after"),
        (ending_with(memory_bytes=90_000_001), "memory: grew by 10 MiB, over 10"),
        (attrs.evolve(GOOD, errors={"unavailable": 2}), "an honest client got an error: unavailable, 2 times"),
        (attrs.evolve(GOOD, closes={"closed 1013": 1}), "an honest client was disconnected: closed 1013, 1 times"),
        (attrs.evolve(GOOD, reconnects=1), "honest clients came back 1 times"),
        (attrs.evolve(GOOD, unanswered=3), "honest clients: 3 commands without an answer"),
        (attrs.evolve(GOOD, log=Log(1000, 10, ["Traceback"], {})), "the server logged: Traceback"),
        (attrs.evolve(GOOD, log=Log(10**9, 10, [], {})), "the log has 1,000,000,000 bytes, over 262,144 a second"),
        (attrs.evolve(GOOD, kinds={"pings": Tally()}), "the attack pings did nothing"),
        (attrs.evolve(GOOD, exit_code=-9), "the server ended with -9"),
        (attrs.evolve(GOOD, failures=["too slow"]), "too slow"),
        (
            attrs.evolve(GOOD, phases=GOOD.phases | {"during": Phase(60.0, None, None, {}, SPENT)}),
            "honest clients measured nothing",
        ),
    ],
)
def test_what_is_wrong_is_found(account: Account, said: str) -> None:
    """Tries to have a run come out well in which one thing is not as it was promised."""
    (found,) = judge(account)
    assert found.startswith(said)
    assert not account.record()["good"]


def test_a_server_without_the_gauge_is_not_blamed_for_it() -> None:
    """Tries to have a number judged that the server never told."""
    account = attrs.evolve(
        GOOD, before=attrs.evolve(BEFORE, tasks=None), after=[(1.0, attrs.evolve(BEFORE, tasks=None))]
    )
    assert [] == judge(account)


def test_slowness_is_told_and_not_judged() -> None:
    """Tries to have the ratio wrong, or to have it fail a run."""
    slow = attrs.evolve(PHASE, replies=Latency(100, 10.0, 50.0, 90.0))
    account = attrs.evolve(GOOD, phases=GOOD.phases | {"during": slow})
    assert 25.0 == p99_ratio(account)
    assert [] == judge(account)


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (GOOD, ["pings", "Pong 5", "no answer 60", "999 of 1,024", "1.5 s", "good: p99 during the attack is 1 times"]),
        (ending_with(tasks=311), ["never", "FAILED: tasks: 310 before, 311 30 s after", "NOT GOOD"]),
        (attrs.evolve(GOOD, before=attrs.evolve(BEFORE, tasks=None)), ["no gauge"]),
    ],
)
def test_what_is_printed_is_what_is_known(account: Account, said: list[str]) -> None:
    """Tries to have the tables leave out an attack, a number that is not back, or the verdict."""
    console = Console(file=io.StringIO(), width=150)
    show(console, account)
    printed = console.file.getvalue()
    assert said == [text for text in said if text in printed]


def test_a_record_is_json() -> None:
    """Tries to have an account that programs can't read."""
    record = orjson.loads(orjson.dumps(GOOD.record()))
    assert {"attempts": 5, "sent_bytes": 100, "outcomes": {"Pong": 5}} == record["kinds"]["pings"]


@pytest.mark.parametrize(
    ("early", "looks"),
    [
        ([attrs.evolve(BEFORE, connections=101)] * 2, 4),  # one has left, and the server has yet to notice
        ([attrs.evolve(BEFORE, descriptors=119)], 3),  # the pool has just opened a connection
        ([attrs.evolve(BEFORE, connections=101)] * 100, 11),
    ],
)
async def test_what_is_as_before_was_so_for_a_while(
    early: list[Numbers], looks: int, autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to have a passing moment be what everything is compared with, or to be waited for without end."""
    seen: list[Numbers] = []

    async def numbers(_server: Server) -> Numbers:
        seen.append(early[len(seen)] if len(seen) < len(early) else BEFORE)
        return seen[-1]

    monkeypatch.setattr(Server, "numbers", numbers)
    server = Server(None, 1, tmp_path, None)
    found = await server.settled(BEFORE.connections, 4.9)
    assert found == seen[-1]
    assert looks == len(seen)


def test_latency_is_the_nearest_rank() -> None:
    """Tries to have a percentile that nobody measured."""
    assert Latency(100, 50.0, 99.0, 100.0) == Latency.of(number / 1000 for number in range(100, 0, -1))
    assert Latency(1, 7.0, 7.0, 7.0) == Latency.of([0.007])
    assert None is Latency.of([])


def test_a_sample_belongs_to_when_it_was_sent() -> None:
    """Tries to have what was sent in the attack and answered after it counted as quiet."""
    bounds = {"before": (0.0, 10.0), "during": (10.0, 20.0)}
    phases = make_phases(
        bounds, dict.fromkeys(bounds, SPENT), {"ping": [(9.0, 0.1), (19.9, 5.0)], "publish": []}, [(10.0, 0.2)]
    )
    assert Latency(1, 100.0, 100.0, 100.0) == phases["before"].replies
    assert Latency(1, 5000.0, 5000.0, 5000.0) == phases["during"].replies
    assert None is phases["before"].deliveries
    assert Latency(1, 200.0, 200.0, 200.0) == phases["during"].deliveries


def test_the_log_is_read_line_by_line() -> None:
    """Tries to hide an error, a traceback or a foreign line in the log, or to have the address taken for one."""
    log = Log.of(
        b"http://127.0.0.1:8000\n"
        b'{"level":"info","event":"server.ready"}\n'
        b'{"level":"error","event":"boom"}\n'
        b'{"level":"warning","event":"odd","exception":"Traceback"}\n'
        b"Traceback (most recent call last)\n"
    )
    assert ["boom", "odd", "Traceback"] == [next(w for w in ("boom", "odd", "Traceback") if w in f) for f in log.faults]
    assert 5 == log.lines


def test_frames_are_read_wherever_they_are_cut() -> None:
    """Tries to lose or double a server's frame by cutting the bytes anywhere."""
    sent = [(TEXT, b"a"), (TEXT, b"b" * 300), (PONG, b""), (TEXT, b"c" * 70_000), (CLOSE, b"\x03\xf1")]
    # A server's frame is a client's without the mask.
    data = b"".join(unmasked(opcode, payload) for opcode, payload in sent)
    for step in (1, 7, 1000, len(data)):
        frames = Frames()
        pieces = (data[at : at + step] for at in range(0, len(data), step))
        assert sent == [found for piece in pieces for found in frames.feed(piece)]


def unmasked(opcode: int, payload: bytes) -> bytes:
    data = bytearray(frame(opcode, payload))
    head = len(data) - len(payload) - 4
    data[1] &= 0x7F
    return bytes(data[:head] + data[head + 4 :])


@pytest.mark.parametrize(
    ("opcode", "payload", "outcome"),
    [
        (CLOSE, b"\x03\xf1too big", "closed 1009"),
        (CLOSE, b"", "closed 1005"),
        (TEXT, b'{"id":"1","type":"error","payload":{"code":"invalid_json","message":"x"}}', "error invalid_json"),
        (TEXT, b'{"id":"1","type":"unsubscribed","payload":{"topic":"x"}}', "unsubscribed"),
        (TEXT, b'{"id":"1","type":"x","topic":"y","payload":{}}', "event"),
        (TEXT, b"\xff", "?"),
    ],
)
def test_an_answer_has_a_short_name(opcode: int, payload: bytes, outcome: str) -> None:
    """Tries to have an answer of the server's counted as another."""
    assert outcome == outcome_of(opcode, payload)


def test_every_line_of_the_issue_has_its_kind() -> None:
    """Tries to leave out an attack that issue 5 names."""
    assert {
        *("slow-handshakes", "half-closed", "frames-cut-anywhere", "a-terabyte", "long-control", "tiny-fragments"),
        *("pings", "unknown-types", "json-depth", "json-integers", "json-keys", "json-surrogates"),
        *("nul-ids", "sql", "topic-names"),
    } <= set(KINDS)
