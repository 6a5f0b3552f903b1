"""A TCP proxy between clients and the server that can misbehave: delay, stall, reset, cut in mid-frame.

Promises: it changes no byte and no order; it holds at most CHUNK_BYTES for each direction of a connection, so that
who does not read slows down who sends; a mode is for all connections, those that come too, until the next mode. A
connection that is reset is reset on both sides (RST, not FIN).

Runs on Trio. Knows of WebSockets only how long a frame is, so as to cut inside of one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from functools import partial
from random import Random

import attrs
import trio

CHUNK_BYTES = 16 * 1024
# Small buffers, and on the server's side small segments too (the kernel sizes its send buffer by them), so that a
# client that does not read is felt by the server after some 100 kB and not after megabytes.
BUFFER_BYTES = 16 * 1024
SEGMENT_BYTES = 1400
CONNECT_S = 5.0


@attrs.frozen
class Pass:
    """Forward everything at once."""


@attrs.frozen
class Delay:
    """Hold each chunk for so long, both ways."""

    seconds: float


@attrs.frozen
class Stall:
    """Accept, and forward nothing; close nothing. What was held goes on with the next mode."""


@attrs.frozen
class Reset:
    """Reset what is connected, and who connects."""


@attrs.frozen
class Cut:
    """Forward a part of each connection's next chunk, ending inside of a frame, then reset it."""

    rng: Random = attrs.field(factory=Random, eq=False)


Mode = Pass | Delay | Stall | Reset | Cut


class Cutting(Exception):
    """A direction of a connection has been cut: the connection is to be reset."""


@attrs.define(eq=False)
class Proxy:
    """Forwards to `port` on the loopback. `serve` runs it; `set` changes the mode."""

    server_port: int
    port: int = 0
    mode: Mode = attrs.field(factory=Pass)
    accepted: int = 0
    resets: int = 0
    cuts: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _links: set[_Link] = attrs.field(factory=set)

    def set(self, mode: Mode) -> None:
        """From now on this mode; with `Reset` every connection ends at once."""
        self.mode = mode
        self._changed.set()
        self._changed = trio.Event()
        if isinstance(mode, Reset):
            self.reset_all()

    def reset_all(self) -> None:
        """Reset every connection that there is."""
        for link in tuple(self._links):
            link.scope.cancel()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Forward until cancelled; started once it listens on `port`."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._forward, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def pace(self) -> None:
        """Wait as the mode has it, before a chunk goes on."""
        while True:
            match self.mode:
                case Stall() | Reset():
                    await self._changed.wait()
                case Delay(seconds):
                    await trio.sleep(seconds)
                    return
                case _:
                    return

    async def _forward(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        link = _Link(self, client)
        self._links.add(link)
        try:
            if isinstance(self.mode, Reset):
                link.scope.cancel()
            await link.run(self.server_port)
        finally:
            self._links.discard(link)


class _Link:
    """One client's connection, and ours to the server for it. Cancelling its scope resets both."""

    def __init__(self, proxy: Proxy, client: trio.SocketStream) -> None:
        self.scope = trio.CancelScope()
        self._proxy = proxy
        self._client = client

    async def run(self, server_port: int) -> None:
        """Forward both ways until both have ended; reset both when anything else happens."""
        streams = [self._client]
        whole = False
        self._client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            with self.scope:
                try:
                    server = await _connect(server_port)
                    streams.append(server)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, self._client, server)
                        nursery.start_soon(self._pump, server, self._client)
                    whole = True
                except* (OSError, trio.BrokenResourceError, trio.TooSlowError, Cutting):
                    pass  # as with any other end that is not a good one
        finally:
            if not whole:
                self._proxy.resets += 1
            for stream in streams:
                if not whole:
                    reset(stream)
                stream.socket.close()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while chunk := await source.receive_some(CHUNK_BYTES):
            await self._proxy.pace()
            mode = self._proxy.mode
            if isinstance(mode, Cut):
                part = chunk[: cut_at(chunk, mode.rng.random)]
                self._proxy.cuts += 1
                await sink.send_all(part)
                raise Cutting
            await sink.send_all(chunk)
        await sink.send_eof()


async def _connect(port: int) -> trio.SocketStream:
    with trio.fail_after(CONNECT_S):
        connection = trio.socket.socket()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            await connection.connect(("127.0.0.1", port))
        except BaseException:
            connection.close()
            raise
        return trio.SocketStream(connection)


def reset(stream: trio.SocketStream) -> None:
    """Let the closing of a socket be an RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut_at(chunk: bytes, random: Callable[[], float]) -> int:
    """How many bytes of a chunk to forward: fewer than it has, and ending inside of its first frame if that is one."""
    longest = min(len(chunk), max(2, frame_bytes(chunk)))
    return 1 + int(random() * (longest - 1)) if longest > 1 else 0


def frame_bytes(chunk: bytes) -> int:
    """The length of the WebSocket frame that a chunk begins with (RFC 6455, section 5.2), if it does."""
    if len(chunk) < 2:
        return len(chunk)
    length, header = chunk[1] & 0x7F, 2
    if length == 126:
        length, header = int.from_bytes(chunk[2:4], "big"), 4
    elif length == 127:
        length, header = int.from_bytes(chunk[2:10], "big"), 10
    if chunk[1] & 0x80:
        header += 4
    return header + length
