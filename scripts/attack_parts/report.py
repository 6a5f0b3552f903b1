"""What a run prints: tables, and the verdict. Promises: what was not measured, and what it was measured on, is said."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table

from attack_parts.account import MIB, PHASES, Account, Latency, judge, p99_ratio
from attack_parts.attackers import NICE

OUTCOMES = 6


def show(console: Console, account: Account) -> None:
    """Print the whole."""
    console.print(_latencies(account))
    for name, arrived in account.arrivals.items():
        if arrived.turned_away:
            away = ", ".join(f"{why} {count}" for why, count in arrived.turned_away.items())
            console.print(f"{name}, honest clients who came and were not let in: {away}", highlight=False)
    console.print(_numbers(account))
    console.print(_kinds(account))
    if account.log.most_frequent:
        events = ", ".join(f"{event} {count:,}" for event, count in account.log.most_frequent.items())
        console.print(
            f"log: {account.log.size_bytes:,} bytes, {account.log.lines:,} lines: {events}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"honest: {account.sent:,} commands, {account.unanswered} unanswered, {sum(account.errors.values())} errors, "
        f"{sum(account.closes.values())} closes, {account.foreign_events:,} events of attackers heard; "
        f"attackers: {account.attackers_cpu_s:.1f} s of CPU at nice {NICE}, on the honest ones' core; honest at 0",
        highlight=False,
        soft_wrap=True,
    )
    faults = judge(account)
    for fault in faults:
        console.print(f"FAILED: {fault}", style="red", highlight=False, soft_wrap=True, markup=False)
    ratio = p99_ratio(account)
    load = os.getloadavg()[0]
    console.print(
        f"{'NOT GOOD' if faults else 'good'}: p99 during the attack is {'?' if ratio is None else f'{ratio:g}'} times "
        f"that before; {account.attack_s:g} s, load average {load:.1f}: shared cores, so expect noise",
        style="red" if faults else "green",
        highlight=False,
        soft_wrap=True,
    )


def _latencies(account: Account) -> Table:
    table = Table(title="honest clients, milliseconds", title_justify="left")
    table.add_column("phase", no_wrap=True)
    for name in (
        "replies",
        "p50",
        "p99",
        "max",
        "deliveries",
        "p50",
        "p99",
        "max",
        "server's core",
        "it waited",
        "honest waited",
    ):
        table.add_column(name, justify="right")
    for name in PHASES:
        phase = account.phases[name]
        spent = (phase.spent.server_cpu_s, phase.spent.server_waited_s, phase.spent.honest_waited_s)
        shares = [f"{seconds / phase.seconds:.0%}" for seconds in spent]
        table.add_row(name, *_cells(phase.replies), *_cells(phase.deliveries), *shares)
    during = account.phases["during"]
    for type_, latency in during.by_command.items():
        table.add_row(f"  during, {type_}", *_cells(latency))
    for name, arrived in account.arrivals.items():
        table.add_row(f"  {name}, until greeted", *_cells(arrived.greeted))
    return table


def _cells(latency: Latency | None) -> list[str]:
    if latency is None:
        return ["0", "", "", ""]
    return [f"{latency.count:,}", f"{latency.p50_ms:.1f}", f"{latency.p99_ms:.1f}", f"{latency.max_ms:.1f}"]


def _numbers(account: Account) -> Table:
    after_s, after = account.after[-1]
    first_s, first = account.after[0]
    table = Table(title="the server", title_justify="left")
    table.add_column("")
    for name in ("before", "most", f"{first_s:.0f} s after", f"{after_s:.0f} s after", "back after"):
        table.add_column(name, justify="right")
    memory = [f"{numbers.memory_bytes / MIB:.1f}" for numbers in (account.before, first, after)]
    table.add_row("memory, MiB", memory[0], f"{account.most_memory_bytes / MIB:.1f}", *memory[1:], "")
    most = {"descriptors": f"{account.most_descriptors:,} of {account.descriptor_limit:,}"}
    for name in ("descriptors", "tasks", "connections", "subscriptions"):
        before: int | None = getattr(account.before, name)
        table.add_row(
            name,
            _or_none(before),
            most.get(name, ""),
            _or_none(getattr(first, name)),
            _or_none(getattr(after, name)),
            "" if before is None else _back_after(account, name),
        )
    return table


def _back_after(account: Account, name: str) -> str:
    """When a number was what it was before, and stayed."""
    since: float | None = None
    for at_s, numbers in account.after:
        is_back = getattr(numbers, name) == getattr(account.before, name)
        since = (at_s if since is None else since) if is_back else None
    return "never" if since is None else f"{since:.1f} s"


def _or_none(number: int | None) -> str:
    return "no gauge" if number is None else f"{number:,}"


def _kinds(account: Account) -> Table:
    table = Table(title="attacks", title_justify="left")
    table.add_column("kind", no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("sent, MB", justify="right")
    table.add_column("outcomes")
    for name, tally in account.kinds.items():
        outcomes = [f"{outcome} {count:,}" for outcome, count in tally.outcomes.most_common(OUTCOMES)]
        if len(tally.outcomes) > OUTCOMES:
            outcomes.append("…")
        table.add_row(name, f"{tally.attempts:,}", f"{tally.sent_bytes / 1e6:.1f}", ", ".join(outcomes))
    return table
