"""What comes out: a line per fault, tables, and a record for programs.

Promises: the verdict is good only if every count that must be zero is; what was left out is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from chaos_parts.account import KINDS, Account
from chaos_parts.faults import Done
from chaos_parts.latency import Phase, Spread
from chaos_parts.plan import Fault, Kind

EXAMPLES = 5


@attrs.frozen
class Hit:
    """A fault that was committed. `recovery_s` is None where it did not recover.

    `begun_at`, `over_at`: seconds of the journals' clock.
    """

    fault: Fault
    done: Done
    recovery_s: float | None
    begun_at: float
    over_at: float


@attrs.define
class Outcome:
    """Everything that a run came to."""

    seed: int
    planned: list[Fault]
    nodes: int = 1
    backplane: str = "none"
    left_out: list[Kind] = attrs.field(factory=list)
    hits: list[Hit] = attrs.field(factory=list)
    account: Account | None = None
    verified: dict[str, Any] | None = None
    verify_code: int | None = None
    phases: list[Phase] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    """What did not happen within its deadline, who died by himself, what the server logged as a defect."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether all is as promised."""
        accounted = self.account is not None and self.account.good
        return accounted and self.verify_code == 0 and not self.failures

    def record(self) -> dict[str, Any]:
        """The run as JSON."""
        return {
            "good": self.good,
            "seed": self.seed,
            "nodes": self.nodes,
            "backplane": self.backplane,
            "seconds": round(self.seconds, 1),
            "left_out": [kind.value for kind in self.left_out],
            "plan": [_plain(fault) for fault in self.planned],
            "hits": [
                _plain(hit.fault) | {"detail": hit.done.detail, "recovery_s": hit.recovery_s} for hit in self.hits
            ],
            "recovery": dict(recoveries(self.hits)),
            "latency": [phase.plain() for phase in self.phases],
            "account": None if self.account is None else attrs.asdict(self.account),
            "verify": self.verified,
            "verify_exit_code": self.verify_code,
            "failures": self.failures,
        }


def _plain(fault: Fault) -> dict[str, Any]:
    return attrs.asdict(fault) | {"kind": fault.kind.value}


def recoveries(hits: Sequence[Hit]) -> Iterable[tuple[str, dict[str, float]]]:
    """Count, median and worst recovery by kind, in the order of the kinds."""
    for kind in Kind:
        seconds = [hit.recovery_s for hit in hits if hit.fault.kind == kind and hit.recovery_s is not None]
        if seconds:
            yield kind.value, {"count": len(seconds), "median_s": median(seconds), "worst_s": max(seconds)}


def hit_line(number: int, of: int, hit: Hit, at_s: float) -> str:
    """One fault, when it is over."""
    recovered = "DID NOT RECOVER" if hit.recovery_s is None else f"works again after {hit.recovery_s:6.3f} s"
    return f"{at_s:7.1f} s  {number:3}/{of}  {hit.fault.kind.value:14} {recovered}   {hit.done.detail}"


def show(console: Console, outcome: Outcome) -> None:
    """Print the whole."""
    if outcome.left_out:
        kinds = ", ".join(kind.value for kind in outcome.left_out)
        console.print(f"left out: {kinds} (a full disk needs root and leave to mount)", style="yellow")
    table = Table(title="recovery, seconds", title_justify="left")
    for name in ("fault", "count", "median", "worst"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for name, numbers in recoveries(outcome.hits):
        table.add_row(name, str(numbers["count"]), f"{numbers['median_s']:.3f}", f"{numbers['worst_s']:.3f}")
    console.print(table)
    if outcome.phases:
        _show_phases(console, outcome.phases)
    if outcome.account is not None:
        _show_account(console, outcome.account)
    if outcome.verified is not None:
        _show_verified(console, outcome.verified)
    for failure, times in Counter(outcome.failures).items():
        text = f"FAILED: {failure}" + (f" ({times} times)" if times > 1 else "")
        console.print(text, style="red", highlight=False, soft_wrap=True)
    verdict = "all zeros" if outcome.good else "NOT GOOD"
    style = "green" if outcome.good else "red"
    faults = f"{len(outcome.hits)} fault{'' if len(outcome.hits) == 1 else 's'}"
    nodes = f"{outcome.nodes} nodes ({outcome.backplane}), " if outcome.nodes > 1 else ""
    console.print(f"{verdict}: seed {outcome.seed}, {nodes}{faults}, {outcome.seconds:.0f} s", style=style)


def _show_phases(console: Console, phases: Sequence[Phase]) -> None:
    """Latencies around each fault."""
    table = Table(title="latency, milliseconds: commands; events from the reply to another node", title_justify="left")
    for name in ("fault", "", "s", "commands", "p50", "p99", "max", "events", "p50", "p99", "max", "troubles"):
        table.add_column(name, justify="left" if name in ("fault", "", "troubles") else "right")
    for phase in phases:
        fault = f"{phase.kind} {phase.detail}" if phase.name == "before" else ""
        troubles = ", ".join(f"{why} {count}" for why, count in phase.troubles.items())
        numbers = [*_cells(phase.commands), *_cells(phase.deliveries)]
        style = "red" if troubles else None
        table.add_row(fault, phase.name, f"{phase.seconds:.1f}", *numbers, troubles or "none", style=style)
    console.print(table)


def _cells(spread: Spread) -> list[str]:
    numbers = (spread.p50_ms, spread.p99_ms, spread.max_ms)
    return [f"{spread.count:,}", *("" if number is None else f"{number:,.1f}" for number in numbers)]


def _show_verified(console: Console, verified: dict[str, Any]) -> None:
    for check in verified["checks"]:
        found = check["faults"]
        text = f"{found:8,}  faults that ngos verify found in {check['name']}: {check['looked_at']:,} {check['unit']}"
        console.print(text, style="red" if found else None, highlight=False)
        for first in check["first"][:EXAMPLES]:
            console.print(f"            {first}", style="red", highlight=False, soft_wrap=True)


def _show_account(console: Console, account: Account) -> None:
    console.print(
        f"commands {account.commands:,}, answered {account.answered:,} (refused {account.refused:,}); "
        f"sent {account.sent:,} times: {account.resent:,} again, {account.replayed:,} replies replayed; "
        f"events in the log {account.events:,}; lives of writers {account.lives}",
        highlight=False,
        soft_wrap=True,
    )
    troubles = ", ".join(f"{why} {count}" for why, count in account.troubles.most_common())
    console.print(f"instead of an answer: {troubles or 'nothing'}", highlight=False, soft_wrap=True)
    for kind, meaning in KINDS.items():
        found = account.findings[kind]
        console.print(f"{len(found):8,}  {meaning}", style="red" if found else None, highlight=False)
        for text in found[:EXAMPLES]:
            console.print(f"            {text}", style="red", highlight=False, soft_wrap=True)
