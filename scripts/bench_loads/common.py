"""What all loads share: their arguments, how a run fails, CPU and memory as the kernel counts them, and `main`.

Promises: `pause` raises as soon as any client has failed, and only the first reason is told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter

import attrs
import orjson
import uvloop
from picows import WSError

DRAIN_S = 15.0

Numbers = dict[str, float]


class LoadError(Exception):
    """The numbers can't be trusted, or there are none; the text says why."""


class Run:
    """What all clients of a load share: whether they send, whether it counts, and how it ended."""

    def __init__(self) -> None:
        self.sending = True
        self.counting = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        """End the run; only the first reason is told."""
        if not self.failed.done():
            self.failed.set_exception(LoadError(why))

    async def pause(self, seconds: float) -> None:
        """Let the clients work; raises as soon as one fails."""
        done, _ = await asyncio.wait([self.failed], timeout=seconds)
        for future in done:
            future.result()

    async def until(self, condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
        """Wait for a condition, looking often; raises LoadError when it does not come."""
        deadline = perf_counter() + seconds
        while not condition():
            if perf_counter() > deadline:
                raise LoadError(f"{why()} within {seconds:g} s")
            await self.pause(0.005)


@attrs.frozen
class Window:
    """The time that counted: how long it was, how much was counted in it, what share of a core each side used."""

    seconds: float
    counted: float
    nodes_cpu: Sequence[float]  # of each node of the server, with the processes below it
    load_cpu: float
    postgres_cpu: float  # of what works in the server's database
    others_cpu: float  # cores that all else was busy on: Postgres, and whatever disturbs
    processes: int  # that serve: of a node that has started others, these

    def numbers(self) -> Numbers:
        return {
            "per_s": self.counted / self.seconds,
            "counted": self.counted,
            "server_cpu": sum(self.nodes_cpu),
            "load_cpu": self.load_cpu,
            "postgres_cpu": self.postgres_cpu,
            "others_cpu": self.others_cpu,
            "processes": self.processes,
            **{f"node_{number}_cpu": cpu for number, cpu in enumerate(self.nodes_cpu, 1)},
        }


async def count(
    run: Run,
    arguments: argparse.Namespace,
    counter: Callable[[], float],
    during: Callable[[], Awaitable[None]] | None = None,
) -> Window:
    """Warm up, see by how much the counter grows in `seconds` (or during what is given), then let nothing be sent."""
    pids = [arguments.server_pid, *arguments.other_server_pid]

    def look() -> list[float]:
        nodes = (sum(map(cpu_s, [pid, *below(pid)])) for pid in pids)
        return [perf_counter(), counter(), own_cpu_s(), busy_s(), postgres_cpu_s(arguments.database), *nodes]

    await run.pause(arguments.warm_up)
    run.counting = True
    before = look()
    await (run.pause(arguments.seconds) if during is None else during())
    after = look()
    run.counting = run.sending = False
    seconds, counted, own, busy, postgres, *nodes = (late - early for early, late in zip(before, after, strict=True))
    others = max(0.0, busy - sum(nodes) - own)
    return Window(
        seconds=seconds,
        counted=counted,
        nodes_cpu=[node / seconds for node in nodes],
        load_cpu=own / seconds,
        postgres_cpu=postgres / seconds,
        others_cpu=others / seconds,
        processes=sum(max(1, len(below(pid))) for pid in pids),
    )


def below(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have; none where there is no /proc."""
    pids = [pid]
    for each in pids:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has just ended
    return pids[1:]


def rss_kb(pid: int) -> int:
    """Resident and swapped memory of a process and all below it, in kB; raises LoadError where there is no /proc."""
    total_kb = 0
    try:
        for each in (pid, *below(pid)):
            status = Path(f"/proc/{each}/status").read_text()
            total_kb += sum(map(int, re.findall(r"^Vm(?:RSS|Swap):\s+(\d+) kB$", status, re.MULTILINE)))
    except OSError as exc:
        raise LoadError(f"the server's memory can't be read: {exc}") from None
    return total_kb


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, its threads included; 0.0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def postgres_cpu_s(database: str) -> float:
    """CPU seconds that the processes of Postgres have used which work in a database; 0.0 where they can't be seen."""
    if not database:
        return 0.0
    total_s = 0.0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name = (path / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if name.startswith(b"postgres: ") and b" %b " % database.encode() in name:
            total_s += cpu_s(int(path.name))
    return total_s


def busy_s() -> float:
    """CPU seconds that all cores have been busy, with anything; 0.0 where there is no /proc."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of all are at most; 0.0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def latencies(values_ms: Sequence[float]) -> Numbers:
    """Median, 99th percentile and maximum."""
    ordered = sorted(values_ms)
    return {f"{name}_ms": quantile(ordered, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def main(
    about: str | None,
    load: Callable[[argparse.Namespace], Awaitable[Numbers]],
    options: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Read the arguments, run the load on uvloop, print its numbers."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--url", required=True, help="the server, as ws://HOST:PORT")
    parser.add_argument("--server-pid", type=int, required=True, help="whose CPU time and memory to report")
    parser.add_argument("--other-url", action="append", default=[], help="another node of it")
    parser.add_argument("--other-server-pid", type=int, action="append", default=[], help="the same of that one")
    parser.add_argument("--database", default="", help="the name of its database, whose CPU time to report")
    parser.add_argument("--dialect", required=True, help="what the server speaks: ngos, plain or nats")
    parser.add_argument("--warm-up", type=float, required=True, help="seconds before counting")
    parser.add_argument("--seconds", type=float, required=True, help="seconds to count for")
    options(parser)
    arguments = parser.parse_args()

    finish(lambda: load(arguments))


def finish(work: Callable[[], Awaitable[object]]) -> None:
    """Run it on uvloop, print what it returns as JSON, attrs classes too; one line and an exit code where it fails."""

    async def whole() -> object:
        return await work()

    # The bench ends a load with SIGTERM; what the load has started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        result = uvloop.run(whole())
    except (OSError, LoadError, WSError) as exc:
        sys.exit(str(exc) or repr(exc))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.stdout.buffer.write(orjson.dumps(result, default=attrs.asdict))
