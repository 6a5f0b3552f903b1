"""Tokens: their rules and their SQL (protocol.md section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import orjson
import trio
from attrs import define

from ngos.cache.answers import Answering, directly
from ngos.cache.entry import Found
from ngos.cache.tags import page_tags
from ngos.log import store
from ngos.log.batch import draft_of
from ngos.log.sql import Connection, Transaction, json_parameter, json_text
from ngos.log.store import LoggedEvent
from ngos.log.write import Encoded, Outcome, Write
from ngos.postgres.pool import Pool
from ngos.protocol.commands import TokenCreate, TokenDelete, TokenGet, TokenList, TokenUpdate
from ngos.protocol.faults import ClientError, ErrorCode
from ngos.protocol.messages import (
    GraphDisconnected,
    Reply,
    TokenCreated,
    TokenData,
    TokenDeleted,
    TokenListed,
    TokenNotFound,
    TokenUpdated,
)
from ngos.protocol.rules import UNSET
from ngos.protocol.values import Position, Space, Token, TokenHead
from ngos.services.handlers import reads, writes
from ngos.services.identity import uuid7
from ngos.services.pages import decode_cursor, encode_cursor

CASCADE_EDGES: Final = 50_000
"""Edges that a delete may cascade to. Each is an event: these take about two seconds, and 50 MB while it lasts."""
TURN: Final = 100
"""Tokens of a page that are made before other tasks get a turn: some 2 ms."""
PAGE_METADATA_BYTES: Final = 1024 * 1024
"""A page of whole tokens ends early where their metadata comes to more: `next` leads on."""

_HEAD = "token_id, type, weight, flags, version, created_at, updated_at"
_FULL = f"{_HEAD}, x, y, z, metadata::text as metadata"

_NEW = "token_id uuid, type text, weight float8, flags int8, x float8[], y float8[], z float8[], metadata text"
_INSERT = """
    insert into tokens (token_id, type, weight, flags, x, y, z, metadata, created_at, updated_at)
    select token_id, type, weight, flags, x, y, z, metadata::json, %(at)s, %(at)s from new order by token_id
