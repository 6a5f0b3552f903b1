"""Tokens and edges as the events of the log have made them, and what the reads answer of them. Pure.

Promises: it knows nothing of how the server finds or keeps its answers. What is compared is a digest of the answer's
payload without its position, so that all that it tells is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson
from attrs import define, field

from ngos.services.pages import encode_cursor

HEAD = ("token_id", "type", "weight", "flags", "version", "created_at", "updated_at")


def digest(payload: dict[str, Any]) -> bytes:
    """Of an answer's payload, whatever its position."""
    told = {name: value for name, value in payload.items() if name != "position"}
    return blake2b(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


@define(eq=False)
class State:
    """See the module. Events are told to it in the order of each topic."""

    tokens: dict[str, dict[str, Any]] = field(factory=dict)
    edges: dict[str, dict[str, Any]] = field(factory=dict)
    at: dict[str, dict[str, dict[str, Any]]] = field(factory=dict)

    def apply(self, type_: str, payload: dict[str, Any]) -> None:
        match type_:
            case "token.created" | "token.updated":
                self.tokens[payload["token_id"]] = payload
            case "token.deleted":
                del self.tokens[payload["token_id"]]
            case "graph.connected":
                self.edges[payload["connection_id"]] = payload
                for end in (payload["source_id"], payload["target_id"]):
                    self.at.setdefault(end, {})[payload["connection_id"]] = payload
            case "graph.disconnected":
                edge = self.edges.pop(payload["connection_id"])
                for end in (edge["source_id"], edge["target_id"]):
                    del self.at[end][edge["connection_id"]]

    def answer(self, type_: str, asked: dict[str, Any]) -> dict[str, Any]:
        """What `graph.neighbors` and `token.list` answer, but for the position."""
        return self._neighbors(**asked) if type_ == "graph.neighbors" else self._page(**asked)

    def _neighbors(self, token_id: str, limit: int = 100) -> dict[str, Any]:
        edges = sorted(self.at.get(token_id, {}).values(), key=lambda e: (e["created_at"], e["connection_id"]))
        neighbors = [
            edge | {"neighbor_id": edge["target_id" if edge["source_id"] == token_id else "source_id"]}
            for edge in edges[:limit]
        ]
        return {"token_id": token_id, "neighbors": neighbors, "count": len(neighbors)}

    def _page(
        self, limit: int = 10, offset: int = 0, type: str | None = None, full: bool = False, total: bool = False
    ) -> dict[str, Any]:
        found = [token for token in self.tokens.values() if type in (None, token["type"])]
        found.sort(key=lambda token: (token["created_at"], token["token_id"]), reverse=True)
        page = found[offset : offset + limit]
        more = len(found) > offset + limit
        return {
            "tokens": page if full else [{name: token[name] for name in HEAD} for token in page],
            "count": len(page),
            "offset": offset,
            "total": len(found) if total else None,
            "next": encode_cursor(datetime.fromisoformat(page[-1]["created_at"]), UUID(page[-1]["token_id"]))
            if more
            else None,
        }

    def is_shortest(self, path: list[str] | None, source_id: str, target_id: str, max_depth: int) -> bool:
        """Whether a path is one of the shortest, or, None, there is no path of at most `max_depth` edges."""
        if path is None:
            return self._distance(source_id, target_id, max_depth) is None
        if (path[0], path[-1]) != (source_id, target_id):
            return False
        if not all(far in self._from(near) for near, far in pairwise(path)):
            return False
        return self._distance(source_id, target_id, max_depth) == len(path) - 1

    def _distance(self, source_id: str, target_id: str, max_depth: int) -> int | None:
        seen = {source_id}
        queue = deque([(source_id, 0)])
        while queue:
            token_id, depth = queue.popleft()
            if token_id == target_id:
                return depth
            if depth < max_depth:
                for far in self._from(token_id):
                    if far not in seen:
                        seen.add(far)
                        queue.append((far, depth + 1))
        return None

    def _from(self, token_id: str) -> Iterator[str]:
        for edge in self.at.get(token_id, {}).values():
            if edge["source_id"] == token_id:
                yield edge["target_id"]
            elif edge["bidirectional"]:
                yield edge["source_id"]
