"""What a run prints: a line now and then, the tables, and the verdicts. Promises: what was not judged is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from attack_parts.account import Latency
from rich.console import Console
from rich.table import Table

from soak_parts.account import MIB, Account, State, judge
from soak_parts.sample import Sample

PERIODS = 10
BUSY = 0.95
STYLES = {State.GOOD: "green", State.FAILED: "red", State.NOT_JUDGED: "yellow"}


def line(sample: Sample) -> str:
    """An interval, as it ends."""
    return "  ".join(
        (
            f"{sample.at_s / 60:5.1f} min",
            f"RSS {sample.memory.rss_bytes / MIB:.1f} anonymous {sample.memory.made_bytes / MIB:.1f} MiB",
            f"{sample.descriptors} files {_whole(sample.tasks)} tasks",
            f"replies {_short(sample.replies)} deliveries {_short(sample.deliveries)} ms",
            f"{sample.changes_per_s:.0f} changes {sample.deliveries_per_s:,.0f} deliveries/s",
            f"cores: server {sample.server_cpu:.0%} readers {sample.readers_cpu:.0%} writers {sample.writers_cpu:.0%}",
            f"others {sample.others_cpu:.0%}",
            f"{sample.came_back} came back",
        )
    )


def show(console: Console, account: Account) -> None:
    """Print the whole."""
    console.print(_table("the server", SERVER, account.samples))
    console.print(_table("the load; p50 / p99, means of the intervals' / max", LOAD, account.samples))
    ended = ", ".join(f"{why} {n}" for who in (account.readers, account.writers) for why, n in who["ended"].items())
    codes = ", ".join(f"{code}: {count:,}" for code, count in account.closes.items())
    console.print(
        f"clients left and came back {account.readers['came_back'] + account.writers['came_back']:,} times, and "
        f"{account.readers['resumed'] + account.writers['resumed']:,} times went on where they were; ended by the "
        f"server: {ended or 'none'}; the server's closes: {codes or 'none'}",
        highlight=False,
        soft_wrap=True,
    )
    _say_bounds(console, account.samples)
    verdicts = judge(account)
    for verdict in verdicts:
        text = f"{verdict.state.value:>10}  {verdict.about}: {verdict.text}"
        console.print(text, style=STYLES[verdict.state], highlight=False, soft_wrap=True, markup=False)
    failed = any(verdict.state is State.FAILED for verdict in verdicts)
    minutes = account.samples[-1].at_s / 60 if account.samples else 0.0
    cut = f", interrupted, of {account.minutes:g}" if account.interrupted else ""
    console.print(
        f"{'NOT GOOD' if failed else 'good'}: {minutes:.1f} min{cut}, {account.clients} clients, "
        f"{account.changes_per_s:g} changes/s, seed {account.seed}; load average {os.getloadavg()[0]:.1f}",
        style="red" if failed else "green",
        highlight=False,
        soft_wrap=True,
    )


def _say_bounds(console: Console, samples: Sequence[Sample]) -> None:
    """Say where it was the load that was measured."""
    busy = sum(sample.readers_cpu + sample.writers_cpu > BUSY for sample in samples)
    if busy:
        text = f"in {busy} of {len(samples)} intervals the clients' own core was full: there, latencies are theirs"
        console.print(text, style="yellow", highlight=False, soft_wrap=True)


def _table(title: str, columns: Mapping[str, Callable[[Sequence[Sample]], str]], samples: Sequence[Sample]) -> Table:
    """A row for each tenth of the run."""
    table = Table(title=f"{title}; each line a tenth of the run", title_justify="left")
    for name in ("min", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    count = min(PERIODS, len(samples))
    for number in range(count):
        some = samples[number * len(samples) // count : (number + 1) * len(samples) // count]
        table.add_row(f"{some[-1].at_s / 60:.1f}", *(column(some) for column in columns.values()))
    return table


def _mean(number: Callable[[Sample], float | None], style: str) -> Callable[[Sequence[Sample]], str]:
    def show_mean(samples: Sequence[Sample]) -> str:
        known = [value for sample in samples if (value := number(sample)) is not None]
        return format(fmean(known), style) if known else ""

    return show_mean


def _latencies(latency: Callable[[Sample], Latency | None]) -> Callable[[Sequence[Sample]], str]:
    def show_latencies(samples: Sequence[Sample]) -> str:
        known = [found for sample in samples if (found := latency(sample)) is not None]
        if not known:
            return ""
        p50, p99 = fmean(found.p50_ms for found in known), fmean(found.p99_ms for found in known)
        return f"{p50:.1f} / {p99:.1f} / {max(found.max_ms for found in known):.0f}"

    return show_latencies


SERVER: Mapping[str, Callable[[Sequence[Sample]], str]] = {
    "RSS MiB": _mean(lambda s: s.memory.rss_bytes / MIB, ".1f"),
    "USS": _mean(lambda s: s.memory.uss_bytes / MIB, ".1f"),
    "anonymous": _mean(lambda s: s.memory.made_bytes / MIB, ".1f"),
    "files": _mean(lambda s: s.descriptors, ".0f"),
    "tasks": _mean(lambda s: s.tasks, ",.0f"),
    "mailboxes kB": _mean(lambda s: None if s.mailbox_bytes is None else s.mailbox_bytes / 1000, ".1f"),
    "commits/s": _mean(lambda s: s.commits_per_s, ".0f"),
    "ms each": _mean(lambda s: s.commit_ms, ".1f"),
    "core": _mean(lambda s: s.server_cpu, ".0%"),
    "waited for it": _mean(lambda s: s.server_waited, ".0%"),
}
LOAD: Mapping[str, Callable[[Sequence[Sample]], str]] = {
    "changes/s": _mean(lambda s: s.changes_per_s, ".0f"),
    "deliveries/s": _mean(lambda s: s.deliveries_per_s, ",.0f"),
    "replies, ms": _latencies(lambda s: s.replies),
    "deliveries, ms": _latencies(lambda s: s.deliveries),
    "sent late, ms": _latencies(lambda s: s.late),
    "readers' core": _mean(lambda s: s.readers_cpu, ".0%"),
    "writers'": _mean(lambda s: s.writers_cpu, ".0%"),
    "all others": _mean(lambda s: s.others_cpu, ".0%"),
}


def _short(latency: Latency | None) -> str:
    return "none" if latency is None else f"{latency.p50_ms:.1f}/{latency.p99_ms:.1f}/{latency.max_ms:.0f}"


def _whole(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
