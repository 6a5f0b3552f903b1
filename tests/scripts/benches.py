"""What scripts/bench has written down."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.scripts.marked import ROOT


def all_written(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON that a benchmark wrote, taken away again."""
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [ROOT / name for name in re.findall(r"bench-results/\w+-\S+\.json", done.stdout)]
    documents = [json.loads(path.read_text()) for path in paths]
    for path in paths:
        path.unlink()
    return documents


def written(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The same of one that writes once."""
    (document,) = all_written(done)
    return document


def contestants(document: dict[str, Any]) -> set[str]:
    return {run["contestant"] for run in document["runs"]}
