"""The graph: edges between tokens, their rules and their SQL (protocol.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import attrs
import orjson
from attrs import define

from ngos.cache.answers import Answering, directly
from ngos.cache.entry import Found
from ngos.cache.tags import edges_tags
from ngos.log import store
from ngos.log.batch import draft_of
from ngos.log.sql import Transaction, json_text
from ngos.log.store import LoggedEvent
from ngos.log.write import Encoded, Outcome, Write
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

CONNECT: Final = store.insert_and_append(
    columns="""connection_id uuid, source_id uuid, target_id uuid, type text, weight float8, bidirectional boolean,
        metadata text""",
    before="""ends as materialized (
        select token_id from tokens
        where token_id in (select source_id from new union select target_id from new)
        order by token_id for key share
    ),""",
    insert="""
        insert into edges (connection_id, source_id, target_id, type, weight, bidirectional, metadata, created_at)
        select connection_id, source_id, target_id, type, weight, bidirectional, metadata::json, %(at)s from new
        where source_id in (select token_id from ends) and target_id in (select token_id from ends)
        order by source_id, target_id, type on conflict (source_id, target_id, type) do nothing
    """,
    key="connection_id",
    refusal="""
        case when source_id not in (select token_id from ends) then source_id
            when target_id not in (select token_id from ends) then target_id end as missing,
        (select first.connection_id from edges as first where (first.source_id, first.target_id, first.type)
            = (new.source_id, new.target_id, new.type)) as first
    """,
)

_FIRST: Final = "select connection_id from edges where (source_id, target_id, type) = (%s, %s, %s)"

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
select epoch, seq, edge.* from topics cross join (
    select count(*) filter (where target_id = %(token_id)s or bidirectional),
        count(*) filter (where source_id = %(token_id)s or bidirectional), count(*)
    from edges where source_id = %(token_id)s or target_id = %(token_id)s
) as edge
where topic = 'graph'
"""


@define(eq=False)
class Graph:
    """The graph service; paths are found in `paths`."""

    _pool: Pool
    _answering: Answering = directly

    @writes(GraphConnect, key=lambda command: (command.source_id, command.target_id, command.type), one_statement=True)
    async def connect(self, tx: Transaction, writes: Sequence[Write[GraphConnect]]) -> Sequence[Outcome]:
        rows = []
        events = []
        for write in writes:
            fields = attrs.asdict(write.command, recurse=False) | {"connection_id": uuid7()}
            rows.append(fields | {"metadata": json_text(write.command.metadata)})
            events.append(draft_of(GraphConnected(**fields, created_at=tx.at), write))
        outcomes: list[Outcome] = []
        for write, result in zip(writes, await store.insert_logged(tx, CONNECT, rows, events), strict=True):
            if isinstance(result, LoggedEvent):
                outcomes.append(Outcome.of_logged(result))
                continue
            missing, first = result
            if missing is not None:
                outcomes.append(Outcome(TokenNotFound(token_id=missing)))
                continue
            if first is None:
                # Made by another node since the statement above began, which can't see it: a new statement can. It
                # only reads: the one above may be committed.
                ends = [write.command.source_id, write.command.target_id, write.command.type]
                row = await (await tx.conn.execute(_FIRST, ends)).fetchone()
                first = row[0] if row is not None else None  # or gone again
            message = "these tokens are connected by an edge of this type"
            outcomes.append(Outcome(ClientError(ErrorCode.CONFLICT, message, connection_id=first)))
        return outcomes

    @writes(GraphDisconnect)
    async def disconnect(self, tx: Transaction, writes: Sequence[Write[GraphDisconnect]]) -> Sequence[Outcome]:
        commands = [write.command for write in writes]
        by_ends = [command for command in commands if command.connection_id is None]
        parameters = [
            [command.connection_id for command in commands if command.connection_id is not None],
            [command.source_id for command in by_ends],
            [command.target_id for command in by_ends],
        ]
        rows = await (await tx.conn.execute(_FIND, parameters)).fetchall()
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
        await tx.conn.execute(_DISCONNECT, [gone])
        return outcomes

    @reads(GraphNeighbors)
    async def neighbors(self, command: GraphNeighbors) -> Reply | Encoded:
        return await self._answering(command, self._find_neighbors)

    async def _find_neighbors(self, command: GraphNeighbors) -> Reply | Found:
        query, parameters = neighbors_query(command)
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(query, parameters)).fetchall()
        epoch, seq, exists = rows[0][:3]
        if not exists:
            return TokenNotFound(token_id=command.token_id)
        neighbors = tuple(_neighbor(row[3:], command.token_id) for row in rows if row[3] is not None)
        position = Position(topic="graph", epoch=epoch, seq=seq)
        reply = GraphNeighborsListed(
            token_id=command.token_id, neighbors=neighbors, count=len(neighbors), position=position
        )
        # Of a token without edges the graph does not tell when it is deleted.
        return Found(reply, position, edges_tags(str(command.token_id))) if neighbors else reply

    @reads(GraphDegree)
    async def degree(self, command: GraphDegree) -> Reply | Encoded:
        return await self._answering(command, self._find_degree)

    async def _find_degree(self, command: GraphDegree) -> Found:
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_DEGREE, {"token_id": command.token_id})).fetchone()
        assert row is not None
        epoch, seq, incoming, outgoing, total = row
        reply = GraphDegreeCounted(token_id=command.token_id, incoming=incoming, outgoing=outgoing, total=total)
        return Found(reply, Position(topic="graph", epoch=epoch, seq=seq), edges_tags(str(command.token_id)))


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
