"""Fixtures of the suite: the actors, the real server, the relay in front of it, and scripted servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from attrs import define

from tests.client.fakes import Peer, Script, serve
from tests.client.relay import Relay
from tests.conformance.actors import ALL, Actor, Process
from tests.servers import Running, running_server


@pytest.fixture(scope="session")
def processes() -> Iterator[dict[str, Process]]:
    """The actors that run, by kind; each is started by the first scenario that wants it."""
    running: dict[str, Process] = {}
    yield running
    for process in running.values():
        process.stop()


@pytest.fixture(params=ALL)
def process(processes: dict[str, Process], request: pytest.FixtureRequest) -> Process:
    """One actor's process after another, started where it does not run yet."""
    kind = request.param
    if kind not in processes:
        processes[kind] = Process(kind)
    return processes[kind]


@pytest.fixture
async def actor(process: Process) -> AsyncIterator[Actor]:
    """One actor after another, for this scenario."""
    actor = Actor(process)
    yield actor
    await actor.close()


@pytest.fixture
async def real(database_url: str) -> AsyncIterator[Running]:
    """The real server, on a fresh database."""
    async with running_server(database_url) as running:
        yield running


@define
class Relayed:
    """A relay and its address."""

    relay: Relay
    url: str


@pytest.fixture
async def relayed(real: Running, nursery: trio.Nursery) -> Relayed:
    """The real server behind a relay."""
    relay = Relay(int(real.url.split(":")[2].split("/")[0]))
    return Relayed(relay, await nursery.start(relay.run))


Scripted = Callable[..., Awaitable[str]]


@pytest.fixture
def scripted(nursery: trio.Nursery) -> Scripted:
    """Starts a scripted server and returns its URL: one script for each connection, the last for all that follow."""

    async def start(*scripts: Script, **options: Any) -> str:
        left = list(scripts)

        async def script(peer: Peer) -> None:
            await (left.pop(0) if len(left) > 1 else left[0])(peer)

        return await serve(nursery, script, **options)

    return start
