"""All attackers, in a process of their own: `python -m attack_parts.attackers`.

Promises: ends by itself when the time is over, also by the clock if it was stopped meanwhile; every kind has the same
number of tasks, but for one; writes its tallies to a file. A low priority: on a machine of two cores, who measures
must not wait for who attacks. Runs on Trio.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from random import Random

import orjson
import trio

from attack_parts.attacker import Attacker
from attack_parts.kinds import KINDS, Attack
from attack_parts.priority import lower_priority
from attack_parts.tally import Tally
from attack_parts.wire import Target, failure_of

NICE = 5
PAUSE_S = 0.1
"""After a connection that could not even be made, so that a loop is no loop of our own errors."""


async def attack(target: Target, names: list[str], tasks: int, seconds: float, seed: int) -> dict[str, Tally]:
    """Do all kinds at once; `tasks` are shared among them, each has one at least."""
    tallies = {name: Tally() for name in names}
    tasks = max(tasks, len(names))
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                name = names[number % len(names)]
                attacker = Attacker(target, Random(f"{seed}/{name}/{number}"), tallies[name])
                nursery.start_soon(_again_and_again, KINDS[name], attacker)
    return tallies


async def _again_and_again(kind: Attack, attacker: Attacker) -> None:
    while True:
        try:
            await kind(attacker)
        except trio.BrokenResourceError as exc:
            attacker.tally.got(failure_of(exc))
        except OSError as exc:
            attacker.tally.got(failure_of(exc))
            await trio.sleep(PAUSE_S)
        await trio.lowlevel.checkpoint()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", nargs="+", default=list(KINDS))
    parser.add_argument("--token", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    lower_priority(NICE)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    headers = {"Authorization": f"Bearer {given.token.read_text().strip()}"} if given.token else {}
    target = Target(given.port, given.source, headers=headers)
    tallies = trio.run(attack, target, given.only, given.tasks, given.seconds, given.seed)
    record = {"kinds": {name: tally.record() for name, tally in tallies.items()}, "cpu_s": time.process_time()}
    # As a whole or not at all: who waits for it may look in between.
    made = given.report.with_suffix(".part")
    made.write_bytes(orjson.dumps(record))
    made.replace(given.report)


if __name__ == "__main__":
    main()
