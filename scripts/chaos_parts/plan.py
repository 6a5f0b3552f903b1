"""Which faults, in which order, with which parameters: all of it decided by the seed, before anything runs.

Promises: the same seed, number and kinds give the same plan; every kind that was asked for is in it, as far as the
number reaches. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from random import Random

import attrs


class Kind(Enum):
    """What can go wrong. The value is the name on the command line."""

    KILL_SERVER = "kill-server"
    STOP_SERVER = "stop-server"
    KILL_POSTGRES = "kill-postgres"
    KILL_WRITER = "kill-writer"
    KILL_WATCHER = "kill-watcher"
    STOP_BACKEND = "stop-backend"
    STOP_WATCHER = "stop-watcher"
    DELAY = "delay"
    STALL = "stall"
    RESET = "reset"
    CUT = "cut"
    DISK_FULL = "disk-full"
    KILL_REDIS = "kill-redis"
    STOP_REDIS = "stop-redis"
    SLEEP_REDIS = "sleep-redis"
    FLUSH_REDIS = "flush-redis"
    FILL_REDIS = "fill-redis"


OF_REDIS = frozenset({Kind.KILL_REDIS, Kind.STOP_REDIS, Kind.SLEEP_REDIS, Kind.FLUSH_REDIS, Kind.FILL_REDIS})
"""Of these clients may notice nothing but latency."""

SHARES = {
    Kind.KILL_SERVER: 7,
    Kind.STOP_SERVER: 4,
    Kind.KILL_POSTGRES: 6,
    Kind.KILL_WRITER: 4,
    Kind.KILL_WATCHER: 4,
    Kind.STOP_BACKEND: 5,
    Kind.STOP_WATCHER: 2,
    Kind.DELAY: 2,
    Kind.STALL: 3,
    Kind.RESET: 4,
    Kind.CUT: 6,
    Kind.DISK_FULL: 3,
    Kind.KILL_REDIS: 4,
    Kind.STOP_REDIS: 2,
    Kind.SLEEP_REDIS: 2,
    Kind.FLUSH_REDIS: 2,
    Kind.FILL_REDIS: 2,
}

# Seconds that a fault lasts, from and to. Kinds that are not here are over at once.
LASTING_S = {
    Kind.STOP_SERVER: (0.5, 6.0),
    Kind.STOP_BACKEND: (1.5, 3.0),
    Kind.STOP_WATCHER: (8.0, 12.0),
    Kind.DELAY: (1.0, 2.5),
    Kind.STALL: (0.5, 6.0),
    Kind.RESET: (0.0, 1.5),
    Kind.CUT: (0.0, 1.0),
    Kind.DISK_FULL: (2.0, 4.0),
    Kind.KILL_REDIS: (0.0, 6.0),
    Kind.STOP_REDIS: (0.5, 8.0),
    Kind.SLEEP_REDIS: (0.5, 8.0),
    Kind.FILL_REDIS: (1.0, 3.0),
}
QUIET_S = (0.3, 1.5)


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    `after_s`: seconds after the recovery from the one before. `seconds`: how long it lasts. `pick`, 0 to 1: which of
    several. `salt`: seed of what the fault itself leaves to chance.
    """

    kind: Kind
    after_s: float
    seconds: float
    pick: float
    salt: int

    def of(self, number: int) -> int:
        """Which of so many."""
        return int(self.pick * number)


def make_plan(
    seed: int, number: int, kinds: Sequence[Kind], *, lasting_s: float | None = None, quiet_s: float = 0.0
) -> list[Fault]:
    """So many faults of these kinds, in shares, shuffled.

    `lasting_s`: how long each lasts that is not over at once, in place of what its kind says. `quiet_s`: that much
    longer is waited before each.
    """
    rng = Random(f"plan {seed}")
    drawn = [kind for kind, count in _counts(number, kinds).items() for _ in range(count)]
    rng.shuffle(drawn)
    return [_fault(kind, rng, lasting_s, quiet_s) for kind in drawn]


def _counts(number: int, kinds: Sequence[Kind]) -> dict[Kind, int]:
    """Shares of the number by the largest remainder; at least one each where the number reaches."""
    kinds = sorted(set(kinds), key=lambda kind: (-SHARES[kind], kind.value))  # a set has another order each time
    counts = dict.fromkeys(kinds[:number], 1)
    total = sum(SHARES[kind] for kind in kinds)
    while (left := number - sum(counts.values())) > 0:
        owed = {kind: number * SHARES[kind] / total - counts[kind] for kind in kinds}
        for kind in sorted(kinds, key=lambda kind: -owed[kind])[:left]:
            if owed[kind] > 0:
                counts[kind] += 1
    return counts


def _fault(kind: Kind, rng: Random, lasting_s: float | None, quiet_s: float) -> Fault:
    bounds_s = LASTING_S.get(kind, (0.0, 0.0))
    if lasting_s is not None and kind in LASTING_S:
        bounds_s = (lasting_s, lasting_s)
    return Fault(
        kind=kind,
        after_s=round(quiet_s + rng.uniform(*QUIET_S), 2),
        seconds=round(rng.uniform(*bounds_s), 2),
        pick=rng.random(),
        salt=rng.getrandbits(32),
    )
