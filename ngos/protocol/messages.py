"""Every reply and event of protocol.md, as the frozen class of its payload. May import `faults`, `rules`, `values`.

A reply answers one command; an event goes to a topic. Some are both (`token.created`): same payload, encoded once.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from attrs import field, frozen

from ngos.protocol.faults import CommandFailed, ErrorCode
from ngos.protocol.rules import Choice, Cursor, Epoch, TopicName, TypeName
from ngos.protocol.values import Edge, EdgeKey, Experience, Neighbor, Position, Token, TokenHead


@frozen(kw_only=True)
class Message:
    """What the server sends: the payload's fields, and the envelope's `type`."""

    TYPE: ClassVar[str]


@frozen(kw_only=True)
class Reply(Message):
    """Answers one command."""


@frozen(kw_only=True)
class Event(Message):
    """Goes to all subscribers of `TOPIC`; where TOPIC is empty, the publisher names the topic."""

    TOPIC: ClassVar[str]


@frozen(kw_only=True)
class Server:
    name: str
    version: str
    protocol: int


@frozen(kw_only=True)
class HeartbeatTerms:
    interval_ms: int
    timeout_ms: int


@frozen(kw_only=True)
class Limits:
    message_bytes: int
    subscriptions: int
    in_flight: int


@frozen(kw_only=True)
class ConnectionEstablished(Message):
    """The first message of every connection (section 1)."""

    TYPE = "connection.established"
    connection_id: UUID
    client_id: str
    timestamp: int
    server: Server
    heartbeat: HeartbeatTerms
    limits: Limits


@frozen(kw_only=True)
class Pong(Reply):
    TYPE = "pong"
    message_id: str | None


@frozen(kw_only=True)
class Authenticated(Reply):
    TYPE = "authenticated"
    subject: str
    expires_at: str | None


@frozen(kw_only=True)
class Subscribed(Reply):
    TYPE = "subscribed"
    topic: TopicName
    success: bool
    durable: bool
    epoch: Epoch | None
    seq: int | None
    recovered: bool
    replay: int


@frozen(kw_only=True)
class Unsubscribed(Reply):
    TYPE = "unsubscribed"
    topic: TopicName
    success: bool


@frozen(kw_only=True)
class Published(Reply):
    TYPE = "published"
    topic: TopicName
    durable: bool
    epoch: Epoch | None
    seq: int | None


@frozen(kw_only=True)
class TokenCreated(Token, Reply, Event):
    TYPE = "token.created"
    TOPIC = "tokens"


@frozen(kw_only=True)
class TokenData(Token, Reply):
    TYPE = "token.data"


@frozen(kw_only=True)
class TokenNotFound(Reply):
    TYPE = "token.not_found"
    token_id: UUID


@frozen(kw_only=True)
class TokenListed(Reply):
    """`tokens` holds Token where `full` was asked for."""

    TYPE = "token.list"
    tokens: tuple[Token, ...] | tuple[TokenHead, ...]
    count: int
    offset: int
    total: int | None
    next: Cursor | None
    position: Position


@frozen(kw_only=True)
class TokenUpdated(Token, Reply, Event):
    TYPE = "token.updated"
    TOPIC = "tokens"


@frozen(kw_only=True)
class TokenDeleted(Reply, Event):
    TYPE = "token.deleted"
    TOPIC = "tokens"
    token_id: UUID


@frozen(kw_only=True)
class GraphConnected(Edge, Reply, Event):
    TYPE = "graph.connected"
    TOPIC = "graph"


@frozen(kw_only=True)
class GraphDisconnected(EdgeKey, Reply, Event):
    TYPE = "graph.disconnected"
    TOPIC = "graph"


@frozen(kw_only=True)
class GraphNotFound(Reply):
    """Echoes what the command named the edge by."""

    TYPE = "graph.not_found"
    connection_id: UUID | None
    source_id: UUID | None
    target_id: UUID | None
    type: TypeName | None


@frozen(kw_only=True)
class GraphNeighborsListed(Reply):
    TYPE = "graph.neighbors"
    token_id: UUID
    neighbors: tuple[Neighbor, ...]
    count: int
    position: Position


@frozen(kw_only=True)
class GraphDegreeCounted(Reply):
    """An edge marked bidirectional counts as incoming and as outgoing, and once in `total`."""

    TYPE = "graph.degree"
    token_id: UUID
    incoming: int
    outgoing: int
    total: int


@frozen(kw_only=True)
class GraphPathFound(Reply):
    """`path` is the token ids from source to target; `length` counts its edges; both null where there is none."""

    TYPE = "graph.path"
    source_id: UUID
    target_id: UUID
    path: tuple[UUID, ...] | None
    length: int | None


@frozen(kw_only=True)
class ExperienceRecorded(Experience, Reply, Event):
    TYPE = "experience.recorded"
    TOPIC = "experience"


@frozen(kw_only=True)
class ExperienceListed(Reply):
    TYPE = "experience.list"
    events: tuple[Experience, ...]
    count: int
    next: Cursor | None
    position: Position


@frozen(kw_only=True)
class ErrorReply(Reply):
    """Section 7. A client may read a `code` that is not yet in its ErrorCode."""

    TYPE = "error"
    code: Annotated[str, Choice(tuple(map(str, ErrorCode)))]
    message: str
    original_message_id: str | None
    retryable: bool
    details: dict[str, Any] = field(factory=dict)

    @classmethod
    def of(cls, failure: CommandFailed, command_id: str | None) -> Self:
        """The answer to a command that failed."""
        return cls(
            code=failure.code,
            message=failure.message,
            original_message_id=command_id,
            retryable=failure.code.retryable,
            details=failure.details,
        )


@frozen(kw_only=True)
class SystemStatus(Event):
    TYPE = "system.status"
    TOPIC = "system"
    connections: int
    subscriptions: int
    topics: int
    events_per_s: float
    uptime_s: float
    ready: bool = True


@frozen(kw_only=True)
class SystemDraining(Event):
    TYPE = "system.draining"
    TOPIC = "system"
    reconnect_after_ms: int
