"""Every command of protocol.md section 3 as a method with typed arguments and a typed answer, for all shells.

Knows no event loop: a shell gives `request` and `ping`. May import `ngos.client.errors` and the protocol.

All methods raise what `request` raises: CommandError, ConnectionLost, RequestTimeout, RequestTooBig; and MessageError
when the answer is not what the protocol says. A cancelled call may take effect or not: its command may be on its way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

from ngos.client.errors import NotFound
from ngos.protocol import commands as c
from ngos.protocol import messages as m
from ngos.protocol.codec import Envelope, structure
from ngos.protocol.commands import Command
from ngos.protocol.rules import ORIGIN, UNSET, Unset
from ngos.protocol.values import Edge, EdgeKey, Experience, Token

_T = TypeVar("_T")

Id = UUID | str
"""A UUID, or its canonical text."""


def _id(value: Id) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def _optional_id(value: Id | None) -> UUID | None:
    return None if value is None else _id(value)


def _unless_unset(value: Sequence[float] | Unset) -> tuple[float, ...] | Unset:
    return value if isinstance(value, Unset) else tuple(value)


class Api(ABC):
    """The commands. An Id that is no UUID raises ValueError, a value that JSON does not have TypeError."""

    @abstractmethod
    async def request(
        self, command: Command | str, payload: Mapping[str, Any] | None = None, *, id: str | None = None
    ) -> Envelope:
        """Send a command and return its reply, whatever its type unless `error`."""

    @abstractmethod
    async def ping(self) -> float:
        """Return the round trip's seconds."""

    async def authenticate(self, token: str) -> m.Authenticated:
        """Prove who this is, from here on and on later connections: it takes the place of `connect`'s `token`.

        On a connection that has proved it before, this renews: it goes on until the new token expires. Raises
        CommandError: `unauthenticated` where the token is not valid, `forbidden` where it is another subject's or does
        not allow topics that are followed; then all stays as it was.
        """
        return await self._answer(c.Authenticate(token=token), m.Authenticated)

    async def publish(self, topic: str, type: str, payload: Mapping[str, Any] | None = None) -> m.Published:
        """Send an event to a custom topic's subscribers; on the server's own topics: CommandError `forbidden`.

        On an ephemeral topic the event may come twice, where the connection breaks before the reply.
        """
        return await self._answer(c.Publish(topic=topic, type=type, payload=dict(payload or {})), m.Published)

    # Tokens

    async def create_token(
        self,
        *,
        token_id: Id | None = None,
        type: str = "default",
        coord_x: Sequence[float] = ORIGIN,
        coord_y: Sequence[float] = ORIGIN,
        coord_z: Sequence[float] = ORIGIN,
        weight: float = 1.0,
        flags: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> Token:
        """Create a token; its point at level i is (coord_x[i], coord_y[i], coord_z[i]), missing numbers are 0.0.

        A `token_id` that exists already is CommandError `conflict`. After a break the client sends it again without
        a second effect; for a program that does so itself, after RequestTimeout or its own restart, there is
        `request(TokenCreate(...), id=...)`, with the same `client_id`.
        """
        command = c.TokenCreate(
            token_id=_optional_id(token_id),
            type=type,
            coord_x=tuple(coord_x),
            coord_y=tuple(coord_y),
            coord_z=tuple(coord_z),
            weight=weight,
            flags=flags,
            metadata=dict(metadata or {}),
        )
        return await self._answer(command, Token)

    async def get_token(self, token_id: Id) -> Token | None:
        """Return a token, or None where there is no such."""
        reply = await self.request(c.TokenGet(token_id=_id(token_id)))
        return None if reply.type == m.TokenNotFound.TYPE else structure(reply.payload, Token)

    async def list_tokens(
        self,
        *,
        limit: int = 10,
        offset: int = 0,
        type: str | None = None,
        after: str | None = None,
        full: bool = False,
        total: bool = False,
    ) -> m.TokenListed:
        """Return a page of tokens, newest first: Token where `full`, else TokenHead.

        `next` is the `after` of the next page; `position` is what to subscribe `since` to miss nothing.
        """
        command = c.TokenList(limit=limit, offset=offset, type=type, after=after, full=full, total=total)
        return await self._answer(command, m.TokenListed)

    async def update_token(
        self,
        token_id: Id,
        *,
        type: str | Unset = UNSET,
        coord_x: Sequence[float] | Unset = UNSET,
        coord_y: Sequence[float] | Unset = UNSET,
        coord_z: Sequence[float] | Unset = UNSET,
        weight: float | Unset = UNSET,
        flags: int | Unset = UNSET,
        metadata: Mapping[str, Any] | Unset = UNSET,
        if_version: int | None = None,
    ) -> Token:
        """Change the fields that are given. Raises NotFound; CommandError `conflict` where `if_version` is not its."""
        command = c.TokenUpdate(
            token_id=_id(token_id),
            type=type,
            coord_x=_unless_unset(coord_x),
            coord_y=_unless_unset(coord_y),
            coord_z=_unless_unset(coord_z),
            weight=weight,
            flags=flags,
            metadata=metadata if isinstance(metadata, Unset) else dict(metadata),
            if_version=if_version,
        )
        return await self._answer(command, Token)

    async def delete_token(self, token_id: Id) -> bool:
        """Delete a token with its edges; False where there was none."""
        reply = await self.request(c.TokenDelete(token_id=_id(token_id)))
        return reply.type != m.TokenNotFound.TYPE

    # The graph

    async def connect_tokens(
        self,
        source_id: Id,
        target_id: Id,
        *,
        type: str = "generic",
        weight: float = 1.0,
        bidirectional: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> Edge:
        """Connect two tokens. Raises NotFound; CommandError `conflict` where such an edge is there already."""
        command = c.GraphConnect(
            source_id=_id(source_id),
            target_id=_id(target_id),
            type=type,
            weight=weight,
            bidirectional=bidirectional,
            metadata=dict(metadata or {}),
        )
        return await self._answer(command, Edge)

    async def disconnect_tokens(
        self,
        source_id: Id | None = None,
        target_id: Id | None = None,
        *,
        type: str | None = None,
        connection_id: Id | None = None,
    ) -> EdgeKey | None:
        """Remove an edge, named by its `connection_id` or by its ends; None where there was none."""
        command = c.GraphDisconnect(
            connection_id=_optional_id(connection_id),
            source_id=_optional_id(source_id),
            target_id=_optional_id(target_id),
            type=type,
        )
        reply = await self.request(command)
        return None if reply.type == m.GraphNotFound.TYPE else structure(reply.payload, EdgeKey)

    async def neighbors(
        self,
        token_id: Id,
        *,
        direction: Literal["both", "incoming", "outgoing"] = "both",
        type: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> m.GraphNeighborsListed:
        """Return a token's edges and where they lead. Raises NotFound."""
        command = c.GraphNeighbors(token_id=_id(token_id), direction=direction, type=type, limit=limit, offset=offset)
        return await self._answer(command, m.GraphNeighborsListed)

    async def degree(self, token_id: Id) -> m.GraphDegreeCounted:
        """Count a token's edges."""
        return await self._answer(c.GraphDegree(token_id=_id(token_id)), m.GraphDegreeCounted)

    async def path(self, source_id: Id, target_id: Id, *, max_depth: int = 5) -> m.GraphPathFound:
        """Return a shortest path of at most `max_depth` edges; its `path` is None where there is none."""
        command = c.GraphPath(source_id=_id(source_id), target_id=_id(target_id), max_depth=max_depth)
        return await self._answer(command, m.GraphPathFound)

    # Experience

    async def record_experience(
        self,
        event_type: str,
        *,
        token_id: Id | None = None,
        state_before: Any = None,
        state_after: Any = None,
        action: Any = None,
        reward: float = 0.0,
        priority: float = 1.0,
        trajectory_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Experience:
        """Record one step; within a trajectory it gets the next sequence number."""
        command = c.ExperienceRecord(
            event_type=event_type,
            token_id=_optional_id(token_id),
            state_before=state_before,
            state_after=state_after,
            action=action,
            reward=reward,
            priority=priority,
            trajectory_id=trajectory_id,
            metadata=dict(metadata or {}),
        )
        return await self._answer(command, Experience)

    async def list_experiences(
        self,
        *,
        limit: int = 10,
        event_type: str | None = None,
        token_id: Id | None = None,
        trajectory_id: str | None = None,
        after: str | None = None,
    ) -> m.ExperienceListed:
        """Return a page of experiences; `next` is the `after` of the next one."""
        command = c.ExperienceList(
            limit=limit,
            event_type=event_type,
            token_id=_optional_id(token_id),
            trajectory_id=trajectory_id,
            after=after,
        )
        return await self._answer(command, m.ExperienceListed)

    async def _answer(self, command: Command, cls: type[_T]) -> _T:
        reply = await self.request(command)
        if reply.type == m.TokenNotFound.TYPE:
            raise NotFound(structure(reply.payload, m.TokenNotFound).token_id)
        return structure(reply.payload, cls)
