"""Clients that read: `ngos watch --journal` as processes, and how far each has come.

Promises: a journal is looked at as it grows, whole lines only, each line once. Which of them go through the proxy is
fixed: every other one, beginning with the first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import orjson

from chaos_parts.mix import WATCHED
from chaos_parts.processes import Tended
from chaos_parts.server import clean_environment


@attrs.define(eq=False)
class Watcher:
    """A process that watches, and its journal."""

    process: Tended
    journal: Path
    proxied: bool
    _read_bytes: int = 0
    _positions: dict[str, int] = attrs.field(factory=dict)

    def positions(self) -> Mapping[str, int]:
        """The last number that it has, by topic."""
        try:
            with self.journal.open("rb") as file:
                file.seek(self._read_bytes)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return {}
        self._read_bytes += len(whole) + len(newline)
        for line in whole.splitlines():
            entry = orjson.loads(line)
            at = entry.get("subscribed", entry)
            if at.get("seq") is not None:
                self._positions[at["topic"]] = max(at["seq"], self._positions.get(at["topic"], 0))
        return self._positions

    def lines(self) -> list[bytes]:
        """The whole journal; a line that a kill has torn was not seen."""
        return self.journal.read_bytes().split(b"\n")[:-1]

    def has(self, topic: str, seq: int) -> bool:
        """Whether it has come so far."""
        return self.positions().get(topic, -1) >= seq

    def has_all(self, positions: Mapping[str, int]) -> bool:
        """Whether it has everything of what it watches."""
        return all(self.has(topic, seq) for topic, seq in positions.items() if topic in WATCHED)


def tended_watcher(number: int, url: str, proxy_url: str, directory: Path) -> Watcher:
    """A watcher, not yet running."""
    name = f"watcher-{number}"
    proxied = number % 2 == 0
    journal = directory / f"{name}.jsonl"
    command = [sys.executable, "-m", "ngos", "watch", *WATCHED, "--url", proxy_url if proxied else url]
    command += ["--client-id", name, "--journal", str(journal), "--quiet"]
    return Watcher(Tended(name, command, clean_environment(), directory / f"{name}.log"), journal, proxied)
