"""Those who write and those who read, each over a connection of its own; what they were answered, and when.

Promises: times are of one clock, taken before a command is sent and after its answer is there. A write is known again
in the log by what only it has: an id, or an id and a version. Runs on Trio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import orjson
import trio
from attrs import define, field, frozen

from hunt_parts.judge import Read
from hunt_parts.state import digest
from ngos.client.client import Client
from ngos.client.errors import CommandError

TYPES = ("red", "green", "blue")
HUBS = 5
AT_ONCE = 32


@frozen
class Sent:
    """A write that was answered. `mark` names its event."""

    sent_s: float
    answered_s: float
    mark: tuple[Any, ...]


def mark_of(type_: str, payload: dict[str, Any]) -> tuple[Any, ...]:
    """What tells an event from all others."""
    if type_.startswith("graph."):
        return type_, payload["connection_id"]
    return type_, payload["token_id"], payload.get("version")


@define(eq=False)
class World:
    """What all know of. The first `HUBS` tokens have many edges, and stay."""

    rng: Random
    tokens: list[str] = field(factory=list)
    edges: list[str] = field(factory=list)
    sent: list[Sent] = field(factory=list)
    reads: list[Read] = field(factory=list)
    refused: Counter[str] = field(factory=Counter)

    async def fill(self, client: Client, tokens: int, edges: int) -> None:
        """Create what there is to read."""
        limit = trio.CapacityLimiter(AT_ONCE)

        async def create() -> None:
            async with limit:
                await self._do(client, "token.create", type=self.rng.choice(TYPES), metadata={"a": "x" * 50})

        async def connect() -> None:
            async with limit:
                await self._connect(client)

        for make, count in ((create, tokens), (connect, edges)):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(make)

    async def write(self, client: Client, per_s: float) -> None:
        """Change something, so often, until cancelled."""
        while True:
            await trio.sleep(self.rng.expovariate(per_s))
            match self.rng.choices(("connect", "disconnect", "update", "create", "delete"), (5, 4, 3, 2, 1))[0]:
                case "connect":
                    await self._connect(client)
                case "disconnect" if self.edges:
                    edge_id = self.edges.pop(self.rng.randrange(len(self.edges)))
                    await self._do(client, "graph.disconnect", connection_id=edge_id)
                case "update":
                    token_id, type_ = self.rng.choice(self.tokens), self.rng.choice(TYPES)
                    await self._do(client, "token.update", token_id=token_id, type=type_)
                case "create":
                    await self._do(client, "token.create", type=self.rng.choice(TYPES))
                case "delete" if len(self.tokens) > 2 * HUBS:
                    token_id = self.tokens.pop(self.rng.randrange(HUBS, len(self.tokens)))
                    await self._do(client, "token.delete", token_id=token_id)

    async def _connect(self, client: Client) -> None:
        near = self.rng.choice(self.tokens[:HUBS]) if self.rng.random() < 0.3 else self.rng.choice(self.tokens)
        far = self.rng.choice(self.tokens)
        if near != far:
            both = self.rng.random() < 0.2
            await self._do(client, "graph.connect", source_id=near, target_id=far, bidirectional=both)

    async def _do(self, client: Client, type_: str, **payload: Any) -> None:
        sent_s = trio.current_time()
        try:
            reply = await client.request(type_, payload)
        except CommandError as exc:
            self.refused[exc.code] += 1
            return
        if reply.type in ("token.not_found", "graph.not_found"):
            self.refused[reply.type] += 1
            return
        self.sent.append(Sent(sent_s, trio.current_time(), mark_of(reply.type, reply.payload)))
        if reply.type == "token.created":
            self.tokens.append(reply.payload["token_id"])
        elif reply.type == "graph.connected":
            self.edges.append(reply.payload["connection_id"])

    async def read(self, client: Client, node: int) -> None:
        """Ask one thing after the other, until cancelled."""
        while True:
            type_, asked = self._question()
            sent_s = trio.current_time()
            try:
                reply = await client.request(type_, asked)
            except CommandError as exc:
                self.refused[exc.code] += 1
                continue
            answered_s = trio.current_time()
            if reply.type == "token.not_found":
                self.refused[reply.type] += 1
                continue
            data = orjson.dumps(asked)
            if type_ == "graph.path":
                path = reply.payload["path"]
                told = None if path is None else tuple(path)
                self.reads.append(Read(node, type_, data, sent_s, answered_s, "graph", path=told))
            else:
                at = reply.payload["position"]
                told_digest = digest(reply.payload)
                self.reads.append(
                    Read(node, type_, data, sent_s, answered_s, at["topic"], at["epoch"], at["seq"], told_digest)
                )

    def _question(self) -> tuple[str, dict[str, Any]]:
        """One of some hundred, so that they come again."""
        some: Sequence[str] = self.tokens[:40]
        match self.rng.randrange(10):
            case 0 | 1:
                # The newest have few edges yet: a new one makes a way where there was none, or a shorter one.
                far = self.rng.choice((some[12:24], self.tokens[-6:]))
                asked = {"source_id": self.rng.choice(some[:12]), "target_id": self.rng.choice(far)}
                return "graph.path", asked | {"max_depth": self.rng.choice((2, 5))}
            case 2 | 3:
                return "graph.neighbors", {"token_id": self.rng.choice(some[:HUBS]), "limit": 1000}
            case 4 | 5:
                return "graph.neighbors", {"token_id": self.rng.choice(some), "limit": self.rng.choice((5, 100))}
            case 6:
                return "token.list", {"limit": 100, "type": self.rng.choice(TYPES), "total": True}
            case 7:
                return "token.list", {"limit": 50, "offset": self.rng.choice((0, 50)), "full": True}
            case _:
                return "token.list", {"limit": self.rng.choice((100, 1000))}
