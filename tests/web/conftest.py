"""A server to be attacked, and one to be shared by tests that leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import trio
from structlog.testing import capture_logs

from ngos.client.trio import connect
from tests.databases import TestServer
from tests.servers import Running, shared_server
from tests.web.wire import request


def tasks_of(task: trio.lowlevel.Task) -> int:
    """How many tasks there are below a task, itself included."""
    return 1 + sum(tasks_of(child) for nursery in task.child_nurseries for child in nursery.child_tasks)


def all_tasks() -> int:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return tasks_of(root)


async def settled(server: Running, tasks: int) -> None:
    """Wait until no connection, no subscription and no task is left of what a test did; else it runs into its limit."""
    while server.app.connections.open or all_tasks() > tasks:  # noqa: ASYNC110 - nobody could set an Event
        await trio.sleep(0.01)
    stats = (await request(server.http, "GET", "/ws/stats")).json
    assert {"active_connections": 0, "topics": {}, "total_subscriptions": 0} == stats


@pytest.fixture
async def target(server: Running) -> AsyncIterator[Running]:
    """A server that after the test must be as it was before: idle, whole, and without a defect in its log."""
    await request(server.http, "GET", "/livez")
    tasks = all_tasks()
    with capture_logs() as logs:
        yield server
        with trio.fail_after(10):
            await settled(server, tasks)
        async with connect(server.url) as client:
            await client.ping()
    assert [] == [line for line in logs if line["log_level"] in ("error", "critical") or "exc_info" in line]


@pytest.fixture(scope="module")
def shared(postgres_server: TestServer) -> Iterator[Running]:
    """A server for a whole module."""
    with shared_server(postgres_server) as running:
        yield running
