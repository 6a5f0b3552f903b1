"""The sending half by itself, over a real pair of sockets; with the channel around it, test_channel and test_tls."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from ngos.gateway.sender import Sender
from ngos.gateway.wire import text_frame

FRAMES = text_frame(b"a" * 200_000) + text_frame(b"b")


@define(eq=False)
class Pair:
    """A sender, and the socket at its other end."""

    peer: socket.socket
    cuts: int = 0
    sender: Sender = field(init=False)

    def cut(self) -> None:
        self.cuts += 1

    async def read(self, size: int) -> bytes:
        """So many bytes, as slowly as one can."""
        got = b""
        while len(got) < size:
            await trio.lowlevel.wait_readable(self.peer)
            got += self.peer.recv(4096)
            await wait_all_tasks_blocked()
        return got


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pair = Pair(theirs)
    pair.sender = Sender(ours, None, pair.cut)
    yield pair
    theirs.close()
    ours.close()


async def test_the_last_bytes_come_between_frames_and_nothing_follows(pair: Pair) -> None:
    """Tries to have a Close cut a frame in two, be said twice, or be followed by frames that waited or come later."""
    sender = pair.sender
    left = sender.try_send(FRAMES)
    assert text_frame(b"b") == left
    sender.say(b"close", is_last=True)
    sender.say(b"close", is_last=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send, left)
        expected = FRAMES.removesuffix(left) + b"close"
        assert expected == await pair.read(len(expected))
    assert sender.try_send(FRAMES) is None
    await sender.send(FRAMES)
    assert sender.send_now is None
    assert not sender.owes
    with pytest.raises(BlockingIOError):
        pair.peer.recv(1)


async def test_what_is_owed_is_left_to_the_app_that_holds(pair: Pair) -> None:
    """Tries to have the rest of a frame sent by itself while the app's writer is about to, or never at the end."""
    sender = pair.sender
    sender.try_send(FRAMES)
    sender.hold(True)
    await sender.send_owed()
    assert sender.owes
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(sender.send_owed, though_held=True))
        await pair.read(len(FRAMES) - len(text_frame(b"b")))
    assert not sender.owes


async def test_a_slow_reader_shows_that_it_reads(pair: Pair, autojump_clock: MockClock) -> None:
    """Tries to be taken for dead while reading, because what is read is not a whole frame yet."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.sender.send, FRAMES)
        await wait_all_tasks_blocked()
        assert pair.sender.took_at < 0
        autojump_clock.jump(10)
        await pair.read(100_000)
        assert trio.current_time() == pair.sender.took_at
        assert 0 == pair.cuts
        nursery.cancel_scope.cancel()


async def test_a_socket_that_fails_is_cut(pair: Pair) -> None:
    """Tries to have what can't be sent wait for ever, or raise in the midst of those who send to others too."""
    pair.peer.close()
    assert pair.sender.try_send(FRAMES) is None
    assert 1 == pair.cuts
    await pair.sender.send(FRAMES)
    assert not pair.sender.owes
