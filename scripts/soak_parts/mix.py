"""What a writer does: commands on tokens and edges that are its own, and how many events they make. Pure.

Promises: the same seed makes the same commands; every one of them succeeds, if those before it did, in order; the
tables stay about as large as they are after the first few hundred.
"""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import attrs

TOKENS, EDGES = 100, 100
"""How many a writer has, about."""
SPREAD = 10
EDGE_TYPE = "soak"


@attrs.frozen
class Step:
    """A command, and by how many events it makes each topic longer. `dated`: metadata can say when it was due."""

    type: str
    payload: dict[str, Any]
    tokens: int
    graph: int
    dated: bool


@attrs.define(eq=False)
class Mix:
    """The commands of one writer, endlessly: half change a token, the others come and go."""

    rng: Random
    _tokens: list[str] = attrs.field(factory=list)
    _edges: list[tuple[str, str]] = attrs.field(factory=list)

    def next(self) -> Step:
        if len(self._tokens) < TOKENS - SPREAD:
            return self._create()
        choice = self.rng.random()
        if choice < 0.5:
            return self._update()
        if choice < 0.7:
            return self._create() if self._grows(len(self._tokens), TOKENS) else self._delete()
        return self._connect() if self._grows(len(self._edges), EDGES) else self._disconnect()

    def _grows(self, now: int, aim: int) -> bool:
        """Toward the aim when far from it, else either way."""
        return now < aim + SPREAD and (now < aim - SPREAD or self.rng.random() < 0.5)

    def _create(self) -> Step:
        token_id = str(UUID(int=self.rng.getrandbits(128), version=4))
        self._tokens.append(token_id)
        coordinates = {axis: [round(self.rng.uniform(-1, 1), 4) for _ in range(8)] for axis in "xyz"}
        payload = {"token_id": token_id, "type": "soak"} | {f"coord_{axis}": at for axis, at in coordinates.items()}
        return Step("token.create", payload, 1, 0, dated=True)

    def _update(self) -> Step:
        payload = {"token_id": self.rng.choice(self._tokens), "weight": round(self.rng.random(), 6)}
        return Step("token.update", payload, 1, 0, dated=True)

    def _delete(self) -> Step:
        token_id = self._taken(self._tokens)
        left = [edge for edge in self._edges if token_id not in edge]
        cascade = len(self._edges) - len(left)
        self._edges = left
        return Step("token.delete", {"token_id": token_id}, 1, cascade, dated=False)

    def _connect(self) -> Step:
        edge = self._pair()
        while edge in self._edges:
            edge = self._pair()
        self._edges.append(edge)
        source, target = edge
        payload = {"source_id": source, "target_id": target, "type": EDGE_TYPE, "weight": 0.5}
        return Step("graph.connect", payload, 0, 1, dated=True)

    def _disconnect(self) -> Step:
        source, target = self._taken(self._edges)
        payload = {"source_id": source, "target_id": target, "type": EDGE_TYPE}
        return Step("graph.disconnect", payload, 0, 1, dated=False)

    def _pair(self) -> tuple[str, str]:
        source, target = self.rng.sample(self._tokens, 2)
        return source, target

    def _taken(self, those: list[Any]) -> Any:
        """One of them, which is there no more."""
        at = self.rng.randrange(len(those))
        those[at], those[-1] = those[-1], those[at]
        return those.pop()
