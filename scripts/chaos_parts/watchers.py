"""Clients that read: `ngos watch --journal` as processes, and how far each has come.

Promises: a journal is looked at as it grows, whole lines only, each line once. Which of them go through a proxy, and
at which node each begins, is fixed: one through the proxy of each node, then one past it at each, and so on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import orjson

from chaos_parts.mix import WATCHED
from chaos_parts.processes import Tended
from chaos_parts.server import Node, clean_environment


@attrs.define(eq=False)
class Watcher:
    """A process that watches, and its journal. `node`: the place of the one that it watches now."""

    process: Tended
    journal: Path
    proxied: bool
    node: int
    _nodes: Sequence[Node]
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

    def move(self) -> None:
        """Kill it; its next life is at the next node, and goes on where this one was."""
        self.node = (self.node + 1) % len(self._nodes)
        self.process.command = _command(self.process.name, self.journal, self._nodes[self.node], proxied=self.proxied)
        self.process.kill()

    def lines(self) -> list[bytes]:
        """The whole journal; a line that a kill has torn was not seen."""
        return self.journal.read_bytes().split(b"\n")[:-1]

    def has(self, topic: str, seq: int) -> bool:
        """Whether it has come so far."""
        return self.positions().get(topic, -1) >= seq

    def has_all(self, positions: Mapping[str, int]) -> bool:
        """Whether it has everything of what it watches."""
        return all(self.has(topic, seq) for topic, seq in positions.items() if topic in WATCHED)


def tended_watcher(number: int, nodes: Sequence[Node], directory: Path) -> Watcher:
    """A watcher, not yet running; the nodes' proxies are."""
    name = f"watcher-{number}"
    rounds, node = divmod(number, len(nodes))
    proxied = rounds % 2 == 0
    journal = directory / f"{name}.jsonl"
    command = _command(name, journal, nodes[node], proxied=proxied)
    process = Tended(name, command, clean_environment(), directory / f"{name}.log")
    return Watcher(process, journal, proxied, node, nodes)


def _command(name: str, journal: Path, node: Node, *, proxied: bool) -> list[str]:
    command = [sys.executable, "-m", "ngos", "watch", *WATCHED, "--url", node.proxy_url if proxied else node.url]
    return [*command, "--client-id", name, "--journal", str(journal), "--quiet"]