"""
# With an id of the client's own it may exist already; with ours it can't.
CREATE: Final = store.insert_and_append(
    columns=_NEW, insert=f"{_INSERT} on conflict (token_id) do nothing", key="token_id"
)
CREATE_ALL: Final = store.insert_and_append_all(columns=_NEW, insert=_INSERT)

_UPDATE: Final = f"""
with change as (
    select * from json_to_recordset(%(changes)s::json) as change(token_id uuid, if_version int8, type text,
        weight float8, flags int8, x float8[], y float8[], z float8[], metadata text)
), present as (
    select token_id, version as version_before from tokens join change using (token_id)
    order by token_id for update of tokens
), changed as (
    update tokens set type = coalesce(change.type, tokens.type), weight = coalesce(change.weight, tokens.weight),
        flags = coalesce(change.flags, tokens.flags), x = coalesce(change.x, tokens.x),
        y = coalesce(change.y, tokens.y), z = coalesce(change.z, tokens.z),
        metadata = coalesce(change.metadata::json, tokens.metadata), version = version_before + 1, updated_at = %(at)s
    from change join present using (token_id)
    where tokens.token_id = change.token_id
        and (change.if_version is null or change.if_version = version_before)
    returning tokens.*
)
select present.token_id, version_before, changed.{_FULL} from present left join changed using (token_id)
"""

# First of all, and by itself: who connects one of them now waits, and who just did is seen by _DELETE_EDGES.
_LOCK: Final = "select token_id from tokens where token_id = any(%s::uuid[]) order by token_id for update"

_COUNT_EDGES: Final = """
select count(*) from (
    select from edges where source_id = any(%(ids)s::uuid[]) or target_id = any(%(ids)s::uuid[]) limit %(limit)s
) as edges
"""

_DELETE_EDGES: Final = """
delete from edges where source_id = any(%(ids)s::uuid[]) or target_id = any(%(ids)s::uuid[])
returning connection_id, source_id, target_id, type
"""

_DELETE: Final = "delete from tokens where token_id = any(%s::uuid[])"

_GET: Final = f"select {_FULL} from tokens where token_id = %s"


@define(eq=False)
class Tokens:
    """The token service."""

    _pool: Pool
    _answering: Answering = directly

    @writes(TokenCreate, key=lambda command: command.token_id, one_statement=True)
    async def create(self, tx: Transaction, writes: Sequence[Write[TokenCreate]]) -> Sequence[Outcome]:
        rows = []
        events = []
        for write in writes:
            command = write.command
            token_id = command.token_id or uuid7()
            rows.append(
                {
                    "token_id": token_id,
                    "type": command.type,
                    "weight": command.weight,
                    "flags": command.flags,
                    "x": command.coord_x,
                    "y": command.coord_y,
                    "z": command.coord_z,
                    "metadata": json_text(command.metadata),
                }
            )
            event = TokenCreated(
                token_id=token_id,
                type=command.type,
                weight=command.weight,
                flags=command.flags,
                version=1,
                created_at=tx.at,
                updated_at=tx.at,
                coordinates=Space(x=command.coord_x, y=command.coord_y, z=command.coord_z),
                metadata=command.metadata,
            )
            events.append(draft_of(event, write))
        if all(write.command.token_id is None for write in writes):
            logged = await store.insert_all_logged(tx, CREATE_ALL, rows, events)
            return [Outcome.of_logged(event) for event in logged]
        exists = ClientError(ErrorCode.CONFLICT, "a token with this token_id exists")
        return [
            Outcome.of_logged(result) if isinstance(result, LoggedEvent) else Outcome(exists)
            for result in await store.insert_logged(tx, CREATE, rows, events)
        ]

    @writes(TokenUpdate, key=lambda command: command.token_id)
    async def update(self, tx: Transaction, writes: Sequence[Write[TokenUpdate]]) -> Sequence[Outcome]:
        commands = [write.command for write in writes]
        names = {"coord_x": "x", "coord_y": "y", "coord_z": "z"}
        fields = ("token_id", "if_version", "type", "weight", "flags", "coord_x", "coord_y", "coord_z", "metadata")
        rows = [
            {names.get(name, name): value for name in fields if (value := getattr(command, name)) is not UNSET}
            for command in commands
        ]
        for change in rows:
            if "metadata" in change:
                change["metadata"] = json_text(change["metadata"])
        cursor = await tx.conn.execute(_UPDATE, {"changes": json_parameter(rows), "at": tx.at})
        found = {row[0]: row[1:] for row in await cursor.fetchall()}
        outcomes = []
        for command in commands:
            row = found.get(command.token_id)
            if row is None:
                outcomes.append(Outcome(TokenNotFound(token_id=command.token_id)))
            elif row[1] is None:
                refusal = ClientError(
                    ErrorCode.CONFLICT, f"if_version does not match: the version is {row[0]}", version=row[0]
                )
                outcomes.append(Outcome(refusal))
            else:
                event = TokenUpdated(**_full(row[1:]))
                outcomes.append(Outcome(event, (event,)))
        return outcomes

    @writes(TokenDelete, key=lambda command: command.token_id)
    async def delete(self, tx: Transaction, writes: Sequence[Write[TokenDelete]]) -> Sequence[Outcome]:
        ids = [write.command.token_id for write in writes]
        gone = {row[0] for row in await _rows(tx.conn, _LOCK, [ids])}
        cut: dict[UUID, list[GraphDisconnected]] = {token_id: [] for token_id in ids if token_id in gone}
        turn = {token_id: index for index, token_id in enumerate(cut)}
        ((edges,),) = await _rows(tx.conn, _COUNT_EDGES, {"ids": list(gone), "limit": CASCADE_EDGES + 1})
        if edges > CASCADE_EDGES:
            if len(writes) > 1:
                raise OverflowError("the deletes of a batch cascade to too many edges: one by one, they may not")
            message = f"the token has more than {CASCADE_EDGES} edges: disconnect some first"
            return [Outcome(ClientError(ErrorCode.CONFLICT, message))]
        deleted = await _rows(tx.conn, _DELETE_EDGES, {"ids": list(gone)})
        for count, (connection_id, source_id, target_id, type_) in enumerate(deleted, start=1):
            if count % store.TURN == 0:
                await trio.lowlevel.checkpoint()
            # An edge between two of the deleted goes with the first of them.
            owner = min((end for end in (source_id, target_id) if end in turn), key=turn.__getitem__)
            cut[owner].append(
                GraphDisconnected(connection_id=connection_id, source_id=source_id, target_id=target_id, type=type_)
            )
        await tx.conn.execute(_DELETE, [list(gone)])
        outcomes = []
        for token_id in ids:
            if token_id in gone:
                event = TokenDeleted(token_id=token_id)
                outcomes.append(Outcome(event, (event, *cut[token_id])))
            else:
                outcomes.append(Outcome(TokenNotFound(token_id=token_id)))
        return outcomes

    @reads(TokenGet)
    async def get(self, command: TokenGet) -> Reply:
        async with self._pool.connection() as conn:
            rows = await _rows(conn, _GET, [command.token_id])
        return TokenData(**_full(rows[0])) if rows else TokenNotFound(token_id=command.token_id)

    @reads(TokenList)
    async def list(self, command: TokenList) -> Reply | Encoded:
        return await self._answering(command, self._find_page)

    async def _find_page(self, command: TokenList) -> Found:
        query, parameters = list_query(command)
        async with self._pool.connection() as conn:
            rows = await _rows(conn, query, parameters)
        # The position is in every row, and there is one row, of nulls, where no token matches.
        epoch, seq, total = rows[0][:3]
        matches = [row[3:] for row in rows if row[3] is not None]
        page = matches[: command.limit]
        tokens = await _in_turns(page, _whole if command.full else _head)
        # One more than asked for was looked for; `available` counts also what PAGE_METADATA_BYTES left out.
        available = matches[0][-1] if command.full and matches else len(matches)
        position = Position(topic="tokens", epoch=epoch, seq=seq)
        reply = TokenListed(
            tokens=tokens,
            count=len(page),
            offset=command.offset,
            total=total,
            next=encode_cursor(page[-1][5], page[-1][0]) if available > len(page) else None,
            position=position,
        )
        return Found(reply, position, page_tags(command.type, [str(row[0]) for row in page]))


async def _in_turns(rows: Sequence[Any], make: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Make something of each row; a page of a thousand takes long enough that others must get a turn."""
    made = []
    for number, row in enumerate(rows, 1):
        made.append(make(row))
        if number % TURN == 0:
            await trio.lowlevel.checkpoint()
    return tuple(made)


