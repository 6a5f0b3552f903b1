"""A node without sockets, and a peer that speaks to it; what they log is kept out of the way."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from tests.services.conftest import database_url, node, peer, reused_database_url

__all__ = ["database_url", "node", "peer", "reused_database_url"]


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged: not rendered, because a rendered traceback takes a second."""
    with structlog.testing.capture_logs() as lines:
        yield lines
