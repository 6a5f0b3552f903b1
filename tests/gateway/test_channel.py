"""Frames over a real pair of sockets; the other end is the client side of the `websockets` core."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from ngos.gateway.channel import CAREFUL_READ_BYTES, READ_BYTES, VANISHED, FrameChannel, Received
from ngos.gateway.core import Core
from ngos.gateway.wire import deflate, frame_end, text_frame


class Peer:
    """A client at the other end of a channel."""

    def __init__(self, max_size: int = 65536) -> None:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.socket = trio.socket.from_stdlib_socket(theirs)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.channel = FrameChannel(stream, Core(max_size))
        self.protocol = Protocol(Side.CLIENT, max_size=None)

    async def frames(self) -> list[Frame]:
        """Read once, and return the frames that are complete."""
        self.protocol.receive_data(await self.socket.recv(1 << 20))
        return [event for event in self.protocol.events_received() if isinstance(event, Frame)]

    async def frames_until(self, count: int) -> list[Frame]:
        frames: list[Frame] = []
        while len(frames) < count:
            frames += await self.frames()
        return frames


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.socket.close()
    peer.channel.abort()


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def received(channel: FrameChannel) -> list[Received]:
    """All that was fed and not received yet."""
    messages = list(reversed(channel.unread))
    channel.unread.clear()
    return messages


messages = st.lists(st.tuples(st.text(max_size=300), st.integers(1, 4)), min_size=1, max_size=10)


@settings(deadline=None)
@given(messages, st.data())
def test_bytes_may_be_cut_anywhere(texts: list[tuple[str, int]], data: st.DataObject) -> None:
    """Tries to lose or change a message by fragmenting it, and by cutting the stream at any byte."""
    wire = b""
    for text, fragments in texts:
        encoded = text.encode()
        size = -(-len(encoded) // fragments) or 1
        parts = [encoded[i : i + size] for i in range(0, len(encoded), size)] or [b""]
        for index, part in enumerate(parts):
            wire += masked(Opcode.TEXT if index == 0 else Opcode.CONT, part, fin=index == len(parts) - 1)
            wire += masked(Opcode.PONG, b"")  # control frames come between fragments
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=20)))

    async def feed() -> list[Received]:
        peer = Peer()
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            peer.channel.feed(wire[start:end])
        messages = received(peer.channel)
        peer.channel.abort()
        peer.socket.close()
        return messages

    assert [Received(text.encode(), is_text=True) for text, _ in texts] == trio.run(feed)


async def test_what_the_kernel_does_not_take_is_sent_later(peer: Peer) -> None:
    """Tries to lose, repeat or tear bytes where a write is cut short, with Pongs due in the midst of it."""
    wire = b"".join(text_frame(b"%d" % number * 1000) for number in range(100))
    left = peer.channel.sender.try_send(wire)
    assert left is not None
    assert 0 < len(left) < len(wire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.channel.sender.send, left)
        await wait_all_tasks_blocked()
        assert b"x" == peer.channel.sender.try_send(b"x")
        peer.channel.feed(masked(Opcode.PING, b"now"))
        frames = await peer.frames_until(101)
    assert [b"%d" % number * 1000 for number in range(100)] == [f.data for f in frames if f.opcode is Opcode.TEXT]
    assert [b"now"] == [f.data for f in frames if f.opcode is Opcode.PONG]


async def test_a_flood_of_pings_that_is_not_read(peer: Peer) -> None:
    """Tries to fill the memory with Pongs for a peer that does not read them."""
    for _ in range(10_000):
        peer.channel.feed(masked(Opcode.PING, b"x" * 125))
    assert len(peer.channel.sender._control) < 2048


async def test_a_peer_that_does_not_read_is_cut(peer: Peer) -> None:
    """Tries to keep a connection by not taking in the rest of a frame, and the Close behind it."""
    with trio.move_on_after(0.01) as scope:
        await peer.channel.sender.send(text_frame(b"x" * 10_000_000))
    assert scope.cancelled_caught
    with trio.move_on_after(0.01) as scope:
        await peer.channel.close(1013, "slow")
    assert scope.cancelled_caught
    assert -1 == peer.channel._socket.fileno()


@pytest.mark.parametrize("by_try_send", [False, True])
async def test_a_slow_peer_hears_the_close_after_the_frame(peer: Peer, by_try_send: bool) -> None:
    """Tries to have a Close sent in the midst of a frame, or not at all, to a peer that reads again at last."""
    wire = text_frame(b"a" * 50_000) + text_frame(b"b" * 2_000_000) + text_frame(b"c")
    if by_try_send:
        left = peer.channel.sender.try_send(wire)
        assert left is not None
    else:
        with trio.move_on_after(0.01):
            await peer.channel.sender.send(wire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.channel.close, 1013, "slow")
        frames: list[Frame] = []
        while not frames or frames[-1].opcode is not Opcode.CLOSE:
            frames += await peer.frames()
        await _send_all(peer, masked(Opcode.CLOSE, frames[-1].data))
    assert [50_000, 2_000_000][: len(frames) - 1] == [len(frame.data) for frame in frames[:-1]]
    assert 1013 == int.from_bytes(frames[-1].data[:2], "big")


@given(st.lists(st.binary(max_size=70_000), max_size=5), st.data())
def test_the_end_of_a_frame(messages: list[bytes], data: st.DataObject) -> None:
    """Tries to find a place in a row of frames of which the wrong end is told."""
    frames = [text_frame(message) for message in messages]
    ends = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    at = data.draw(st.integers(0, ends[-1]))
    start = data.draw(st.sampled_from([end for end in ends if end <= at]))
    assert min(end for end in ends if end >= at) == frame_end(b"".join(frames), start, at)


async def test_nothing_goes_ahead_of_what_waits(peer: Peer) -> None:
    """Tries to have a frame sent at once while others wait, whoever holds them: the app, the channel, or a `send`."""
    channel = peer.channel
    assert channel.sender.send_now is not None
    channel.sender.hold(True)
    assert channel.sender.send_now is None
    channel.sender.hold(False)
    left = channel.sender.try_send(text_frame(b"x" * 1_000_000))
    assert b"" == left
    assert channel.sender.send_now is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.sender.send, left)
        await peer.frames_until(1)
    assert channel.sender.send_now is not None
    channel.gone()
    assert channel.sender.send_now is None


async def test_a_peer_that_is_gone(peer: Peer) -> None:
    """Tries to get a message, or anything but the end, from a connection that the peer has cut."""
    peer.socket.close()
    with pytest.raises(trio.EndOfChannel):
        await peer.channel.receive()
    assert VANISHED == peer.channel.end_code
    await peer.channel.sender.send(text_frame(b"x"))
    await peer.channel.close(1000, "")


async def test_a_cut_in_the_midst_of_sending_what_is_owed(peer: Peer) -> None:
    """Tries to have a socket waited for that was closed while the reader sent what it owed."""
    peer.channel.take()
    await peer.channel.send_answer(b"HTTP/1.1 101 x\r\n\r\n")
    ends = []

    async def read() -> None:
        with pytest.raises(trio.EndOfChannel):
            await peer.channel.read()
        ends.append("read")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.lowlevel.checkpoint()
        peer.channel.abort()
    assert ["read"] == ends


async def test_a_close_is_not_lost_to_a_cancelled_send(peer: Peer) -> None:
    """Tries to lose the answer to a Close that a `send` had taken along, cancelled before a byte of it was sent."""
    wire = text_frame(b"x" * 200_000)
    write, room = peer.channel.sender._write_socket, len(wire)

    def write_no_more_than_the_frame(data: bytes | memoryview) -> int:
        nonlocal room
        if room == 0:
            raise BlockingIOError
        sent = write(data[:room])
        room -= sent
        return sent

    peer.channel.sender._write_socket = write_no_more_than_the_frame
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.channel.sender.send, wire)
        await wait_all_tasks_blocked()
        peer.channel.feed(masked(Opcode.PING, b"!!") + masked(Opcode.CLOSE, b"\x03\xe8"))
        frames = await peer.frames_until(1)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    peer.channel.sender._write_socket = write
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.channel.close, 1000, "")
            frames += await peer.frames_until(2)
    assert [Opcode.TEXT, Opcode.PONG, Opcode.CLOSE] == [frame.opcode for frame in frames]


async def test_what_one_read_inflates_to_is_bounded() -> None:
    """Tries to fill the memory by one read of many small messages, each of which inflates to the limit."""
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    channel = FrameChannel(stream, Core(65536, PerMessageDeflate(True, True, 12, 12)), 12)
    small = bytearray(masked(Opcode.TEXT, deflate(b" " * 65536, 12)))
    small[0] |= 0x40
    theirs.setblocking(False)
    theirs.send(bytes(small) * 700)
    while channel.unread or not channel._ended:
        await channel.read()
        assert sum(len(message.data) for message in channel.unread) < 4_000_000
        channel.unread.clear()
        if not theirs.fileno() < 0:
            theirs.close()
    channel.abort()


async def test_a_flood_of_tiny_frames_gets_small_turns(peer: Peer) -> None:
    """Tries to keep everybody else waiting by frames of which a read of the usual size takes long to go through."""
    wire = masked(Opcode.PONG, b"")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_all, peer, wire * 20_000)
        await peer.channel.read()
        for _ in range(10):
            before = peer.channel._core.other_frames
            await peer.channel.read()
            assert peer.channel._core.other_frames - before <= CAREFUL_READ_BYTES // len(wire) + 1
        nursery.cancel_scope.cancel()


async def test_what_a_cut_peer_sent_is_forgotten(peer: Peer) -> None:
    """Tries to have the server work off a row of commands for somebody who is gone."""
    peer.channel.feed(masked(Opcode.TEXT, b"{}") * 100)
    peer.socket.close()
    while peer.channel.sender.send_now is not None:
        peer.channel.sender.try_send(text_frame(b"x" * 1000))
    assert [] == peer.channel.unread
    with pytest.raises(trio.EndOfChannel):
        await peer.channel.receive()


async def test_a_ping_to_a_peer_that_takes_nothing(peer: Peer) -> None:
    """Tries to lose a Ping that has to wait; alone it must go out as soon as there is room."""
    while not peer.channel.sender.try_send(text_frame(b"x" * 100)):
        pass
    peer.channel.sender._rest = b""  # as if the kernel had been full at the end of a frame
    peer.channel.sender._settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.channel.ping)
        await wait_all_tasks_blocked()
        assert 1 == len(nursery.child_tasks)
        got = b""
        while not got.endswith(b"\x89\x00"):
            got += await peer.socket.recv(1 << 20)


async def test_close_waits_for_the_peers_close(peer: Peer) -> None:
    """Tries to have the socket closed before the peer has said that it got the Close."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.channel.close, 1012, "restarting")
        (frame,) = await peer.frames_until(1)
        assert Opcode.CLOSE is frame.opcode
        await wait_all_tasks_blocked()
        assert 1 == len(nursery.child_tasks)
        await _send_all(peer, masked(Opcode.CLOSE, frame.data))


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(masked(Opcode.TEXT, b"\xff"), 1007, id="no_utf8"),
        pytest.param(masked(Opcode.TEXT, b"x" * 65537), 1009, id="too_long"),
        pytest.param(
            masked(Opcode.TEXT, b"x" * 60000, fin=False) + masked(Opcode.CONT, b"x" * 60000),
            1009,
            id="too_long_in_parts",
        ),
        pytest.param(bytes.fromhex("81ff7fffffffffffffff00000000"), 1009, id="2**63-1_bytes_declared"),
        pytest.param(masked(Opcode.TEXT, b"\xff", fin=False), 1007, id="no_utf8_in_a_part"),
        pytest.param(masked(Opcode.TEXT, b"\xff") + masked(Opcode.CLOSE, b"\x03\xe8"), 1007, id="no_utf8_then_close"),
        pytest.param(
            masked(Opcode.TEXT, b"\xce", fin=False) + masked(Opcode.CONT, b"x"), 1007, id="no_utf8_across_parts"
        ),
        pytest.param(
            masked(Opcode.TEXT, b"x", fin=False) + masked(Opcode.CLOSE, b"\x03\xe8"), 1000, id="close_amid_a_message"
        ),
        pytest.param(masked(Opcode.CONT, b"x"), 1002, id="part_of_nothing"),
        pytest.param(b"\x81\x01x", 1002, id="not_masked"),
        pytest.param(b"\x83\x80\0\0\0\0", 1002, id="reserved_opcode"),
        pytest.param(bytes.fromhex("89fe007e00000000") + b"x" * 126, 1002, id="ping_over_125_bytes"),
    ],
)
async def test_a_broken_frame_is_closed_with_its_code(peer: Peer, wire: bytes, code: int) -> None:
    """Tries to get a message through that breaks RFC 6455, or no Close for it."""
    peer.channel.feed(wire)
    peer.channel.feed(masked(Opcode.TEXT, b"more"))
    with pytest.raises(trio.EndOfChannel):
        await peer.channel.receive()
    assert code == peer.channel.end_code
    (frame,) = await peer.frames_until(1)
    assert code == int.from_bytes(frame.data[:2], "big")


