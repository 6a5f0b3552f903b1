"""The stream below trio-websocket: what is sent together, and that nothing of it stays behind."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

import ngos.client.trio
from ngos.client.address import Address
from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectionLost
from ngos.client.session import Session, State
from ngos.client.trio_connection import Line
from ngos.client.trio_socket import HELD_BYTES, WatchedStream
from tests.client.fakes import Peer, envelope, greeting, serve


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


class Crossing:
    """A socket whose one message comes when `left` is set, cancelled or not."""

    def __init__(self, left: trio.Event) -> None:
        self._left = left

    async def get_message(self) -> str:
        with trio.CancelScope(shield=True):
            await self._left.wait()
        return json.dumps(envelope("x", {}, topic="chat"))


async def test_a_message_that_crosses_the_end_of_its_connection(nursery: trio.Nursery) -> None:
    """Tries to have a message that was read too late taken for the next connection's greeting."""
    left = trio.Event()
    session = Session(callbacks=Callbacks(disconnected=lambda *_: left.set()))
    session.receive(json.dumps(greeting()))
    line = Line(session, Address.of("ws://127.0.0.1/", None, None, 1.0), on_defect=nursery.cancel_scope.cancel)
    async with trio.open_nursery() as serving:
        serving.start_soon(line._serve, Crossing(left), WatchedStream(Writes()))
        await trio.testing.wait_all_tasks_blocked()
        session.end_connection(ConnectionLost(4408, ""))
        line._over.set()
    assert State.RECONNECTING is session.state
