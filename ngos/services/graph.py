"""The graph: edges between tokens, their rules and their SQL (protocol.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import orjson
from attrs import define

from ngos.log.committer import Outcome
from ngos.log.store import Connection, json_parameter, json_text
from ngos.postgres.pool import Pool
from ngos.protocol.commands import GraphConnect, GraphDegree, GraphDisconnect, GraphNeighbors
from ngos.protocol.faults import ClientError, ErrorCode
from ngos.protocol.messages import (
    GraphConnected,
    GraphDegreeCounted,
    GraphDisconnected,
    GraphNeighborsListed,
    GraphNotFound,
    Reply,
    TokenNotFound,
)
from ngos.protocol.values import Neighbor, Position
from ngos.services.handlers import reads, writes
from ngos.services.identity import uuid7

_CONNECT: Final = """
with new as (
    select * from json_to_recordset(%s::json) as new(connection_id uuid, source_id uuid, target_id uuid, type text,
        weight float8, bidirectional boolean, metadata text)
), ends as materialized (
    select token_id from tokens
    where token_id in (select source_id from new union select target_id from new)
    order by token_id for key share
), made as (
    insert into edges (connection_id, source_id, target_id, type, weight, bidirectional, metadata)
    select connection_id, source_id, target_id, type, weight, bidirectional, metadata::json from new
    where source_id in (select token_id from ends) and target_id in (select token_id from ends)
    on conflict (source_id, target_id, type) do nothing
    returning connection_id, created_at
)
select new.connection_id, made.created_at,
    case when source_id not in (select token_id from ends) then source_id
        when target_id not in (select token_id from ends) then target_id end as missing,
    (select first.connection_id from edges as first
        where (first.source_id, first.target_id, first.type) = (new.source_id, new.target_id, new.type)) as first
from new left join made using (connection_id)
"""

# Not one condition with `or`: for that there is no index.
_FIND: Final = """
select connection_id, source_id, target_id, type from edges
where connection_id in (
    select unnest(%s::uuid[])
    union
    select connection_id from edges join unnest(%s::uuid[], %s::uuid[]) as named(source_id, target_id)
        using (source_id, target_id)
)
order by connection_id for update
"""

_DISCONNECT: Final = "delete from edges where connection_id = any(%s::uuid[])"

_NEIGHBORS: Final = """
select epoch, seq, exists(select from tokens where token_id = %(token_id)s), edge.*
from topics left join lateral (
    select connection_id, source_id, target_id, type, weight, bidirectional, metadata::text, created_at from edges
    where {condition} order by created_at, connection_id limit %(limit)s offset %(offset)s
) as edge on true
where topic = 'graph' order by edge.created_at, edge.connection_id
"""

_DIRECTIONS: Final = {
    "outgoing": "(source_id = %(token_id)s or (target_id = %(token_id)s and bidirectional))",
    "incoming": "(target_id = %(token_id)s or (source_id = %(token_id)s and bidirectional))",
    "both": "(source_id = %(token_id)s or target_id = %(token_id)s)",
}

_DEGREE: Final = """
select count(*) filter (where target_id = %(token_id)s or bidirectional),
    count(*) filter (where source_id = %(token_id)s or bidirectional), count(*)
