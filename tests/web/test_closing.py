"""How connections end: what is still sent, what is not any more, and what it may cost us."""

from __future__ import annotations

import socket

import orjson
import pytest
import trio

from ngos.gateway.channel import FrameChannel
from tests.servers import Running, only_frames, running_server
from tests.web.wire import BINARY, CLOSE, PING, TEXT, RawSocket, frame, raw_socket


async def frames_until_end(client: RawSocket) -> list[tuple[int, bytes]]:
    frames = []
    try:
        while True:
            frames.append(await client.next_frame())
    except (trio.EndOfChannel, trio.BrokenResourceError):
        return frames


@only_frames
@pytest.mark.parametrize("opcode", [TEXT, PING])
async def test_a_flood_after_our_close(server: Running, opcode: int) -> None:
    """Tries to fill the memory by sending on, without reading, after having been closed."""
    async with raw_socket(server.http) as client:
        await client.message()
        (connection,) = server.app.connections.open.values()
        channel: FrameChannel = connection._transport._channel  # type: ignore[attr-defined]
        await client.frame(BINARY, b"x")
        flood = frame(TEXT, b"x" * 65000) * 8 if opcode == TEXT else frame(PING, b"x" * 125) * 4000
        most = 0
        with trio.move_on_after(5):
            try:
                while True:
                    await client.stream.send_all(flood)
                    most = max(most, len(channel.unread), len(channel.sender._control))
            except trio.BrokenResourceError:
                pass
    assert most < 4096


@pytest.mark.parametrize("size_bytes", [70_000, 5_000_000])
async def test_a_message_over_the_limit_hears_why(server: Running, size_bytes: int) -> None:
    """Tries to lose the 1009, after which a client knows not to come back, by still sending when it comes."""
    for _ in range(3):
        async with raw_socket(server.http) as client, trio.open_nursery() as nursery:
            await client.message()
            nursery.start_soon(_send_as_far_as_it_goes, client, frame(TEXT, b"x" * size_bytes))
            assert 1009 == await client.closed()
            nursery.cancel_scope.cancel()


async def _send_as_far_as_it_goes(client: RawSocket, wire: bytes) -> None:
    try:
        await client.stream.send_all(wire)
    except trio.BrokenResourceError:
        pass


@pytest.mark.parametrize(
    "last",
    [frame(CLOSE, b"\x03\xe8"), frame(TEXT, b"\xff"), frame(3, b"")],
    ids=["close", "no_utf8", "reserved_opcode"],
)
async def test_nothing_follows_a_close(server: Running, last: bytes) -> None:
    """Tries to get a reply sent behind the Close that the next frame of the same packet causes (RFC 6455, 5.5.1)."""
    async with raw_socket(server.http) as client:
        await client.message()
        await client.stream.send_all(frame(TEXT, b'{"type":"ping","id":"1"}') + last)
        opcodes = [opcode for opcode, _ in await frames_until_end(client)]
    assert [CLOSE] == opcodes[-1:]


@pytest.mark.settings(close_s=10.0)  # what it may take to commit them: no time of ours
async def test_a_drain_answers_what_is_being_committed(server: Running) -> None:
    """Tries to have a change committed and its answer dropped, because the server is about to stop."""
    creates = [orjson.dumps({"type": "token.create", "id": str(number)}) for number in range(200)]
    async with raw_socket(server.http, "/ws?client_id=a") as client:
        await client.message()
        await client.stream.send_all(b"".join(frame(TEXT, create) for create in creates))
        (connection,) = server.app.connections.open.values()
        while not connection.reader.undone:  # noqa: ASYNC110 - the instant at which they are in the committer
            await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.app.connections.drain, 10)
            frames = [await client.next_frame()]
            while CLOSE != frames[-1][0]:
                frames.append(await client.next_frame())
            await client.frame(CLOSE, frames[-1][1])
            frames += await frames_until_end(client)
    answered = [payload for opcode, payload in frames if opcode == TEXT]
    async with server.app.pool.connection() as conn:
        row = await (await conn.execute("select count(*) from tokens")).fetchone()
    assert (len(answered),) == row
    assert CLOSE == frames[-1][0]


async def test_a_slow_consumer_hears_no_close_inside_a_frame(database_url: str) -> None:
    """Tries to have the Close of a slow consumer land in the midst of the frame that it did not take."""
    event = {"type": "publish", "payload": {"topic": "x", "type": "t", "payload": {"a": "y" * 30000}}}
    async with (
        running_server(database_url, mailbox_bytes=256 * 1024) as server,
        raw_socket(server.http) as slow,
        raw_socket(server.http) as publisher,
    ):
        await slow.message()
        await slow.command("subscribe", {"topic": "x"})
        await slow.message()
        (connection,) = [c for c in server.app.connections.open.values() if c.subscriptions]
        channel: FrameChannel = connection._transport._channel  # type: ignore[attr-defined]
        channel._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20000)
        slow.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.stream.send_all, frame(TEXT, orjson.dumps(event)) * 40)
            with trio.fail_after(5):
                while connection.verdict is None:  # noqa: ASYNC110 - its end is what is awaited
                    await trio.lowlevel.checkpoint()
            frames = await frames_until_end(slow)
            nursery.cancel_scope.cancel()
    assert {TEXT} >= {opcode for opcode, _ in frames if opcode != CLOSE}
    assert all(orjson.loads(payload) for opcode, payload in frames if opcode == TEXT)
