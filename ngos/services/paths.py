"""Shortest paths through the graph (`graph.path`): breadth first from both ends, a query a step."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import trio
from attrs import define

from ngos.cache.answers import Answering, directly
from ngos.cache.entry import Found
from ngos.cache.tags import path_tags
from ngos.log import store
from ngos.log.sql import Connection
from ngos.log.write import Encoded
from ngos.postgres.pool import Pool
from ngos.protocol.commands import GraphPath
from ngos.protocol.faults import CommandFailed, ErrorCode
from ngos.protocol.messages import GraphPathFound, Reply
from ngos.protocol.values import Position
from ngos.services.handlers import reads

SEEN_TOKENS: Final = 50_000
"""What one search may hold in memory, about 10 MB; past it the client is told to ask for less."""
TURN: Final = 1000
"""Rows that are read before other tasks get a turn."""

# An edge leads from source to target, and back where it is bidirectional. Of parallel edges, one is enough. The tokens
# already seen stay in Python: sending them with each step would cost more than reading a few twice.
_STEP: Final = """
select distinct on (far) near, far from (
    select {near} as near, {far} as far from edges where {near} = any(%(ids)s::uuid[])
    union all
    select {far}, {near} from edges where {far} = any(%(ids)s::uuid[]) and bidirectional
) as steps
order by far, near limit %(limit)s
"""
FORWARD: Final = _STEP.format(near="source_id", far="target_id")
BACKWARD: Final = _STEP.format(near="target_id", far="source_id")
EXISTS: Final = "select from tokens where token_id = %s"


@define(eq=False)
class Side:
    """One end's search: the tokens it has come to, each with the one it came from, and those it came to last."""

    query: str
    came_from: dict[UUID, UUID | None]
    frontier: list[UUID]

    async def step(self, conn: Connection) -> None:
        """Go one edge further."""
        # One more than may be seen: a step that is cut short is never taken for a whole one.
        cursor = await conn.execute(self.query, {"ids": self.frontier, "limit": SEEN_TOKENS + 1})
        self.frontier = []
        while rows := await cursor.fetchmany(TURN):
            for near, far in rows:
                if far not in self.came_from:
                    self.came_from[far] = near
                    self.frontier.append(far)
            await trio.lowlevel.checkpoint()

    def way(self, token_id: UUID) -> list[UUID]:
        """The tokens from this one back to this side's end."""
        way = [token_id]
        while (before := self.came_from[way[-1]]) is not None:
            way.append(before)
        return way


@define(eq=False)
class Paths:
    """The path service."""

    _pool: Pool
    _answering: Answering = directly

    @reads(GraphPath)
    async def path(self, command: GraphPath) -> Reply | Encoded:
        return await self._answering(command, self._find_path)

    async def _find_path(self, command: GraphPath) -> Reply | Found:
        async with self._pool.connection() as conn:
            # One snapshot for all steps: no path through edges that were never there at the same time.
            await conn.execute("begin isolation level repeatable read read only")
            extent = (await store.read_extents(conn, ["graph"]))["graph"]
            path = await _search(conn, command)
            await conn.execute("commit")
        reply = GraphPathFound(
            source_id=command.source_id,
            target_id=command.target_id,
            path=None if path is None else tuple(path),
            length=None if path is None else len(path) - 1,
        )
        if command.source_id == command.target_id:
            return reply  # whether there is such a token: not a matter of the graph
        position = Position(topic="graph", epoch=extent.epoch, seq=extent.seq)
        return Found(reply, position, path_tags(None if path is None else [str(token_id) for token_id in path]))


async def _search(conn: Connection, command: GraphPath) -> list[UUID] | None:
    if command.source_id == command.target_id:
        row = await (await conn.execute(EXISTS, [command.source_id])).fetchone()
        return None if row is None else [command.source_id]
    forward = Side(FORWARD, {command.source_id: None}, [command.source_id])
    backward = Side(BACKWARD, {command.target_id: None}, [command.target_id])
    for _ in range(command.max_depth):
        side, other = (forward, backward) if len(forward.frontier) <= len(backward.frontier) else (backward, forward)
        await side.step(conn)
        meeting = [token_id for token_id in side.frontier if token_id in other.came_from]
        if meeting:
            middle = min(meeting)
            return forward.way(middle)[::-1] + backward.way(middle)[1:]
        if not side.frontier:
            return None
        if len(forward.came_from) + len(backward.came_from) > SEEN_TOKENS:
            raise CommandFailed(
                ErrorCode.UNAVAILABLE, f"the search came to more than {SEEN_TOKENS} tokens: ask for a lower max_depth"
            )
    return None
