"""The stream below trio-websocket: what is sent together, and that nothing of it stays behind."""

from __future__ import annotations

import pytest
import trio

import ngos.client.trio
from ngos.client.trio_socket import HELD_BYTES, WatchedStream
from tests.client.fakes import Peer, serve


class Writes(trio.abc.Stream):
    """Keeps each write as it came."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.writes.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_follows_at_once_is_sent_with_it() -> None:
    """Tries to send frame by frame what is there already, out of order, or to keep the last of it."""
    below = Writes()
    stream = WatchedStream(below)
    left = [b"a", b"b", b"c"]
    while left:
        frame = left.pop(0)
        stream.more = lambda: bool(left)
        await stream.send_all(frame)
    assert [b"abc"] == below.writes
    await stream.send_all(b"d")
    assert [b"abc", b"d"] == below.writes


async def test_what_is_held_goes_out_with_what_another_sends() -> None:
    """Tries to keep a frame for ever whose sender was told in between that the connection is being closed."""
    below = Writes()
    stream = WatchedStream(below)
    stream.more = lambda: True
    await stream.send_all(b"a")
    stream.more = None
    await stream.send_all(b"Close")
    assert [b"aClose"] == below.writes


async def test_no_more_is_held_than_that() -> None:
    """Tries to put an endless row of frames together, and to send none of them."""
    below = Writes()
    stream = WatchedStream(below)
    stream.more = lambda: True
    for _ in range(100):
        await stream.send_all(b"x" * 10_000)
    assert 100 * 10_000 - HELD_BYTES <= sum(map(len, below.writes))
    assert max(map(len, below.writes)) <= HELD_BYTES + 20_000


@pytest.mark.parametrize("count", [1, 2, 300])
async def test_a_server_that_closes_into_a_row_of_commands(nursery: trio.Nursery, count: int) -> None:
    """Tries to keep the answer to Close behind commands that are not sent any more: the server would wait for it."""
    answered = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.aclose(1008)
        answered.set()

    url = await serve(nursery, script)
    async with ngos.client.trio.connect(url) as client:
        pending = [client.queue("x") for _ in range(count)]
        for one in pending:
            with pytest.raises(ngos.client.ConnectionLost):
                await one.reply()
    with trio.fail_after(5):
        await answered.wait()
