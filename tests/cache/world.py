"""A small world of tokens and edges in Python: what the reads answer in it, and the events that its changes make.

It knows nothing of tags; the rules of `ngos.cache.tags` are judged by it.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from random import Random
from typing import Any

from attrs import define, field

from ngos.cache.tags import Change

TYPES = ("a", "b")


@define
class Token:
    token_id: str
    type: str
    place: int
    version: int = 1


@define
class World:
    """`log` holds the events of each topic; what is read is true at its length."""

    tokens: dict[str, Token] = field(factory=dict)
    edges: dict[str, tuple[str, str, bool]] = field(factory=dict)
    log: dict[str, list[Change]] = field(factory=lambda: {"graph": [], "tokens": []})
    made: int = 0

    def change(self, rng: Random) -> None:
        """Do something at random, as a server would do it."""
        ids = sorted(self.tokens)
        match rng.choices(("create", "update", "delete", "connect", "disconnect"), (3, 3, 1, 6, 3))[0]:
            case "create":
                # Anywhere in the order: `created_at` is the clock of whatever node it is.
                token = Token(f"t{self.made}", rng.choice(TYPES), rng.randrange(1000))
                self.made += 1
                self.tokens[token.token_id] = token
                self._log("tokens", "token.created", token.token_id, None, token.type)
            case "update" if ids:
                token = self.tokens[rng.choice(ids)]
                token.version += 1
                token.type = rng.choice(TYPES)
                self._log("tokens", "token.updated", token.token_id)
            case "delete" if ids:
                gone = rng.choice(ids)
                del self.tokens[gone]
                self._log("tokens", "token.deleted", gone)
                for edge_id, (source, target, _) in list(self.edges.items()):
                    if gone in (source, target):
                        self._disconnect(edge_id)
            case "connect" if len(ids) > 1:
                source, target = rng.sample(ids, 2)
                self.edges[f"e{self.made}"] = source, target, rng.random() < 0.3
                self.made += 1
                self._log("graph", "graph.connected", source, target)
            case "disconnect" if self.edges:
                self._disconnect(rng.choice(sorted(self.edges)))

    def _disconnect(self, edge_id: str) -> None:
        source, target, _ = self.edges.pop(edge_id)
        self._log("graph", "graph.disconnected", source, target)

    def _log(self, topic: str, type_: str, near: str, far: str | None = None, of_type: str | None = None) -> None:
        self.log[topic].append(Change(len(self.log[topic]) + 1, type_, near, far, of_type))

    def neighbors(self, token_id: str, limit: int) -> list[Any]:
        """The edges at a token, in the order they were made."""
        at = [(edge_id, edge) for edge_id, edge in self.edges.items() if token_id in edge[:2]]
        return at[:limit]

    def degree(self, token_id: str) -> tuple[int, int, int]:
        """The edges at a token that lead to it, away from it, and all of them."""
        at = [(source, both) for source, target, both in self.edges.values() if token_id in (source, target)]
        outgoing = sum(source == token_id or both for source, both in at)
        incoming = sum(source != token_id or both for source, both in at)
        return incoming, outgoing, len(at)

    def path(self, source: str, target: str, max_depth: int) -> list[str] | None:
        """A shortest path."""
        came_from: dict[str, str | None] = {source: None}
        queue = deque([(source, 0)])
        while queue:
            token_id, depth = queue.popleft()
            if token_id == target:
                way = [target]
                while (before := came_from[way[-1]]) is not None:
                    way.append(before)
                return way[::-1]
            if depth < max_depth:
                for near, far, both in self.edges.values():
                    for a, b in ((near, far), (far, near)) if both else ((near, far),):
                        if a == token_id and b not in came_from:
                            came_from[b] = a
                            queue.append((b, depth + 1))
        return None

    def is_path(self, path: list[str]) -> bool:
        """Whether each of its edges is there."""
        ways = {(near, far) for near, far, _ in self.edges.values()}
        ways |= {(far, near) for near, far, both in self.edges.values() if both}
        return all(pair in ways for pair in pairwise(path))

    def page(self, type_: str | None, limit: int, offset: int) -> list[tuple[str, str, int]]:
        """A page of tokens."""
        found = [token for token in self.tokens.values() if type_ in (None, token.type)]
        found.sort(key=lambda token: (token.place, token.token_id), reverse=True)
        page = found[offset : offset + limit]
        return [(token.token_id, token.type, token.version) for token in page] + [("total", "", len(found))]
