"""A node without sockets, and a peer that speaks to it.

Their database is emptied for each test, and not made anew: ten times as fast.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from tests.databases import TestServer
from tests.services.nodes import EMPTY, Node, Peer, open_node


@pytest.fixture(scope="session")
def reused_database_url(postgres_server: TestServer) -> Iterator[str]:
    """One database for all tests of these folders."""
    conninfo = postgres_server.create_database()
    yield conninfo
    postgres_server.drop_database(conninfo)


@pytest.fixture
def database_url(reused_database_url: str) -> str:
    """A database as it is after the migration."""
    with psycopg.connect(reused_database_url, autocommit=True) as admin:
        admin.execute(EMPTY)
    return reused_database_url


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Node]:
    async with open_node(database_url) as node:
        yield node


@pytest.fixture
def peer(node: Node) -> Peer:
    return node.peer()
