"""The proxy of scripts/chaos: each way to misbehave, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random

import pytest
import trio
from chaos_parts.proxy import CHUNK_BYTES, Cut, Delay, Pass, Proxy, Reset, Stall, cut_at, frame_bytes

LIMIT_S = 10.0


class Server:
    """Hands out the other end of each connection that the proxy makes; closes all that are handed out."""

    def __init__(self) -> None:
        self.closing = AsyncExitStack()
        self.send, self.arrived = trio.open_memory_channel[trio.SocketStream](10)

    async def handle(self, stream: trio.SocketStream) -> None:
        await self.send.send(stream)
        await trio.sleep_forever()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Proxy, Server]]:
    """A proxy that serves, and what is behind it."""
    server = Server()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery, server.closing:
            (listener,) = await nursery.start(partial(trio.serve_tcp, server.handle, 0, host="127.0.0.1"))
            proxy = Proxy(listener.socket.getsockname()[1])
            await nursery.start(proxy.serve)
            yield proxy, server
            nursery.cancel_scope.cancel()


async def connected(proxy: Proxy, server: Server) -> tuple[trio.SocketStream, trio.SocketStream]:
    """A connection through the proxy: the client's end, and the server's."""
    client = await reached(proxy, server)
    return client, await server.arrived.receive()


async def reached(proxy: Proxy, server: Server) -> trio.SocketStream:
    """A connection to the proxy, whatever is behind it."""
    return await server.closing.enter_async_context(await trio.open_tcp_stream("127.0.0.1", proxy.port))


async def read(stream: trio.SocketStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = await stream.receive_some(size - len(data))
        assert chunk, f"ended after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


async def read_until_reset(stream: trio.SocketStream) -> bytes:
    """All that comes before an RST; a good end is a failure."""
    data = bytearray()
    with pytest.raises(trio.BrokenResourceError):
        while chunk := await stream.receive_some():
            data += chunk
        pytest.fail("ended in a good way")
    return bytes(data)


async def test_pass_changes_nothing() -> None:
    """Tries to find a byte changed, lost or out of order, either way, and an end that is not passed on."""
    sent = Random(1).randbytes(300_000)
    async with proxied() as (proxy, server):
        client, served = await connected(proxy, server)
        for source, sink in ((client, served), (served, client)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.send_all, sent)
                assert sent == await read(sink, len(sent))
        await client.send_eof()
        assert b"" == await served.receive_some()
        await served.send_all(b"bye")
        await served.send_eof()
        assert b"bye" == await read(client, 3)
        assert b"" == await client.receive_some()
        assert 0 == proxy.resets


async def test_delay_holds_each_chunk() -> None:
    """Tries to get an answer in less time than two delays."""
    async with proxied() as (proxy, server):
        client, served = await connected(proxy, server)
        proxy.set(Delay(0.1))
        started_s = trio.current_time()
        await client.send_all(b"ping")
        assert b"ping" == await read(served, 4)
        await served.send_all(b"pong")
        assert b"pong" == await read(client, 4)
        assert trio.current_time() - started_s >= 0.2


async def test_stall_forwards_nothing_and_goes_on() -> None:
    """Tries to get a byte through a stall, or an end from it; and to miss one of them afterwards."""
    async with proxied() as (proxy, server):
        client, served = await connected(proxy, server)
        proxy.set(Stall())
        await client.send_all(b"held")
        late, late_served = await connected(proxy, server)  # it accepts
        await late.send_all(b"late")
        for stream in (served, late_served):
            with trio.move_on_after(0.2) as waiting:
                pytest.fail(f"a stall let {await stream.receive_some()!r} through")
            assert waiting.cancelled_caught
        proxy.set(Pass())
        assert b"held" == await read(served, 4)
        assert b"late" == await read(late_served, 4)


async def test_stall_holds_back_who_sends() -> None:
    """Tries to have the proxy take in more than a few buffers of what it does not forward."""
    async with proxied() as (proxy, server):
        client, served = await connected(proxy, server)
        proxy.set(Stall())
        sent = 0
        with trio.move_on_after(0.5):
            while True:
                await served.send_all(bytes(CHUNK_BYTES))
                sent += CHUNK_BYTES
        assert sent < 1_000_000
        assert proxy.port == client.socket.getpeername()[1]


async def test_reset_is_a_reset_on_both_sides() -> None:
    """Tries to get a good end, or to stay connected, when the proxy resets; and to get in while it does."""
    async with proxied() as (proxy, server):
        client, served = await connected(proxy, server)
        proxy.set(Reset())
        assert b"" == await read_until_reset(client)
        assert b"" == await read_until_reset(served)
        try:
            late = await reached(proxy, server)
        except OSError:
            pass  # it was that quick
        else:
            assert b"" == await read_until_reset(late)
        proxy.set(Pass())
        client, served = await connected(proxy, server)
        await client.send_all(b"again")
        assert b"again" == await read(served, 5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("from_server", [False, True])
async def test_cut_is_inside_of_a_frame(seed: int, from_server: bool) -> None:
    """Tries to get a whole frame through, or to be told a good end after a part of it."""
    frame = b"\x81\x7e\x01\x00" + bytes(256)
    async with proxied() as (proxy, server):
        client, served = await connected(proxy, server)
        proxy.set(Cut(Random(seed)))
        source, sink = (served, client) if from_server else (client, served)
        await source.send_all(frame * 3)
        part = await read_until_reset(sink)
        assert len(part) < len(frame)
        assert (frame * 3).startswith(part)
        await read_until_reset(source)
        assert 1 == proxy.cuts


async def test_nobody_behind_it() -> None:
    """Tries to stay connected to a proxy whose server is gone, or to end the proxy by it."""
    async with proxied() as (proxy, server):
        proxy.server_port, port = 1, proxy.server_port
        for _ in range(2):
            try:
                client = await reached(proxy, server)
            except OSError:
                continue
            assert b"" == await read_until_reset(client)
        proxy.server_port = port
        client, served = await connected(proxy, server)
        await client.send_all(b"back")
        assert b"back" == await read(served, 4)


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"\x81\x05", 7),
        (b"\x81\x85", 11),  # masked
        (b"\x81\x7e\x01\x00", 260),
        (b"\x81\xfe\x01\x00", 264),
        (b"\x82\x7f" + (70_000).to_bytes(8, "big"), 70_010),
    ],
)
def test_frame_bytes(header: bytes, length: int) -> None:
    """Tries to have the length of a frame misread."""
    assert length == frame_bytes(header + bytes(length - len(header)))


def test_cut_at() -> None:
    """Tries to have a cut forward nothing of a frame, all of it, or more."""
    for size in (2, 3, 7, 300):
        chunk = b"\x81\x05" + bytes(size)
        for chance in (0.0, 0.5, 0.999):
            assert 1 <= cut_at(chunk, lambda chance=chance: chance) < min(len(chunk), 7)
    assert 0 == cut_at(b"x", lambda: 0.5)
