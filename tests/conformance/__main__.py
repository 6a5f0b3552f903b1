"""The suite as a table in Markdown, scenario by actor: `python -m tests.conformance`; arguments go to pytest.

Exit code 0 where no scenario failed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.conformance.actors import ALL

WORDS = {"failed": "**fail**", "skipped": "not run", "passed": "pass", "": "n/a"}
WORST = ("failed", "skipped", "passed")


class Table:
    """What became of each scenario with each actor: the worst of its variants; a reason for each that did not run."""

    def __init__(self) -> None:
        self.sentences: dict[str, str] = {}
        self.outcomes: dict[str, dict[str, set[str]]] = {}
        self.reasons: dict[str, set[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            name = f"{Path(item.path).stem}.{item.originalname}"  # type: ignore[attr-defined]
            sentence = " ".join((item.function.__doc__ or name).split())  # type: ignore[attr-defined]
            self.sentences[item.nodeid] = name
            self.outcomes.setdefault(name, {})["sentence"] = {sentence}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        actor = next((kind for kind in ALL if re.search(rf"[\[-]{kind}[\]-]", report.nodeid)), None)
        if actor is None or (report.passed and report.when != "call"):
            return
        self.outcomes[self.sentences[report.nodeid]].setdefault(actor, set()).add(report.outcome)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.reasons.setdefault(actor, set()).add(report.longrepr[2].removeprefix("Skipped: "))

    def print(self) -> None:
        print(f"\n| scenario | {' | '.join(ALL)} |")
        print("|---|" + "---|" * len(ALL))
        for cells in self.outcomes.values():
            (sentence,) = cells["sentence"]
            words = [WORDS[next((worst for worst in WORST if worst in cells.get(kind, ())), "")] for kind in ALL]
            print(f"| {sentence.replace('|', '/')} | {' | '.join(words)} |")
        for actor, reasons in self.reasons.items():
            print(f"\n{actor}: {'; '.join(sorted(reasons))}")


if __name__ == "__main__":
    table = Table()
    code = pytest.main([str(Path(__file__).parent), *sys.argv[1:]], plugins=[table])
    table.print()
    sys.exit(code)
