"""What a writer sends: a seeded mix of all that changes something.

Promises: every change carries its command's id, in its metadata or payload, so that an effect shows whose it is and
how often it happened; only the two that carry nothing, `token.delete` and `graph.disconnect`, are told by what they
remove. Some tokens are everybody's: there writers meet, and are refused. The nth command depends on the seed, the
writer, n, and what was answered so far, and on nothing else. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID, uuid5

import attrs

Payload = dict[str, Any]

TOPICS = ("chaos.x", "chaos.y")
WATCHED = ("tokens", "graph", "experience", *TOPICS)

MARK = "command"
"""The field of metadata or payload that carries the command's id."""
TWIST = "twist"
"""Beside it, where an id was used again for another command: that must have no effect."""

_SHARED = 10
_KNOWN_AT_MOST = 200
_NAMESPACE = UUID("6f1c1c5e-7a52-4c3f-9d0b-0e3b6f8f5a01")
_EDGE_TYPES = ("near", "far", "like")


@attrs.define
class Mix:
    """One writer's commands. `learn` is told each reply, in the order of the journal."""

    seed: int
    writer: str
    _versions: dict[str, int] = attrs.field(factory=dict)
    _edges: dict[str, None] = attrs.field(factory=dict)

    def command(self, number: int) -> tuple[str, Payload]:
        """The type and payload of command `number`."""
        rng = Random(f"{self.seed}/{self.writer}/{number}")
        mark = {MARK: command_id(self.writer, number)}
        kinds: dict[Callable[[Random, Payload], tuple[str, Payload]], int] = {
            self._create: 28,
            self._update: 22,
            self._delete: 7,
            self._connect: 16,
            self._disconnect: 8,
            self._record: 10,
            self._publish: 9,
        }
        (kind,) = rng.choices(list(kinds), list(kinds.values()))
        return kind(rng, mark)

    def learn(self, type_: str, payload: Payload) -> None:
        """A reply has come: there may be something new to change, or something less."""
        match type_:
            case "token.created" | "token.updated":
                self._versions[payload["token_id"]] = payload["version"]
                _bound(self._versions)
            case "token.deleted" | "token.not_found":
                self._versions.pop(payload["token_id"], None)
            case "graph.connected":
                self._edges[payload["connection_id"]] = None
                _bound(self._edges)
            case "graph.disconnected":
                self._edges.pop(payload["connection_id"], None)

    def _create(self, rng: Random, mark: Payload) -> tuple[str, Payload]:
        payload: Payload = {
            "type": rng.choice(("default", "chaos")),
            "coord_x": [round(rng.uniform(-1, 1), 3) for _ in range(rng.randrange(9))],
            "weight": round(rng.random(), 3),
            "metadata": mark | {"text": "x" * rng.randrange(200)},
        }
        chance = rng.random()
        if chance < 0.2:
            payload["token_id"] = self._shared(rng)
        elif chance < 0.5:
            payload["token_id"] = str(UUID(int=rng.getrandbits(128), version=4))
        return "token.create", payload

    def _update(self, rng: Random, mark: Payload) -> tuple[str, Payload]:
        token_id = self._token(rng)
        payload: Payload = {"token_id": token_id, "weight": round(rng.random(), 3), "metadata": mark}
        if rng.random() < 0.4:
            payload["if_version"] = self._versions.get(token_id, 1)
        return "token.update", payload

    def _delete(self, rng: Random, _mark: Payload) -> tuple[str, Payload]:
        return "token.delete", {"token_id": self._token(rng)}

    def _connect(self, rng: Random, mark: Payload) -> tuple[str, Payload]:
        source = self._token(rng)
        target = self._token(rng)
        while target == source:
            target = self._shared(rng)
        payload = {"source_id": source, "target_id": target, "type": rng.choice(_EDGE_TYPES), "metadata": mark}
        return "graph.connect", payload | {"weight": round(rng.random(), 3), "bidirectional": rng.random() < 0.5}

    def _disconnect(self, rng: Random, _mark: Payload) -> tuple[str, Payload]:
        if self._edges and rng.random() < 0.8:
            return "graph.disconnect", {"connection_id": rng.choice(list(self._edges))}
        return "graph.disconnect", {
            "source_id": self._shared(rng),
            "target_id": self._shared(rng),
            "type": rng.choice(_EDGE_TYPES),
        }

    def _record(self, rng: Random, mark: Payload) -> tuple[str, Payload]:
        payload: Payload = {"event_type": "step", "action": {"go": rng.randrange(9)}, "metadata": mark}
        if rng.random() < 0.8:
            payload["trajectory_id"] = f"{self.seed}-{rng.randrange(6)}"
        if rng.random() < 0.5:
            payload["token_id"] = self._token(rng)
        return "experience.record", payload

    def _publish(self, rng: Random, mark: Payload) -> tuple[str, Payload]:
        return "publish", {"topic": rng.choice(TOPICS), "type": "said", "payload": mark}

    def _token(self, rng: Random) -> str:
        """One that we know of, or one of everybody's."""
        if self._versions and rng.random() < 0.7:
            return rng.choice(list(self._versions))
        return self._shared(rng)

    def _shared(self, rng: Random) -> str:
        return str(uuid5(_NAMESPACE, f"{self.seed}/{rng.randrange(_SHARED)}"))


def command_id(writer: str, number: int) -> str:
    """Unique in a run, and it says whose it is."""
    return f"{writer}.{number}"


def _bound(known: dict[str, Any]) -> None:
    """Forget the oldest."""
    if len(known) > _KNOWN_AT_MOST:
        del known[next(iter(known))]
