"""What a verification found, for people and for programs. Imports nothing of ngos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field, frozen
from rich.console import Console
from rich.text import Text

FIRST: Final = 10
"""Faults of a check that are spelt out; all are counted."""


@define
class Check:
    """One check's outcome, while it is made and after.

    `looked_at` counts what was checked, in `unit`; `unchecked` what could not be, as its event was pruned or its topic
    keeps none. `faults` counts them all, `first` tells of the first ones. `remarks` are no faults.
    """

    name: str
    unit: str
    looked_at: int = 0
    unchecked: int = 0
    faults: int = 0
    first: list[str] = field(factory=list)
    remarks: list[str] = field(factory=list)

    def fault(self, text: str, count: int = 1) -> None:
        """Count `count` faults that one text tells of."""
        self.faults += count
        if len(self.first) < FIRST:
            self.first.append(_one_line(text))

    def remark(self, text: str) -> None:
        if len(self.remarks) < FIRST:
            self.remarks.append(_one_line(text))


@frozen
class Report:
    """All checks, and the positions of the durable topics in the snapshot that they were made on."""

    checks: tuple[Check, ...]
    topics: dict[str, dict[str, Any]]

    @property
    def faults(self) -> int:
        return sum(check.faults for check in self.checks)

    @property
    def sound(self) -> bool:
        return self.faults == 0

    def to_json(self) -> dict[str, Any]:
        """The report as `ngos verify --json` prints it.

        - `sound`: true where there is no fault
        - `faults`: how many there are, of all checks
        - `topics`: of each durable topic in the database `epoch`, `seq` and `pruned`, at the snapshot
        - `checks`: a list, in the order of the checks: numbers, changes, trajectories, replies, identity, and
          journals where there were any; each with
            - `name`, `unit`: what was checked, and what `looked_at` counts
            - `looked_at`, `unchecked`, `faults`: numbers
            - `first`: the first ten faults, a text each
            - `remarks`: texts of what is no fault
        """
        names = ("name", "unit", "looked_at", "unchecked", "faults", "first", "remarks")
        checks = [{name: getattr(check, name) for name in names} for check in self.checks]
        return {"sound": self.sound, "faults": self.faults, "topics": self.topics, "checks": checks}

    def print(self, console: Console) -> None:
        """Print it for people: a line for each check, then what was found."""
        for line in self._lines():
            console.print(line, soft_wrap=True, highlight=False)

    def _lines(self) -> Iterator[Text]:
        for check in self.checks:
            sound = check.faults == 0
            line = Text("sound   " if sound else "FAULTY  ", style="green" if sound else "bold red")
            line.append(f"{check.name:13}", style="bold").append(
                f"{check.looked_at:>12,} {check.unit}", style="default"
            )
            if check.unchecked:
                line.append(f", {check.unchecked:,} could not be checked", style="default")
            if not sound:
                line.append(f", {_faults(check.faults)}", style="red")
            yield line
        for check in self.checks:
            for text in check.first:
                yield Text(f"  {check.name}: {text}")
            if check.faults > len(check.first) == FIRST:
                yield Text(f"  {check.name}: … {_faults(check.faults)} in all")
        for check in self.checks:
            for text in check.remarks:
                yield Text(f"  remark: {text}", style="dim")
        yield (
            Text("nothing lost, nothing twice", style="bold green")
            if self.sound
            else Text(_faults(self.faults), style="bold red")
        )


def _faults(count: int) -> str:
    return f"{count:,} fault{'' if count == 1 else 's'}"


def _one_line(text: str) -> str:
    """What is in a database or a file could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{MIDDLE DOT}" for c in text)[:1000]
