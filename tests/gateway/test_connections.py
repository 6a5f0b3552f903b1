"""All connections together: who has to go when too much waits."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import trio

from ngos.config import Settings
from ngos.gateway.connection import Connection
from ngos.gateway.connections import Connections
from ngos.protocol.close import CloseCode
from ngos.protocol.parcel import Parcel
from tests.gateway.fakes import FakeTransport, connection_of


def connections(total_bytes: int) -> Connections:
    parts: Any = None
    settings = Settings(mailbox_total_bytes=total_bytes)
    return Connections(parts, parts, parts, parts, parts, parts, parts, settings, lambda: 0)


def waiting(all_of_them: Connections, size_bytes: int) -> Connection:
    """One of them, for which so much waits."""
    connection = connection_of(FakeTransport(blocked=True), backlog=all_of_them.backlog)
    all_of_them.open[uuid4()] = connection
    if size_bytes:
        connection.offer_events(Parcel((), size_bytes, b""))
    return connection


async def test_the_fullest_go_first(autojump_clock: trio.abc.Clock) -> None:
    """Tries to have one ended that reads, while others have more waiting; or more ended than must be."""
    node = connections(1 << 20)
    small = [waiting(node, 10_000) for _ in range(10)]
    large = [waiting(node, 300_000) for _ in range(3)]
    assert [None] * 13 == [connection.verdict for connection in small + large]
    last = waiting(node, 200_000)
    assert [None] * 11 == [connection.verdict for connection in [*small, last]]
    assert [CloseCode.TRY_AGAIN_LATER] * 3 == [connection.verdict for connection in large], "down to half of the limit"
    assert node.backlog.bytes == sum(connection.mailbox.size_bytes for connection in node.open.values())


async def test_those_who_are_ending_make_room_too(autojump_clock: trio.abc.Clock) -> None:
    """Tries to have idle ones ended for what waits for others that are ending already."""
    node = connections(1 << 20)
    closing = [waiting(node, 350_000) for _ in range(2)]
    for connection in closing:
        connection.end(CloseCode.RESTARTING)
    idle = [waiting(node, 0) for _ in range(5)]
    waiting(node, 400_000)
    assert [None] * 5 == [connection.verdict for connection in idle]
    assert node.backlog.bytes < 1 << 20
