"""One accepted WebSocket: frames in and out of a socket, by the sans-I/O core of the `websockets` library (RFC 6455).

Knows nothing of ngos, nor of Hypercorn: `frames` puts the two together.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from typing import Any, Final

import trio
from attrs import define, field, frozen
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, State

READ_BYTES: Final = 64 * 1024
"""What is read from the socket at once; there is no more until the app has come to all of it."""
CONTROL_BYTES: Final = 1024
"""Pongs that may wait for a peer that does not read; past it they are not made."""


def text_frame(message: bytes) -> bytes:
    """One unfragmented text frame, from a server (RFC 6455 section 5.2)."""
    size = len(message)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + message
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + message
    return b"\x81\x7f" + size.to_bytes(8, "big") + message


@frozen
class Received:
    """A message; `data` of a text message is valid UTF-8."""

    data: bytes
    is_text: bool


@define(eq=False)
class FrameChannel:
    """One accepted WebSocket. `receive` is for one task, `send` for one other, `close` for one after both.

    The first bytes come from whoever made the channel (`hand_over`). From there on `receive` reads the socket itself,
    in the app's own task: what the app does not come to is not read, and slows the peer down by TCP.
    """

    _stream: Any
    _protocol: Protocol
    taken: bool = field(init=False, default=False)
    heard_at: float = field(init=False, factory=trio.current_time)
    _unread: deque[Received] = field(init=False, factory=deque)
    _parts: list[bytes] | None = field(init=False, default=None)
    _parts_are_text: bool = field(init=False, default=False)
    _arrived: trio.Event = field(init=False, factory=trio.Event)
    _ended: trio.Event = field(init=False, factory=trio.Event)
    _handed_over: bool = field(init=False, default=False)
    _handing_over: bool = field(init=False, default=False)
    _closing: bool = field(init=False, default=False)
    _said_close: bool = field(init=False, default=False)
    _partial: bool = field(init=False, default=False)
    _sending: bool = field(init=False, default=False)
    _torn: bool = field(init=False, default=False)
    _control: bytes = field(init=False, default=b"")
    _is_tls: bool = field(init=False)
    _socket: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_tls = not isinstance(self._stream, trio.SocketStream)
        self._socket = self._stream.transport_stream.socket if self._is_tls else self._stream.socket

    def take(self) -> FrameChannel:
        """Use this instead of ASGI's receive and send; to be called before the WebSocket is accepted."""
        self.taken = True
        return self

    async def receive(self) -> Received:
        """The next message. After the peer has left it waits for ever: ASGI's `websocket.disconnect` tells of that."""
        while not self._unread:
            if self._handed_over:
                await self._read()
            else:
                await self._arrived.wait()
        return self._unread.popleft()

    def unread(self) -> int:
        """Messages that are here and were not received yet."""
        return len(self._unread)

    async def hand_over(self, data: bytes) -> None:
        """Give the first bytes from the network, and the socket with them; returns when nothing more will come."""
        self._unread.extend(self.feed(data))
        self._handed_over = True
        self._arrived.set()
        self._handing_over = self._closing  # then `close` has begun to wait, and somebody must read
        while self._handing_over and not self._ended.is_set():
            await self._read()
        await self._ended.wait()

    def try_send(self, data: bytes) -> int:
        """Hand whole frames to the kernel, as far as it takes them now; returns how many bytes that were.

        0 while a `send` is under way, and over TLS. What is left must be the first that is sent next. After a Close
        data is dropped, here and by `send`.
        """
        if self._protocol.state is not State.OPEN:
            return len(data)  # after a Close nothing may follow (RFC 6455 section 5.5.1)
        if self._sending or self._partial or self._control or self._is_tls:
            return 0
        sent = self._write(data)
        self._partial = 0 < sent < len(data)
        return sent

    async def send(self, data: bytes) -> None:
        """Send whole frames, or what `try_send` left of them. Always a checkpoint.

        Cancelled, a frame may be torn: then `close` cuts the connection. Once the peer is gone, it drops the data.
        """
        self._sending = True
        done = False
        if self._protocol.state is not State.OPEN and not self._partial:
            data = b""
        try:
            if self._is_tls:
                await self._stream.send_all(self._control + data)
                self._control = b""
            else:
                await trio.lowlevel.checkpoint()
                await self._write_all(data)
            done = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            done = True
        finally:
            self._sending = self._partial = False
            self._torn = self._torn or not done

    def ping(self) -> None:
        """Send a Ping, or nothing if the peer is closing or takes nothing in. `heard_at` tells of the answer."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self.flush()

    async def close(self, code: int, reason: str) -> None:
        """Close: send the code, and wait for the peer's own Close. Callers own the deadline; cancelled, it cuts."""
        done = False
        self._closing = True
        self._unread.clear()
        try:
            if self._torn or self._partial:
                return
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code, reason)
            self.flush()
            if self._control:
                await self.send(b"")
            while self._handed_over and not self._handing_over and not self._ended.is_set():
                await self._read()
            await self._ended.wait()
            done = True
        finally:
            if not done:
                self.abort()

    def gone(self) -> None:
        """The peer is: nothing more will come."""
        self._ended.set()

    def abort(self) -> None:
        """Cut the connection, whatever the peer does: nothing that waits is sent."""
        self._ended.set()
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()

    def feed(self, data: bytes) -> list[Received]:
        """Take in bytes from the network; returns the messages that are complete, and sends Pongs."""
        self.heard_at = trio.current_time()
        self._protocol.receive_data(data)
        messages = []
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            message = self._assemble(frame)
            if message is None:
                continue
            if message.is_text and not _is_utf8(message.data):
                self._protocol.fail(1007, "not UTF-8")
                break
            messages.append(message)
        self.flush()
        if self.over:
            self._ended.set()
        return messages

    @property
    def over(self) -> bool:
        """Whether nothing more will come: the peer sent a Close, or broke the protocol."""
        return self._protocol.state is not State.OPEN and (
            self._protocol.close_rcvd is not None or self._protocol.eof_sent
        )

    def flush(self) -> None:
        """Send what the protocol has to say: Pongs, and as the last thing a Close; never inside another frame."""
        data = b"".join(self._protocol.data_to_send())
        if not data or self._torn or self._said_close:
            return
        self._said_close = self._protocol.state is not State.OPEN
        if self._control or self._sending or self._partial or self._is_tls:
            if len(self._control) < CONTROL_BYTES or self._said_close:
                self._control += data
        else:
            self._control = data[self._write(data) :]

    async def _read(self) -> None:
        """Read the socket once; after the end, wait to be cancelled."""
        if self._ended.is_set():
            await trio.sleep_forever()
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if data:
            messages = self.feed(data)
            if not self._closing:
                self._unread.extend(messages)
        else:
            self._ended.set()

    def _assemble(self, frame: Frame) -> Received | None:
        if frame.opcode is Opcode.CONT:
            assert self._parts is not None
            if frame.data:  # an endless row of empty ones must not fill the memory
                self._parts.append(bytes(frame.data))
            if not frame.fin:
                return None
            parts, self._parts = self._parts, None
            return Received(b"".join(parts), self._parts_are_text)
        if frame.opcode is not Opcode.TEXT and frame.opcode is not Opcode.BINARY:
            return None
        is_text = frame.opcode is Opcode.TEXT
        if frame.fin:
            return Received(bytes(frame.data), is_text)
        self._parts, self._parts_are_text = [bytes(frame.data)], is_text
        return None

    def _write(self, data: bytes | memoryview) -> int:
        """Write without blocking. A peer that is gone takes everything: the reader is about to find out."""
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    async def _write_all(self, data: bytes) -> None:
        while True:
            # A Pong may have been asked for meanwhile; it goes out between frames.
            waiting = memoryview(data + self._control if self._partial else self._control + data)
            self._control = data = b""
            while waiting := waiting[self._write(waiting) :]:
                await trio.lowlevel.wait_writable(self._socket)
            if not self._control:
                return


def _is_utf8(data: bytes) -> bool:
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True
