"""What a connection leaves behind: nothing for the collector, which comes rarely to what has lived for a while."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest
import trio

from tests.servers import Running, only_frames
from tests.web.wire import frame, raw_socket

OURS = ("ngos.", "trio.", "hypercorn.", "h11.", "websockets.", "quart", "socket")


@pytest.fixture
def saved() -> Iterator[None]:
    """What the collector finds is kept in `gc.garbage`."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def come_and_go(server: Running, how: str) -> None:
    async with raw_socket(server.http) as socket:
        await socket.message()
        await socket.command("subscribe", {"topic": "tokens", "since": 0})
        await socket.command("token.create", {}, id="1")
        await socket.text("no JSON")
        for _ in range(4):
            await socket.message()
        if how == "close":
            await socket.frame(8, b"\x03\xe8")
            await socket.closed()
        elif how == "breach":
            await socket.stream.send_all(frame(3))
            await socket.closed()
    while server.app.connections.open or server.app.connections.door.open:
        await trio.testing.wait_all_tasks_blocked(0.005)


@only_frames
@pytest.mark.parametrize("how", ["cut", "close", "breach"])
async def test_nothing_waits_for_the_collector(server: Running, how: str, request: pytest.FixtureRequest) -> None:
    """Tries to leave a connection, or what it was made of, behind in a cycle of references."""
    await come_and_go(server, how)
    request.getfixturevalue("saved")
    for _ in range(3):
        await come_and_go(server, how)
    gc.collect()
    names = (f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    left = Counter(name for name in names if name.startswith(OURS))
    assert not left
