"""What a run prints: a line now and then, the tables, and the verdicts. Promises: what was not judged is said."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
    return (
        f"{sample.at_s / 60:5.1f} min  RSS {sample.memory.rss_bytes / MIB:.1f} USS {sample.memory.uss_bytes / MIB:.1f} "
        f"MiB  {sample.descriptors} files {_whole(sample.tasks)} tasks  replies {_short(sample.replies)} "
        f"deliveries {_short(sample.deliveries)} ms  {sample.changes_per_s:.0f} changes "
        f"{sample.deliveries_per_s:,.0f} deliveries/s  cores: server {sample.server_cpu:.0%} readers "
        f"{sample.readers_cpu:.0%} writers {sample.writers_cpu:.0%} others {sample.others_cpu:.0%}  "
        f"{sample.came_back} came back"
    )


def show(console: Console, account: Account) -> None:
    """Print the whole."""
    console.print(_table(account))
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


def _table(account: Account) -> Table:
    table = Table(
        title="means over each tenth of the run, the max over all of it; latencies in ms", title_justify="left"
    )
    names = ("min", "RSS MiB", "USS MiB", "files", "tasks", "replies p50/p99/max", "deliveries p50/p99/max")
    names += ("sent late p99", "commits/s", "ms each", "mailboxes kB", "changes/s", "deliveries/s")
    names += ("server", "it waited", "readers", "writers", "others")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    samples = account.samples
    count = min(PERIODS, len(samples))
    for number in range(count):
        table.add_row(*_row(samples[number * len(samples) // count : (number + 1) * len(samples) // count]))
    return table


def _row(samples: Sequence[Sample]) -> list[str]:
    return [
        f"{samples[-1].at_s / 60:.1f}",
        _mean(samples, lambda s: s.memory.rss_bytes / MIB, ".1f"),
        _mean(samples, lambda s: s.memory.uss_bytes / MIB, ".1f"),
        _mean(samples, lambda s: s.descriptors, ".0f"),
        _mean(samples, lambda s: s.tasks, ",.0f"),
        _worst([s.replies for s in samples]),
        _worst([s.deliveries for s in samples]),
        _mean(samples, lambda s: s.late and s.late.p99_ms, ".1f"),
        _mean(samples, lambda s: s.commits_per_s, ".0f"),
        _mean(samples, lambda s: s.commit_ms, ".1f"),
        _mean(samples, lambda s: None if s.mailbox_bytes is None else s.mailbox_bytes / 1000, ".1f"),
        _mean(samples, lambda s: s.changes_per_s, ".0f"),
        _mean(samples, lambda s: s.deliveries_per_s, ",.0f"),
        _mean(samples, lambda s: s.server_cpu, ".0%"),
        _mean(samples, lambda s: s.server_waited, ".0%"),
        _mean(samples, lambda s: s.readers_cpu, ".0%"),
        _mean(samples, lambda s: s.writers_cpu, ".0%"),
        _mean(samples, lambda s: s.others_cpu, ".0%"),
    ]


def _mean(samples: Sequence[Sample], number: object, style: str) -> str:
    assert callable(number)
    known = [value for sample in samples if (value := number(sample)) is not None]
    return format(fmean(known), style) if known else ""


def _worst(latencies: Sequence[Latency | None]) -> str:
    known = [latency for latency in latencies if latency is not None]
    if not known:
        return ""
    p50, p99 = fmean(latency.p50_ms for latency in known), fmean(latency.p99_ms for latency in known)
    return f"{p50:.1f}/{p99:.1f}/{max(latency.max_ms for latency in known):.0f}"


def _short(latency: Latency | None) -> str:
    return "none" if latency is None else f"{latency.p50_ms:.1f}/{latency.p99_ms:.1f}/{latency.max_ms:.0f}"


def _whole(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
