"""The parts of scripts/chaos that decide and remember: plan, mix, journal, and processes that come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio
from chaos_parts.journal import Journal
from chaos_parts.mix import MARK, Mix
from chaos_parts.plan import LASTING_S, Kind, make_plan
from chaos_parts.processes import SCRIPTS, NotRecovered, Tended, until

LIMIT_S = 20.0


def test_same_seed_same_plan() -> None:
    """Tries to get another plan from the same seed in another process, whose sets have another order."""
    program = "from chaos_parts.plan import *; print(make_plan(7, 30, list(Kind)))"
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            cwd=SCRIPTS,
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert said == {f"{make_plan(7, 30, list(Kind))}\n".encode()}
    assert make_plan(7, 30, list(Kind)) != make_plan(8, 30, list(Kind))


@pytest.mark.parametrize("number", [1, 5, 11, 12, 20, 50, 200])
def test_plan_has_its_number_and_every_kind(number: int) -> None:
    """Tries to have a kind left out, or a number of faults other than was asked for."""
    counts = Counter(fault.kind for fault in make_plan(1, number, list(Kind)))
    assert number == counts.total()
    assert min(number, len(Kind)) == len(counts)
    assert {Kind.CUT: number} == Counter(fault.kind for fault in make_plan(1, number, [Kind.CUT, Kind.CUT]))


def test_plan_within_its_bounds() -> None:
    """Tries to find a fault that lasts longer than its kind may, or that hits nobody."""
    for fault in make_plan(3, 200, list(Kind)):
        shortest_s, longest_s = LASTING_S.get(fault.kind, (0.0, 0.0))
        assert shortest_s <= fault.seconds <= longest_s
        assert 0 <= fault.of(3) < 3


def test_mix_is_the_same_in_every_life() -> None:
    """Tries to get another nth command in a second life, or one whose effect does not show whose it is."""
    first, second = Mix(1, "w"), Mix(1, "w")
    seen: Counter[str] = Counter()
    for number in range(300):
        type_, payload = first.command(number)
        assert (type_, payload) == second.command(number)
        seen[type_] += 1
        if type_ not in ("token.delete", "graph.disconnect"):
            assert f"w.{number}" == payload.get("metadata", payload.get("payload", {}))[MARK]
        for mix in (first, second):
            if type_ == "token.create":
                mix.learn("token.created", {"token_id": payload.get("token_id", f"made-{number}"), "version": 1})
    assert 7 == len(seen)


def test_journal_survives_a_torn_line(tmp_path: Path) -> None:
    """Tries to have a life begin wrongly because the last one was killed in the middle of a line."""
    path = tmp_path / "journal"
    journal = Journal.open(path, "w")
    journal.append(send="w.0", type="publish", payload={})
    journal.append(send="w.1", type="publish", payload={})
    journal.append(answer="w.0", type="published", payload={"seq": 1}, replayed=False)
    journal.append(again="w.1")
    journal.close()
    whole = path.read_bytes()
    for torn in (b'{"send":"w.2","ty', b'{"answer":"w.1","type":"published","payload":{},"replayed":false}'):
        path.write_bytes(whole + torn)
        next_life = Journal.open(path, "w")
        assert ["w.1"] == [record.id for record in next_life.unanswered()]
        assert ["w.0", "w.1"] == list(next_life.records)
        assert 2 == next_life.lives
        next_life.append(answer="w.1", type="published", payload={"seq": 2}, replayed=True)
        next_life.close()
        read = Journal.read(path, "w")
        assert [] == read.unanswered()
        assert ([1, 2], 2) == ([record.sent for record in read.records.values()], read.lives)


def state(pid: int) -> str:
    """What the kernel says a process does; T: it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_killed_it_comes_back(tmp_path: Path) -> None:
    """Tries to have a killed process stay away, or its death blamed on itself; and one's own death not be told."""
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = Tended("sleeper", sleeping, os.environ, tmp_path / "log")
    failing = Tended("failing", [sys.executable, "-c", "raise SystemExit('oh no')"], os.environ, tmp_path / "log2")
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(process.run)
            first = process.pid
            process.kill()
            await until(lambda: process.lives == 2, LIMIT_S, lambda: "no second life")
            assert first != process.pid
            assert [] == process.deaths
            process.send(signal.SIGSTOP)  # stopped, it can be ended all the same
            await until(lambda: state(process.pid) == "T", LIMIT_S, lambda: "not stopped")
            with pytest.raises(NotRecovered, match="sleeper did not end within 0.2 s"):
                await process.finish(signal.SIGTERM, 0.2)
            await nursery.start(failing.run)
            await until(lambda: bool(failing.deaths), LIMIT_S, lambda: "no death")
            nursery.cancel_scope.cancel()
    assert "failing ended by itself with 1: oh no" == failing.deaths[0]


def test_dies_with_us(tmp_path: Path) -> None:
    """Tries to leave a process behind by killing who started it."""
    program = """
import os, sys, time
from pathlib import Path
from chaos_parts.processes import start
program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
child = start([sys.executable, "-c", program], os.environ, None)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=SCRIPTS) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        gone = os.pidfd_open(child)
        try:
            parent.kill()

            async def wait() -> None:
                with trio.fail_after(LIMIT_S):
                    await trio.lowlevel.wait_readable(gone)

            trio.run(wait)
        finally:
            os.close(gone)
