"""One accepted WebSocket: a socket, the sans-I/O core in `core`, and the sender in `sender` (RFC 6455).

What comes is read and taken in here, and how it all ends is decided here. Knows nothing of ngos, nor of Hypercorn:
`frames` puts the two together.
"""

from __future__ import annotations

import socket
import struct
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import trio
from attrs import define, field
from websockets.protocol import State

from ngos.gateway.core import Core, Received
from ngos.gateway.sender import Sender

READ_BYTES: Final = 64 * 1024
"""What is read from the socket at once; there is no more until the app has come to all of it."""
CAREFUL_READ_BYTES: Final = 2 * 1024
"""The same at first, with compression, where each 100 bytes may become a message of the limit (3 MB, at 64 KiB each),
and where the last read was no plain text: 64 KiB of Pings or fragments would take 140 ms from everybody else."""
VANISHED: Final = 1006
"""The code of a connection that ended without a Close (RFC 6455 section 7.1.5)."""


@define(eq=False)
class FrameChannel:
    """One accepted WebSocket. `receive` is for one task, `sender` and `ping` for any, `close` for one, once.

    `receive` reads the socket itself, in the app's own task: what the app does not come to is not read, and slows the
    peer down by TCP. `deflate_bits` is the size of the window that messages to the peer may be compressed with, as a
    power of two (RFC 7692); 0: not at all.

    `unread` are the messages that are here and were not received yet, the next one last. `sender` takes the frames to
    be sent.
    """

    _stream: Any
    _core: Core
    deflate_bits: int = 0
    taken: bool = field(init=False, default=False)
    successor: Callable[[], Awaitable[None]] | None = field(init=False, default=None)
    sender: Sender = field(init=False)
    unread: list[Received] = field(init=False, factory=list)
    _heard_at: float = field(init=False, factory=trio.current_time)
    _ended: bool = field(init=False, default=False)
    _closing: bool = field(init=False, default=False)
    _failed: bool = field(init=False, default=False)  # the peer has broken the protocol, and is being told so
    _reading: bool = field(init=False, default=False)
    _read_bytes: int = field(init=False, default=CAREFUL_READ_BYTES)
    _read_over: trio.Event | None = field(init=False, default=None)
    _is_tls: bool = field(init=False)
    _socket: Any = field(init=False)
    _socket_below: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_tls = not isinstance(self._stream, trio.SocketStream)
        self._socket = self._stream.transport_stream.socket if self._is_tls else self._stream.socket
        # Trio's own `send` and `recv` wait; those of the socket below don't. And after its end they fail, where a
        # bare descriptor would by then be somebody else's.
        self._socket_below = self._socket._sock  # noqa: SLF001
        # Weakly: in a cycle, a connection that is over would wait for the collector.
        abort = weakref.WeakMethod(self.abort)

        def cut() -> None:
            if (method := abort()) is not None:
                method()

        self.sender = Sender(self._socket_below, self._stream if self._is_tls else None, cut)

    def take(self) -> FrameChannel:
        """Use this instead of ASGI's receive and send; to be called before the WebSocket is accepted."""
        self.taken = True
        return self

    async def send_answer(self, answer: bytes) -> None:
        """Send what upgrades the connection: the first bytes of all, and no frame.

        Of a channel that was taken, they go out with the app's first frame, or before it waits for the peer's.
        """
        self.sender.begin_with(answer)
        if not self.taken:
            await self.sender.send_owed()

    def succeed_by(self, successor: Callable[[], Awaitable[None]]) -> None:
        """Have `successor` go on with the channel, in the same task, when the app has returned; it has to `close`.

        So an idle connection does not hold on to what its request needed: a framework's context, headers, HTTP.
        """
        self.successor = successor

    async def receive(self) -> Received:
        """The next message. Raises EndOfChannel when the peer has closed, broken the protocol, or is gone.

        Cancelled, it has taken nothing.
        """
        while not self.unread:
            await self.read()
        return self.unread.pop()

    async def read(self) -> None:
        """Read the socket once, into `unread`; for who takes the messages out of there himself. As `receive`."""
        if not self._ended and self.sender.owes:
            await self.sender.send_owed(though_held=self._closing)
        if self._ended or (self._failed and not self._closing):
            raise trio.EndOfChannel
        self._reading = True
        try:
            if self._is_tls:
                data = await self._stream.receive_some(self._read_bytes)
            else:
                # Trio would first try to read, in vain: nothing is read ahead, so the peer has had no time to send.
                await trio.lowlevel.wait_readable(self._socket_below)
                data = self._socket_below.recv(self._read_bytes)
        except BlockingIOError:
            return
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        finally:
            self._reading = False
            if self._read_over is not None:
                self._read_over.set()
        if not data:
            self.gone()
            return
        self.feed(data)

    def take_bare_frames(self) -> int:
        """The frames since the last call that were no message: `Core.bare_frames`."""
        frames, self._core.bare_frames = self._core.bare_frames, 0
        return frames

    @property
    def heard_at(self) -> float:
        """The Trio time of the last sign of life: something came, or something that waited was taken."""
        return max(self._heard_at, self.sender.took_at)

    @property
    def is_over(self) -> bool:
        """Whether the peer has ended it, and there is nothing left to tell it."""
        return self._ended and not self.sender.owes

    @property
    def end_code(self) -> int:
        """After EndOfChannel, how it ended: the Close code that we or the peer sent first, else VANISHED."""
        core = self._core
        first = core.close_rcvd if core.close_rcvd_then_sent else core.close_sent
        return VANISHED if first is None else int(first.code)

    async def ping(self) -> None:
        """Send a Ping, or nothing if the peer is closing. `heard_at` tells of the answer.

        Callers own the deadline; cancelled, the Ping may come later, and nothing else is lost (over TLS, it cuts).
        """
        if self._core.state is State.OPEN:
            self._core.send_ping(b"")
            self._flush()
            await self.sender.send_owed()

    async def close(self, code: int, reason: str, *, heeds: bool = True) -> None:
        """Close: send the code, and wait for the peer's own Close. Callers own the deadline; cancelled, it cuts.

        `heeds`: whether what the peer still sends is read; else it is thrown away until its end, which is cheap.
        """
        done = False
        self._closing = True
        self.unread.clear()
        try:
            if self._core.state is State.OPEN and not self._ended:
                if heeds:
                    self._core.send_close(code, reason)
                else:
                    self._core.fail(code, reason)
                    self._failed = True
                    self._read_bytes = READ_BYTES
            self._flush()
            await self.sender.send_owed(though_held=True)  # of the app nothing more comes
            if self._failed and not self._is_tls:
                # It may well be sending still: closed now, TCP would reset the connection and our Close with it.
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
            while not self._ended:
                if self._reading:  # `receive`, in another task
                    self._read_over = trio.Event()
                    await self._read_over.wait()
                else:
                    await self.read()
            done = True
        finally:
            if not done:
                self.abort()

    def gone(self) -> None:
        """The peer is, or the socket is about to be closed: nothing more comes or goes."""
        self._ended = True
        self.sender.stop()

    def abort(self) -> None:
        """Cut the connection, whatever the peer does: nothing that waits is sent, or received."""
        self.gone()
        self.unread.clear()
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()

    def feed(self, data: bytes) -> None:
        """Take in bytes from the network: messages to be received, and Pings, which are answered."""
        self._heard_at = trio.current_time()
        before = self._core.other_frames
        self._core.receive_data(data)
        is_plain = self._core.other_frames == before and not self.deflate_bits
        self._read_bytes = READ_BYTES if is_plain else CAREFUL_READ_BYTES
        messages = self._core.messages
        self._core.messages = []
        if messages and not self._closing:
            messages.reverse()
            self.unread[:0] = messages
        self._flush()
        if self._core.state is not State.OPEN:
            # That the peer broke the protocol, the core tells by an EOF of its own.
            self._ended = self._ended or self._core.close_rcvd is not None
            self._failed = self._core.eof_sent and not self._ended
            if self._core.parser_exc is not None:
                self._core.parser_exc.__traceback__ = None  # it has the core in it: a cycle

    def _flush(self) -> None:
        """Have sent what the core has to say. The Close, which changes its state, is always with the last of it."""
        if data := b"".join(self._core.data_to_send()):
            self.sender.say(data, is_last=self._core.state is not State.OPEN)
