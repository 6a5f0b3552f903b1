"""TOKEN, EDGE, EXPERIENCE and POSITION of protocol.md section 3. May import `rules`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import field, frozen

from ngos.protocol.rules import (
    ORIGIN,
    Coordinates,
    Count,
    Epoch,
    Finite,
    Flag,
    Flags,
    Id,
    Metadata,
    State,
    TopicName,
    TypeName,
)


@frozen(kw_only=True)
class Space:
    """A token's coordinates: (x[i], y[i], z[i]) is its point at level i of `rules.LEVELS`."""

    x: Coordinates = ORIGIN
    y: Coordinates = ORIGIN
    z: Coordinates = ORIGIN


@frozen(kw_only=True)
class TokenHead:
    """What `token.list` tells of a token unless `full` is asked for."""

    token_id: Id
    type: TypeName
    weight: Finite
    flags: Flags
    version: Count
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class Token(TokenHead):
    """TOKEN: a unit of meaning."""

    coordinates: Space
    metadata: Metadata


@frozen(kw_only=True)
class EdgeKey:
    """What names an edge when it is gone."""

    connection_id: Id
    source_id: Id
    target_id: Id
    type: TypeName


@frozen(kw_only=True)
class Edge(EdgeKey):
    """EDGE: a typed, weighted connection from one token to another."""

    weight: Finite
    bidirectional: Flag
    metadata: Metadata
    created_at: datetime


@frozen(kw_only=True)
class Neighbor(Edge):
    """An edge as seen from one of its ends; `neighbor_id` is the other."""

    neighbor_id: Id


@frozen(kw_only=True)
class Experience:
    """EXPERIENCE: one step that was lived through."""

    event_id: Id
    event_type: TypeName
    token_id: UUID | None = None
    state_before: State = None
    state_after: State = None
    action: State = None
    reward: Finite
    priority: Finite
    trajectory_id: str | None = None
    sequence_number: int | None = None
    metadata: dict[str, Any] = field(factory=dict)
    created_at: datetime


@frozen(kw_only=True)
class Position:
    """The log position that an answer is true at: list, then subscribe with `since` = `seq`."""

    topic: TopicName
    epoch: Epoch
    seq: Count
