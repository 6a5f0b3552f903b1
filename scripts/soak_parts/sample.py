"""What is measured in an interval: of the server from outside and from `/metrics`, of the clients by themselves.

Linux only. What can't be read is None, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.request import urlopen

import attrs
from attack_parts.account import Latency
from attack_parts.server import waited_s
from bench_loads.common import busy_s, cpu_s

ASK_S = 20.0
KIB = 1024
_NUMBER = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
_CLOSED = re.compile(r'ngos_connections_closed_total\{code="(\d+)"\}')


@attrs.frozen
class Memory:
    """What a process has in memory: all; its share of it; what nobody shares; and what is of no file, or in swap.

    The last is what it has made itself: the others change with who else reads the same libraries.
    """

    rss_bytes: int
    pss_bytes: int
    uss_bytes: int
    made_bytes: int


@attrs.frozen(kw_only=True)
class Sample:
    """An interval that ends `at_s` after the load began. Shares are of one core; `…_waited`: ready, without a core.

    `closes` and what else is no rate are counts since the start of the server, or of the load.
    """

    at_s: float
    seconds: float
    memory: Memory
    descriptors: int
    """All of them: the connections to Postgres too, and those of clients that come and go."""
    tasks: int | None
    connections: int | None
    mailbox_bytes: int | None
    commits_per_s: float | None
    commit_ms: float | None
    closes: Mapping[str, int]
    server_cpu: float
    server_waited: float
    readers_cpu: float
    writers_cpu: float
    others_cpu: float
    replies: Latency | None
    deliveries: Latency | None
    late: Latency | None
    """By how much commands were sent after they were due: the part of the latencies that is the load's own."""
    changes_per_s: float
    deliveries_per_s: float
    there: int
    came_back: int
    left_out: int

    def record(self) -> dict[str, Any]:
        return attrs.asdict(self)


@attrs.frozen
class Look:
    """The counts at a moment, of which two make a Sample."""

    at: float
    memory: Memory
    descriptors: int
    metrics: Mapping[str, float]
    server_cpu_s: float
    server_waited_s: float
    busy_s: float
    readers: Mapping[str, Any]
    writers: Mapping[str, Any]

    @classmethod
    def at_server(cls, pid: int, metrics: Mapping[str, float], readers: Any, writers: Any) -> Look | None:
        """Look at the server now; the others have been asked. None: it is gone."""
        try:
            descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            memory, waited = memory_of(pid), waited_s(pid)
        except (OSError, KeyError):  # of one that has just ended, files are empty
            return None
        return cls(monotonic(), memory, descriptors, metrics, cpu_s(pid), waited, busy_s(), readers, writers)


def memory_of(pid: int) -> Memory:
    """Raises OSError or KeyError when it is gone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    unshared, made = kib["Private_Clean"] + kib["Private_Dirty"], kib["Anonymous"] + kib["Swap"]
    return Memory(kib["Rss"] * KIB, kib["Pss"] * KIB, unshared * KIB, made * KIB)


def scrape(port: int) -> dict[str, float]:
    """Every number of `/metrics`, by its name with its labels; none where it does not answer. Blocks."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ASK_S) as response:
            text = response.read().decode()
    except OSError:
        return {}
    return {name: float(number) for name, number in _NUMBER.findall(text)}


def between(before: Look, now: Look, began: float) -> Sample:
    """The interval between two looks."""
    seconds = now.at - before.at

    def per_s(name: str, early: Mapping[str, Any], late: Mapping[str, Any]) -> float | None:
        return round((late[name] - early[name]) / seconds, 3) if name in early and name in late else None

    def sum_per_s(*counts: tuple[str, str]) -> float:
        return sum(per_s(name, getattr(before, who), getattr(now, who)) or 0.0 for who, name in counts)

    commits = per_s("ngos_commits_total", before.metrics, now.metrics)
    commit = per_s("ngos_commit_seconds_sum", before.metrics, now.metrics)
    server_cpu = (now.server_cpu_s - before.server_cpu_s) / seconds
    readers_cpu, writers_cpu = sum_per_s(("readers", "cpu_s")), sum_per_s(("writers", "cpu_s"))
    busy = (now.busy_s - before.busy_s) / seconds
    return Sample(
        at_s=round(now.at - began, 1),
        seconds=round(seconds, 2),
        memory=now.memory,
        descriptors=now.descriptors,
        tasks=_whole(now.metrics, "ngos_trio_tasks"),
        connections=_whole(now.metrics, "ngos_connections"),
        mailbox_bytes=_whole(now.metrics, "ngos_mailbox_bytes"),
        commits_per_s=commits,
        commit_ms=round(commit / commits * 1000, 2) if commit is not None and commits else None,
        closes=closes(now.metrics),
        server_cpu=round(server_cpu, 3),
        server_waited=round((now.server_waited_s - before.server_waited_s) / seconds, 3),
        readers_cpu=readers_cpu,
        writers_cpu=writers_cpu,
        others_cpu=round(max(0.0, busy - server_cpu - readers_cpu - writers_cpu), 3),
        replies=_latency(now.writers, "replies"),
        deliveries=_latency(now.writers, "deliveries"),
        late=_latency(now.writers, "late"),
        changes_per_s=sum_per_s(("writers", "answered")),
        deliveries_per_s=round(sum_per_s(("readers", "events"), ("writers", "decoded")), 1),
        there=now.readers["there"] + now.writers["there"],
        came_back=now.readers["came_back"] + now.writers["came_back"],
        left_out=now.writers["left_out"],
    )


def closes(metrics: Mapping[str, float]) -> dict[str, int]:
    """How many connections the server has seen end, by close code."""
    found = ((_CLOSED.match(name), number) for name, number in metrics.items())
    return {match[1]: int(number) for match, number in found if match and number}


def _whole(metrics: Mapping[str, float], name: str) -> int | None:
    return int(metrics[name]) if name in metrics else None


def _latency(counts: Mapping[str, Any], name: str) -> Latency | None:
    return None if counts.get(name) is None else Latency(**counts[name])
