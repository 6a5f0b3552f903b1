"""A channel over TLS, where a write can't be cut short: everything goes by way of `send`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trustme
from attrs import frozen
from trio.testing import wait_all_tasks_blocked
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from ngos.gateway.channel import FrameChannel, Received
from ngos.gateway.core import Core
from ngos.gateway.wire import text_frame


@frozen
class TlsPeer:
    """A client at the other end of a channel over TLS."""

    channel: FrameChannel
    stream: trio.SSLStream[Any]
    core: Protocol

    async def frames_until(self, count: int) -> list[Frame]:
        frames: list[Frame] = []
        while len(frames) < count:
            self.core.receive_data(await self.stream.receive_some())
            frames += [event for event in self.core.events_received() if isinstance(event, Frame)]
        return frames

    async def say(self, opcode: Opcode, data: bytes) -> None:
        await self.stream.send_all(Frame(opcode, data).serialize(mask=True))


@pytest.fixture
async def peer() -> AsyncIterator[TlsPeer]:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    inner = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    server: Any = trio.SSLStream(inner, server_context, server_side=True, https_compatible=True)
    outer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    client: Any = trio.SSLStream(outer, client_context, server_hostname="localhost", https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
    channel = FrameChannel(server, Core(65536))
    yield TlsPeer(channel, client, Protocol(Side.CLIENT, max_size=None))
    channel.abort()
    outer.socket.close()


async def test_messages_both_ways(peer: TlsPeer) -> None:
    """Tries to lose a message over TLS, or to have one written past the encryption."""
    assert peer.channel.sender.send_now is None
    wire = text_frame(b"to you")
    assert wire == peer.channel.sender.try_send(wire)
    await peer.channel.sender.send(wire)
    assert [b"to you"] == [frame.data for frame in await peer.frames_until(1)]
    await peer.say(Opcode.TEXT, b"to me")
    assert Received(b"to me", is_text=True) == await peer.channel.receive()


@pytest.mark.parametrize("taken", [False, True])
async def test_the_answer_to_the_upgrade_is_first(peer: TlsPeer, taken: bool) -> None:
    """Tries to have the answer sent twice, or behind a frame, or not before the peer is waited for."""
    if taken:
        peer.channel.take()
    with trio.fail_after(5):
        await peer.channel.send_answer(b"HTTP/1.1 101 x\r\n\r\n")
        await peer.channel.sender.send(text_frame(b"first"))
    got = b""
    while not got.endswith(b"first"):
        got += await peer.stream.receive_some()
    assert b"HTTP/1.1 101 x\r\n\r\n" + text_frame(b"first") == got


async def test_pings_and_pongs_wait_for_nothing(peer: TlsPeer) -> None:
    """Tries to keep a Ping of ours, or a Pong for the peer's, until there is something else to send."""
    await peer.channel.ping()
    assert [Opcode.PING] == [frame.opcode for frame in await peer.frames_until(1)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_twice, peer.channel)
        await peer.say(Opcode.PING, b"now")
        assert [(Opcode.PONG, b"now")] == [(frame.opcode, frame.data) for frame in await peer.frames_until(1)]
        nursery.cancel_scope.cancel()


async def _read_twice(channel: FrameChannel) -> None:
    for _ in range(2):
        await channel.read()


async def test_the_closing_handshake(peer: TlsPeer) -> None:
    """Tries to end without the Close having been sent, or without waiting for the peer's."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.channel.close, 1012, "restarting")
        (frame,) = await peer.frames_until(1)
        assert 1012 == int.from_bytes(frame.data[:2], "big")
        await wait_all_tasks_blocked()
        assert 1 == len(nursery.child_tasks)
        await peer.say(Opcode.CLOSE, frame.data)
    assert peer.channel.is_over


async def test_a_write_that_was_given_up(peer: TlsPeer) -> None:
    """Tries to go on with a stream in which a record may be torn."""
    with trio.move_on_after(0.05) as scope:
        await peer.channel.sender.send(text_frame(b"x" * 10_000_000))
    assert scope.cancelled_caught
    with trio.fail_after(10):
        await peer.channel.close(1013, "slow")
    assert -1 == peer.channel._socket.fileno()
