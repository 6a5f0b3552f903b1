"""A node without sockets, and a peer that speaks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.nodes import Node, Peer, open_node


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Node]:
    async with open_node(database_url) as node:
        yield node


@pytest.fixture
def peer(node: Node) -> Peer:
    return node.peer()