def list_query(command: TokenList) -> tuple[str, dict[str, Any]]:
    """The one statement, and so the one snapshot, that reads a page and the position it is true at."""
    conditions = []
    parameters: dict[str, Any] = {"limit": command.limit + 1, "offset": command.offset}
    if command.type is not None:
        conditions.append("type = %(type)s")
        parameters["type"] = command.type
    of_type = "where " + conditions[0] if conditions else ""
    if command.after is not None:
        conditions.append("(created_at, token_id) < (%(created_at)s, %(token_id)s)")
        parameters["created_at"], parameters["token_id"] = decode_cursor(command.after)
    where = "where " + " and ".join(conditions) if conditions else ""
    page = f"""
        select {_FULL if command.full else _HEAD} from tokens {where}
        order by created_at desc, token_id desc limit %(limit)s offset %(offset)s
    """
    total = f"(select count(*) from tokens {of_type})" if command.total else "null::int8"
    if command.full:
        # A row is in the page if those before it leave room; so there is always a first.
        page = f"""
            select {_HEAD}, x, y, z, metadata, available from (
                select *, count(*) over () as available, sum(octet_length(metadata)) over (
                    order by created_at desc, token_id desc rows between unbounded preceding and 1 preceding
                ) as bytes_before from ({page}) as page
            ) as page where coalesce(bytes_before, 0) < {PAGE_METADATA_BYTES}
        """
    return (
        f"""
        select epoch, seq, {total}, page.* from topics left join lateral ({page}) as page on true
        where topic = 'tokens' order by page.created_at desc, page.token_id desc
        """,
        parameters,
    )


async def _rows(conn: Connection, query: str, parameters: Any) -> list[tuple[Any, ...]]:
    return await (await conn.execute(query, parameters)).fetchall()


def _head(row: tuple[Any, ...]) -> TokenHead:
    token_id, type_, weight, flags, version, created_at, updated_at = row
    return TokenHead(
        token_id=token_id,
        type=type_,
        weight=weight,
        flags=flags,
        version=version,
        created_at=created_at,
        updated_at=updated_at,
    )


def _whole(row: tuple[Any, ...]) -> Token:
    return Token(**_full(row))


def _full(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of `_FULL` as the fields of TOKEN."""
    token_id, type_, weight, flags, version, created_at, updated_at, x, y, z, metadata = row[:11]
    return {
        "token_id": token_id,
        "type": type_,
        "weight": weight,
        "flags": flags,
        "version": version,
        "created_at": created_at,
        "updated_at": updated_at,
        "coordinates": Space(x=tuple(x), y=tuple(y), z=tuple(z)),
        "metadata": orjson.loads(metadata),
    }
