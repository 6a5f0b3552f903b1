"""The tables whose changes are events: how a row is written as TOKEN, EDGE or EXPERIENCE (protocol.md section 3).

Written anew, not taken from the services: who checks them must not make their mistakes. May import `protocol`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from attrs import frozen

from ngos.protocol.converters import iso

Value = dict[str, Any]


@frozen
class Table:
    """A table, and the topic whose events make its rows.

    `key` names what an event is about. `creates`, `updates`, `deletes` are the types of the events that do. `select`
    reads `columns`, of which the last is the time of the latest change; `value` makes of them what the events say.
    `kept` are the fields that never change, and that a delete names again.
    """

    topic: str
    noun: str
    key: str
    creates: str
    updates: str | None
    deletes: str | None
    select: str
    value: Callable[..., Value]
    kept: tuple[str, ...] = ()


def _token(
    token_id: UUID,
    type_: str,
    weight: float,
    flags: int,
    version: int,
    x: list[float],
    y: list[float],
    z: list[float],
    metadata: str,
    created_at: datetime,
    updated_at: datetime,
) -> Value:
    return {
        "token_id": str(token_id),
        "type": type_,
        "weight": weight,
        "flags": flags,
        "coordinates": {"x": x, "y": y, "z": z},
        "metadata": orjson.loads(metadata),
        "version": version,
        "created_at": iso(created_at),
        "updated_at": iso(updated_at),
    }


def _edge(
    connection_id: UUID,
    source_id: UUID,
    target_id: UUID,
    type_: str,
    weight: float,
    bidirectional: bool,
    metadata: str,
    created_at: datetime,
) -> Value:
    return {
        "connection_id": str(connection_id),
        "source_id": str(source_id),
        "target_id": str(target_id),
        "type": type_,
        "weight": weight,
        "bidirectional": bidirectional,
        "metadata": orjson.loads(metadata),
        "created_at": iso(created_at),
    }


def _experience(
    event_id: UUID,
    event_type: str,
    token_id: UUID | None,
    state_before: str | None,
    state_after: str | None,
    action: str | None,
    reward: float,
    priority: float,
    trajectory_id: str | None,
    sequence_number: int | None,
    metadata: str,
    created_at: datetime,
) -> Value:
    return {
        "event_id": str(event_id),
        "event_type": event_type,
        "token_id": None if token_id is None else str(token_id),
        "state_before": _json(state_before),
        "state_after": _json(state_after),
        "action": _json(action),
        "reward": reward,
        "priority": priority,
        "trajectory_id": trajectory_id,
        "sequence_number": sequence_number,
        "metadata": orjson.loads(metadata),
        "created_at": iso(created_at),
    }


def _json(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


TABLES: Final = (
    Table(
        topic="tokens",
        noun="token",
        key="token_id",
        creates="token.created",
        updates="token.updated",
        deletes="token.deleted",
        select="""select token_id, type, weight, flags, version, x, y, z, metadata::text, created_at, updated_at
            from tokens""",
        value=_token,
    ),
    Table(
        topic="graph",
        noun="edge",
        key="connection_id",
        creates="graph.connected",
        updates=None,
        deletes="graph.disconnected",
        select="""select connection_id, source_id, target_id, type, weight, bidirectional, metadata::text, created_at
            from edges""",
        value=_edge,
        kept=("source_id", "target_id", "type"),
    ),
    Table(
        topic="experience",
        noun="experience",
        key="event_id",
        creates="experience.recorded",
        updates=None,
        deletes=None,
        select="""select event_id, event_type, token_id, state_before::text, state_after::text, action::text, reward,
            priority, trajectory_id, sequence_number, metadata::text, created_at from experiences""",
        value=_experience,
    ),
)