from edges where source_id = %(token_id)s or target_id = %(token_id)s
"""


@define(eq=False)
class Graph:
    """The graph service; paths are found in `paths`."""

    _pool: Pool

    @writes(GraphConnect, key=lambda command: (command.source_id, command.target_id, command.type))
    async def connect(self, conn: Connection, commands: Sequence[GraphConnect]) -> Sequence[Outcome]:
        ids = [uuid7() for _ in commands]
        rows = [
            {
                "connection_id": connection_id,
                "source_id": command.source_id,
                "target_id": command.target_id,
                "type": command.type,
                "weight": command.weight,
                "bidirectional": command.bidirectional,
                "metadata": json_text(command.metadata),
            }
            for connection_id, command in zip(ids, commands, strict=True)
        ]
        cursor = await conn.execute(_CONNECT, [json_parameter(rows)])
        found = {row[0]: row[1:] for row in await cursor.fetchall()}
        outcomes = []
        for connection_id, command in zip(ids, commands, strict=True):
            created_at, missing, first = found[connection_id]
            if created_at is not None:
                event = GraphConnected(
                    connection_id=connection_id,
                    source_id=command.source_id,
                    target_id=command.target_id,
                    type=command.type,
                    weight=command.weight,
                    bidirectional=command.bidirectional,
                    metadata=command.metadata,
                    created_at=created_at,
                )
                outcomes.append(Outcome(event, (event,)))
            elif missing is not None:
                outcomes.append(Outcome(TokenNotFound(token_id=missing)))
            elif first is None:
                # Made by another node since the statement above began, which can't see it: a new statement can.
                outcomes.extend(await self.connect(conn, [command]))
            else:
                message = "these tokens are connected by an edge of this type"
                outcomes.append(Outcome(ClientError(ErrorCode.CONFLICT, message, connection_id=first)))
        return outcomes

    @writes(GraphDisconnect)
    async def disconnect(self, conn: Connection, commands: Sequence[GraphDisconnect]) -> Sequence[Outcome]:
        by_ends = [command for command in commands if command.connection_id is None]
        parameters = [
            [command.connection_id for command in commands if command.connection_id is not None],
            [command.source_id for command in by_ends],
            [command.target_id for command in by_ends],
        ]
        rows = await (await conn.execute(_FIND, parameters)).fetchall()
        present = [
            GraphDisconnected(connection_id=row[0], source_id=row[1], target_id=row[2], type=row[3]) for row in rows
        ]
        by_id = {edge.connection_id: edge for edge in present}
        between: dict[tuple[UUID | None, UUID | None], dict[str, GraphDisconnected]] = {}
        for edge in present:
            between.setdefault((edge.source_id, edge.target_id), {})[edge.type] = edge
        gone: list[UUID] = []
        outcomes = []
        for command in commands:
            parallel = between.get((command.source_id, command.target_id), {})
            if command.connection_id is not None:
                match = by_id.get(command.connection_id)
            elif command.type is not None:
                match = parallel.get(command.type)
            elif len(parallel) <= 1:
                match = next(iter(parallel.values()), None)
            else:
                message = "more than one edge connects these tokens: name its type, or use connection_id"
                outcomes.append(Outcome(ClientError(ErrorCode.CONFLICT, message, types=sorted(parallel)[:10])))
                continue
            if match is None:
                reply = GraphNotFound(
                    connection_id=command.connection_id,
                    source_id=command.source_id,
                    target_id=command.target_id,
                    type=command.type,
                )
                outcomes.append(Outcome(reply))
            else:
                del by_id[match.connection_id], between[match.source_id, match.target_id][match.type]
                gone.append(match.connection_id)
                outcomes.append(Outcome(match, (match,)))
        await conn.execute(_DISCONNECT, [gone])
        return outcomes

    @reads(GraphNeighbors)
    async def neighbors(self, command: GraphNeighbors) -> Reply:
        query, parameters = neighbors_query(command)
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(query, parameters)).fetchall()
        epoch, seq, exists = rows[0][:3]
        if not exists:
            return TokenNotFound(token_id=command.token_id)
        neighbors = tuple(_neighbor(row[3:], command.token_id) for row in rows if row[3] is not None)
        return GraphNeighborsListed(
            token_id=command.token_id,
            neighbors=neighbors,
            count=len(neighbors),
            position=Position(topic="graph", epoch=epoch, seq=seq),
        )

    @reads(GraphDegree)
    async def degree(self, command: GraphDegree) -> Reply:
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_DEGREE, {"token_id": command.token_id})).fetchone()
        assert row is not None
        return GraphDegreeCounted(token_id=command.token_id, incoming=row[0], outgoing=row[1], total=row[2])


def neighbors_query(command: GraphNeighbors) -> tuple[str, dict[str, Any]]:
    """The one statement, and so the one snapshot, that reads the edges and the position they are true at."""
    condition = _DIRECTIONS[command.direction]
    parameters: dict[str, Any] = {"token_id": command.token_id, "limit": command.limit, "offset": command.offset}
    if command.type is not None:
        condition += " and type = %(type)s"
        parameters["type"] = command.type
    return _NEIGHBORS.format(condition=condition), parameters


def _neighbor(row: tuple[Any, ...], token_id: UUID) -> Neighbor:
    connection_id, source_id, target_id, type_, weight, bidirectional, metadata, created_at = row
    return Neighbor(
        connection_id=connection_id,
        source_id=source_id,
        target_id=target_id,
        type=type_,
        weight=weight,
        bidirectional=bidirectional,
        metadata=orjson.loads(metadata),
        created_at=created_at,
        neighbor_id=target_id if source_id == token_id else source_id,
    )
