"""Every command of protocol.md section 3, as the frozen class of its payload. May import `rules` and `messages`.

A new command is one class here and one function in a service; `catalog` finds it by itself. `REPLIES` names every
reply that is not `error`. `WRITES` says that it changes something: its change and its events commit together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from attrs import field, frozen

from ngos.protocol import messages as m
from ngos.protocol.rules import (
    ORIGIN,
    UNSET,
    Choice,
    Coordinates,
    Count,
    Cursor,
    Epoch,
    Finite,
    Flag,
    Flags,
    Id,
    Integer,
    Limit,
    Metadata,
    Offset,
    Payload,
    State,
    Text,
    TopicName,
    TypeName,
    Unset,
)

Fault = tuple[str, str]
"""A path below the payload, and what is wrong there."""


@frozen(kw_only=True)
class Command:
    """The base of all commands. Fields that may be left out have defaults; `| None` ones may also be null."""

    TYPE: ClassVar[str]
    REPLIES: ClassVar[tuple[type[m.Reply], ...]]
    WRITES: ClassVar[bool] = False

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong between fields; each field by itself has been checked."""
        return iter(())

    def cost(self) -> int:
        """What it takes of a server, in commands of the common kind, for limits by rate: about, and never less."""
        return 1


@frozen(kw_only=True)
class Ping(Command):
    TYPE = "ping"
    REPLIES = (m.Pong,)


@frozen(kw_only=True)
class Authenticate(Command):
    TYPE = "authenticate"
    REPLIES = (m.Authenticated,)
    token: Annotated[str, Text(16384)] = field(repr=False)


@frozen(kw_only=True)
class Subscribe(Command):
    TYPE = "subscribe"
    REPLIES = (m.Subscribed,)
    topic: TopicName
    since: Count | None = None
    epoch: Epoch | None = None

    def cost(self) -> int:
        return 1 if self.since is None else 20  # it may read the log


@frozen(kw_only=True)
class Unsubscribe(Command):
    TYPE = "unsubscribe"
    REPLIES = (m.Unsubscribed,)
    topic: TopicName


@frozen(kw_only=True)
class Publish(Command):
    TYPE = "publish"
    REPLIES = (m.Published,)
    topic: TopicName
    type: Annotated[str, Text(128)]
    payload: Payload = field(factory=dict)


@frozen(kw_only=True)
class TokenCreate(Command):
    TYPE = "token.create"
    REPLIES = (m.TokenCreated,)
    WRITES = True
    token_id: Id | None = None
    type: TypeName = "default"
    coord_x: Coordinates = ORIGIN
    coord_y: Coordinates = ORIGIN
    coord_z: Coordinates = ORIGIN
    weight: Finite = 1.0
    flags: Flags = 0
    metadata: Metadata = field(factory=dict)


@frozen(kw_only=True)
class TokenGet(Command):
    TYPE = "token.get"
    REPLIES = (m.TokenData, m.TokenNotFound)
    token_id: Id


@frozen(kw_only=True)
class TokenList(Command):
    TYPE = "token.list"
    REPLIES = (m.TokenListed,)
    limit: Limit = 10
    offset: Offset = 0
    type: TypeName | None = None
    after: Cursor | None = None
    full: Flag = False
    total: Flag = False

    def faults(self) -> Iterator[Fault]:
        if self.offset and self.after is not None:
            yield "after", "can't be used together with offset"

    def cost(self) -> int:
        return 1 + self.limit // (3 if self.full else 10) + (100 if self.total else 0)


@frozen(kw_only=True)
class TokenUpdate(Command):
    """Fields left out stay as they are; there is nothing that null could mean, so null is refused."""

    TYPE = "token.update"
    REPLIES = (m.TokenUpdated, m.TokenNotFound)
    WRITES = True
    token_id: Id
    type: TypeName | Unset = UNSET
    coord_x: Coordinates | Unset = UNSET
    coord_y: Coordinates | Unset = UNSET
    coord_z: Coordinates | Unset = UNSET
    weight: Finite | Unset = UNSET
    flags: Flags | Unset = UNSET
    metadata: Metadata | Unset = UNSET
    if_version: Annotated[int, Integer(1)] | None = None


@frozen(kw_only=True)
class TokenDelete(Command):
    TYPE = "token.delete"
    REPLIES = (m.TokenDeleted, m.TokenNotFound)
    WRITES = True
    token_id: Id


@frozen(kw_only=True)
class GraphConnect(Command):
    TYPE = "graph.connect"
    REPLIES = (m.GraphConnected, m.TokenNotFound)
    WRITES = True
    source_id: Id
    target_id: Id
    type: TypeName = "generic"
    weight: Finite = 1.0
    bidirectional: Flag = False
    metadata: Metadata = field(factory=dict)

    def faults(self) -> Iterator[Fault]:
        if self.source_id == self.target_id:
            yield "target_id", "must differ from source_id: a token can't be connected to itself"


@frozen(kw_only=True)
class GraphDisconnect(Command):
    """By `connection_id`, or by both ends; without `type` the ends must have a single edge between them."""

    TYPE = "graph.disconnect"
    REPLIES = (m.GraphDisconnected, m.GraphNotFound)
    WRITES = True
    connection_id: Id | None = None
    source_id: Id | None = None
    target_id: Id | None = None
    type: TypeName | None = None

    def faults(self) -> Iterator[Fault]:
        by_ends = (self.source_id, self.target_id, self.type)
        if self.connection_id is not None:
            if any(value is not None for value in by_ends):
                yield "connection_id", "can't be used together with source_id, target_id or type"
        else:
            for name, value in (("source_id", self.source_id), ("target_id", self.target_id)):
                if value is None:
                    yield name, "is required where connection_id is not given"


@frozen(kw_only=True)
class GraphNeighbors(Command):
    TYPE = "graph.neighbors"
    REPLIES = (m.GraphNeighborsListed, m.TokenNotFound)
    token_id: Id
    direction: Annotated[str, Choice(("both", "incoming", "outgoing"))] = "both"
    type: TypeName | None = None
    limit: Limit = 100
    offset: Offset = 0

    def cost(self) -> int:
        return 1 + self.limit // 10


@frozen(kw_only=True)
class GraphDegree(Command):
    TYPE = "graph.degree"
    REPLIES = (m.GraphDegreeCounted,)
    token_id: Id


@frozen(kw_only=True)
class GraphPath(Command):
    TYPE = "graph.path"
    REPLIES = (m.GraphPathFound,)
    source_id: Id
    target_id: Id
    max_depth: Annotated[int, Integer(1, 10)] = 5

    def cost(self) -> int:
        return 50


@frozen(kw_only=True)
class ExperienceRecord(Command):
    TYPE = "experience.record"
    REPLIES = (m.ExperienceRecorded,)
    WRITES = True
    event_type: TypeName
    token_id: Id | None = None
    state_before: State = None
    state_after: State = None
    action: State = None
    reward: Finite = 0.0
    priority: Finite = 1.0
    trajectory_id: Annotated[str, Text(128)] | None = None
    metadata: Metadata = field(factory=dict)


@frozen(kw_only=True)
class ExperienceList(Command):
    TYPE = "experience.list"
    REPLIES = (m.ExperienceListed,)
    limit: Limit = 10
    event_type: TypeName | None = None
    token_id: Id | None = None
    trajectory_id: Annotated[str, Text(128)] | None = None
    after: Cursor | None = None

    def cost(self) -> int:
        return 1 + self.limit // 5