async def test_empty_fragments_take_no_memory(peer: Peer) -> None:
    """Tries to fill the memory with fragments that have nothing in them."""
    peer.channel.feed(masked(Opcode.TEXT, b"", fin=False))
    for _ in range(100):
        peer.channel.feed(masked(Opcode.CONT, b"", fin=False) * 1000)
    assert bytearray() == peer.channel._core._parts
    assert [] == peer.channel._core.events


async def test_what_the_app_does_not_come_to_stops_the_socket(peer: Peer) -> None:
    """Tries to fill the memory with messages that the app does not come to; and to lose one of them."""
    wire = masked(Opcode.TEXT, b"x" * 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_all, peer, wire * 10_000)
        await wait_all_tasks_blocked()
        assert 1 == len(nursery.child_tasks)
        for _ in range(10_000):
            assert Received(b"x" * 1000, is_text=True) == await peer.channel.receive()
            assert len(peer.channel.unread) <= READ_BYTES // 1000


async def _send_all(peer: Peer, wire: bytes) -> None:
    await trio.SocketStream(peer.socket).send_all(wire)


async def test_a_close_that_crosses_messages(peer: Peer) -> None:
    """Tries to have nobody read the peer's Close, because the app has stopped reading; or a late message received."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(5):
            nursery.start_soon(peer.channel.close, 1012, "restarting")
            (frame,) = await peer.frames_until(1)
            await _send_all(peer, masked(Opcode.TEXT, b"late") + masked(Opcode.CLOSE, frame.data))
    assert 0 == len(peer.channel.unread)
    assert 1012 == peer.channel.end_code


async def test_a_close_while_another_task_receives(peer: Peer) -> None:
    """Tries to have two tasks read the socket at once, or the end heard by only one of them."""
    ends = []

    async def receive() -> None:
        with pytest.raises(trio.EndOfChannel):
            await peer.channel.receive()
        ends.append("receive")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        nursery.start_soon(peer.channel.close, 1000, "")
        (frame,) = await peer.frames_until(1)
        await _send_all(peer, masked(Opcode.TEXT, b"late"))
        await wait_all_tasks_blocked()
        await _send_all(peer, masked(Opcode.CLOSE, frame.data))
    assert ["receive"] == ends


@pytest.mark.parametrize("there_is_room", [False, True])
async def test_a_pong_waits_for_the_rest_of_a_frame(peer: Peer, there_is_room: bool) -> None:
    """Tries to have a Pong sent inside of a frame that was sent in part, before its rest is on its way."""
    wire = text_frame(b"x" * 200_000)
    left = peer.channel.sender.try_send(wire)
    assert b"" == left
    got = await peer.socket.recv(1 << 20) if there_is_room else b""
    peer.channel.feed(masked(Opcode.PING, b"!!"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.channel.sender.send, left)
        while len(got) < len(wire) + 4:
            got += await peer.socket.recv(1 << 20)
    assert wire + b"\x8a\x02!!" == got
