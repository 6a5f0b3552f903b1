"""One parcel to many connections, over real sockets whose kernel buffers are small."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import trio
from attrs import frozen
from trio.testing import wait_all_tasks_blocked
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from ngos.gateway.channel import FrameChannel
from ngos.gateway.connection import Connection
from ngos.gateway.core import Core
from ngos.gateway.fanout import deliver
from ngos.gateway.mailbox import Backlog
from ngos.gateway.transport import FrameTransport
from ngos.protocol.close import CloseCode
from ngos.protocol.parcel import Parcel
from tests.gateway.fakes import GREETING, connection_of

MESSAGE = orjson.dumps({"type": "event", "payload": "x" * 300})


@frozen
class Client:
    """A connection that is served, and its other end."""

    connection: Connection
    channel: FrameChannel
    socket: Any
    core: Protocol

    async def frames(self) -> list[Frame]:
        self.core.receive_data(await self.socket.recv(1 << 20))
        return [frame for frame in self.core.events_received() if isinstance(frame, Frame)]

    async def messages(self, count: int) -> list[bytes]:
        """So many text messages, behind the greeting."""
        frames: list[Frame] = []
        while len(frames) < count:
            frames += [frame for frame in await self.frames() if b"connection.established" not in bytes(frame.data)]
        return [bytes(frame.data) for frame in frames]


Connect = Callable[..., Any]


@pytest.fixture
async def connect(nursery: trio.Nursery) -> AsyncIterator[Connect]:
    """Makes clients, with the settings and the window of compression that are asked for."""
    clients: list[Client] = []

    def make(*, deflate_bits: int = 0, backlog: Backlog | None = None, **settings: Any) -> Client:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        deflate = PerMessageDeflate(True, True, 15, deflate_bits) if deflate_bits else None
        channel = FrameChannel(stream, Core(65536, deflate), deflate_bits)
        core = Protocol(Side.CLIENT, max_size=None)
        core.extensions = [PerMessageDeflate(True, True, deflate_bits, 15)] if deflate_bits else []
        connection = connection_of(FrameTransport(channel), backlog=backlog, **settings)
        nursery.start_soon(connection.run, GREETING)
        clients.append(Client(connection, channel, trio.socket.from_stdlib_socket(theirs), core))
        return clients[-1]

    yield make
    for client in clients:
        client.connection.cut()
        client.socket.close()
    with trio.fail_after(5):
        await wait_all_tasks_blocked()


@asynccontextmanager
async def flooding(client: Client, wire: Callable[[int], Parcel]) -> AsyncIterator[int]:
    """Deliver to a client that does not read, until something waits for it; yields how many there were."""
    count = 0
    while not client.connection.mailbox:
        count += 1
        deliver([client.connection], wire(count))
    yield count


def numbered(number: int) -> Parcel:
    return Parcel.of([b"%06d" % number + MESSAGE])


async def test_a_client_with_nothing_waiting_needs_no_task(connect: Connect) -> None:
    """Tries to have a delivery wait for the writer, or for any task, where the socket would take it."""
    client = connect()
    await wait_all_tasks_blocked()
    client.socket._sock.recv(1 << 20)  # the greeting
    deliver([client.connection], numbered(1))
    # No checkpoint since: no other task has run.
    assert client.socket._sock.recv(1 << 20).endswith(b"000001" + MESSAGE)
    assert not client.connection.mailbox


async def test_order_where_the_kernel_is_full(connect: Connect) -> None:
    """Tries to have an event overtake another that waits, tear it, repeat it or lose it: by mailbox, rest and reply."""
    client = connect()
    await wait_all_tasks_blocked()
    async with flooding(client, numbered) as count:
        deliver([client.connection], numbered(count + 1))
        await wait_all_tasks_blocked()
        deliver([client.connection], numbered(count + 2))
        expected = [b"%06d" % number + MESSAGE for number in range(1, count + 3)]
        assert expected == await client.messages(count + 2)
    await wait_all_tasks_blocked()
    assert 0 == client.connection.mailbox.size_bytes
    assert client.channel.sender.send_now is not None, "and it is sent to at once again"


async def test_one_slow_client_among_others(connect: Connect) -> None:
    """Tries to have one that does not read hold up, or change, what the others get."""
    slow, fast, gone = connect(), connect(), connect()
    await wait_all_tasks_blocked()
    gone.socket.close()
    got: list[bytes] = []
    async with flooding(slow, numbered) as count:
        for number in range(count + 1, count + 50):
            deliver([slow.connection, gone.connection, fast.connection], numbered(number))
            got += await fast.messages(1)
    assert [b"%06d" % number + MESSAGE for number in range(count + 1, count + 50)] == got
    assert CloseCode.VANISHED is gone.connection.verdict


async def test_a_broadcast_is_compressed_once(connect: Connect) -> None:
    """Tries to have the same bytes compressed anew for each client, or sent to one who did not agree to it."""
    plain, small, small_too, large = (
        connect(),
        connect(deflate_bits=9),
        connect(deflate_bits=9),
        connect(deflate_bits=15),
    )
    await wait_all_tasks_blocked()
    everybody = [plain, small, small_too, large]
    parcel = Parcel.of([MESSAGE, b"short", MESSAGE])
    deliver([client.connection for client in everybody], parcel)
    assert {9, 15} == set(parcel.deflated)
    assert parcel.frames is not None
    assert len(parcel.deflated[9]) < len(parcel.frames) / 4
    once = dict(parcel.deflated)
    deliver([client.connection for client in everybody], parcel)
    assert all(once[bits] is parcel.deflated[bits] for bits in (9, 15))
    for client in everybody:
        assert [MESSAGE, b"short", MESSAGE] * 2 == await client.messages(6)


async def test_too_slow_hears_why(connect: Connect) -> None:
    """Tries to be cut without a 1013 though one reads again, or to be sent what was waiting first."""
    client = connect(mailbox_bytes=256 * 1024)
    await wait_all_tasks_blocked()
    count = 0
    while client.connection.verdict is None:
        count += 1
        deliver([client.connection], numbered(count))
    assert CloseCode.TRY_AGAIN_LATER is client.connection.verdict
    assert 0 == client.connection.mailbox.size_bytes
    frames: list[Frame] = []
    while not frames or frames[-1].opcode is not Opcode.CLOSE:
        frames += await client.frames()
    assert 1013 == int.from_bytes(frames[-1].data[:2], "big")
    assert len(frames) < 100


@pytest.mark.parametrize("verdict", [CloseCode.RESTARTING, CloseCode.TRY_AGAIN_LATER])
async def test_no_gap_before_the_end(connect: Connect, verdict: CloseCode) -> None:
    """Tries to have an event sent behind one that was dropped, to a connection that is ending while it is served."""
    for _ in range(10):  # which task is first in a turn is up to chance
        client = connect()
        await wait_all_tasks_blocked()
        async with flooding(client, numbered) as count:
            client.connection.end(verdict)
            got = client.socket._sock.recv(1 << 20)  # so that the writer may end well in this very instant
            for number in range(count + 1, count + 8):
                deliver([client.connection], numbered(number))
                await trio.lowlevel.checkpoint()
        client.core.receive_data(got)
        frames = [event for event in client.core.events_received() if isinstance(event, Frame)]
        while not frames or frames[-1].opcode is not Opcode.CLOSE:
            frames += await client.frames()
        numbers = [int(frame.data[:6]) for frame in frames[1:-1]]
        assert list(range(1, len(numbers) + 1)) == numbers


async def test_what_waits_in_all_is_bounded(connect: Connect) -> None:
    """Tries to fill the memory by way of many clients of whom each stays below its own limit."""
    ended: list[Connection] = []

    def relieve() -> None:
        fullest = max(everybody, key=lambda client: client.connection.mailbox.size_bytes)
        ended.append(fullest.connection)
        fullest.connection.end(CloseCode.TRY_AGAIN_LATER)

    backlog = Backlog(300_000, relieve)
    everybody = [connect(backlog=backlog) for _ in range(8)]
    await wait_all_tasks_blocked()
    for number in range(1, 2000):
        deliver([client.connection for client in everybody], numbered(number))
        assert backlog.bytes <= 300_000
    assert ended
    await wait_all_tasks_blocked()
    assert backlog.bytes == sum(client.connection.mailbox.size_bytes for client in everybody)
