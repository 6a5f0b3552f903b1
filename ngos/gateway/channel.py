"""One accepted WebSocket: frames in and out of a socket, by the sans-I/O core in `core` (RFC 6455).

Knows nothing of ngos, nor of Hypercorn: `frames` puts the two together.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import trio
from attrs import define, field
from websockets.protocol import State

from ngos.gateway.core import Core, Received
from ngos.gateway.wire import frame_end

READ_BYTES: Final = 64 * 1024
"""What is read from the socket at once; there is no more until the app has come to all of it."""
CAREFUL_READ_BYTES: Final = 4 * 1024
"""The same with compression, where each 100 bytes may become a message of the limit (3 MB, at 64 KiB each), and where
many of the frames are tiny, as in a flood of Pings: 64 KiB of those would take 50 ms from everybody else."""
MANY_FRAMES: Final = 16
"""Frames other than plain text that make it a flood, in one read."""
CONTROL_BYTES: Final = 1024
"""Pongs and Pings that may wait for a peer that does not read; past it they are dropped."""
UNSENT_BYTES: Final = 128 * 1024
"""What the kernel may hold that it can't send yet, where that is limited."""
VANISHED: Final = 1006
"""The code of a connection that ended without a Close (RFC 6455 section 7.1.5)."""


@define(eq=False)
class FrameChannel:
    """One accepted WebSocket. `receive` is for one task, `send` and `ping` for any, `close` for one, once.

    `receive` reads the socket itself, in the app's own task: what the app does not come to is not read, and slows the
    peer down by TCP. `deflate_bits` is the size of the window that messages to the peer may be compressed with, as a
    power of two (RFC 7692); 0: not at all.

    `unread` are the messages that are here and were not received yet, the next one last.

    `send_now` hands whole frames to the kernel, without waiting and without a checkpoint, and returns how many bytes
    it took; it raises OSError like a socket's. None while anything else must be sent first, over TLS (whose writes
    can't be cut short), and after a Close. Who gets fewer bytes than there were must call `cut_short`.
    """

    _stream: Any
    _core: Core
    deflate_bits: int = 0
    taken: bool = field(init=False, default=False)
    successor: Callable[[], Awaitable[None]] | None = field(init=False, default=None)
    heard_at: float = field(init=False, factory=trio.current_time)
    send_now: Callable[[bytes], int] | None = field(init=False, default=None)
    unread: list[Received] = field(init=False, factory=list)
    _ended: bool = field(init=False, default=False)
    _closing: bool = field(init=False, default=False)
    _said_close: bool = field(init=False, default=False)
    _held: bool = field(init=False, default=False)
    _sending: bool = field(init=False, default=False)
    _failed: bool = field(init=False, default=False)  # the peer has broken the protocol, and is being told so
    _reading: bool = field(init=False, default=False)
    _is_flooded: bool = field(init=False, default=False)
    _read_over: trio.Event | None = field(init=False, default=None)
    _rest: bytes = field(init=False, default=b"")
    _control: bytes = field(init=False, default=b"")
    _turn: trio.Lock = field(init=False, factory=trio.Lock)
    _is_tls: bool = field(init=False)
    _socket: Any = field(init=False)
    _socket_below: socket.socket = field(init=False)
    _write_socket: Callable[[bytes | memoryview], int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_tls = not isinstance(self._stream, trio.SocketStream)
        self._socket = self._stream.transport_stream.socket if self._is_tls else self._stream.socket
        # Trio's own `send` and `recv` wait; those of the socket below don't. And after its end they fail, where a
        # bare descriptor would by then be somebody else's.
        self._socket_below = self._socket._sock  # noqa: SLF001
        self._write_socket = self._socket_below.send
        self._settle()

    def take(self) -> FrameChannel:
        """Use this instead of ASGI's receive and send; to be called before the WebSocket is accepted."""
        self.taken = True
        return self

    async def send_answer(self, answer: bytes) -> None:
        """Send what upgrades the connection: the first bytes of all, and no frame.

        Of a channel that was taken, they go out with the app's first frame, or before it waits for the peer's.
        """
        self._rest = answer
        self._settle()
        if not self.taken:
            await self._send_owed()

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
        if not self._ended and (self._rest or self._control):
            await self._send_owed()
        if self._ended or (self._failed and not self._closing):
            raise trio.EndOfChannel
        self._reading = True
        size_bytes = CAREFUL_READ_BYTES if self.deflate_bits or self._is_flooded else READ_BYTES
        try:
            if self._is_tls:
                data = await self._stream.receive_some(size_bytes)
            else:
                # Trio would first try to read, in vain: nothing is read ahead, so the peer has had no time to send.
                await trio.lowlevel.wait_readable(self._socket_below)
                data = self._socket_below.recv(size_bytes)
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

    @property
    def is_over(self) -> bool:
        """Whether the peer has ended it, and there is nothing left to tell it."""
        return self._ended and not self._rest and not self._control

    @property
    def end_code(self) -> int:
        """After EndOfChannel, how it ended: the Close code that we or the peer sent first, else VANISHED."""
        core = self._core
        first = core.close_rcvd if core.close_rcvd_then_sent else core.close_sent
        return VANISHED if first is None else int(first.code)

    def limit_unsent(self) -> None:
        """From here on let the kernel take little more than the peer does: `send` tells how fast it reads.

        Else megabytes may go before anything is held up, and then nothing for as long as those take it.
        """
        with suppress(OSError, AttributeError):  # gone already; not Linux or macOS, or a stream of a test
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def hold(self, held: bool) -> None:
        """While held, `send_now` is None: the app has frames waiting that come first."""
        self._held = held
        self._settle()

    def try_send(self, frames: bytes) -> bytes | None:
        """Hand whole frames to the kernel, as far as it takes them now; returns those that `send` must be given.

        None: all are sent. No frames (`b""`): the rest of one is with us, and `send` must be called all the same.
        After a Close frames are dropped, here and by `send`.
        """
        if self._core.state is not State.OPEN:
            return None
        if self._held or self._sending or self._control or self._is_tls:
            return frames
        sent = self._write(self._rest + frames) - len(self._rest)
        if sent < 0:
            self._rest = self._rest[sent:]
            return frames
        if self._rest:
            self._rest = b""
            self._settle()
        return None if sent == len(frames) else self.cut_short(frames, sent)

    def cut_short(self, frames: bytes, sent: int) -> bytes:
        """Tell that of these frames only so many bytes were sent; returns the whole frames that are left to send.

        The rest of the frame that was begun is kept here, and goes out first: a connection that has to end before
        all is sent can still end between frames, with a Close.
        """
        end = frame_end(frames, 0, sent)
        self._rest = frames[sent:end]
        self._settle()
        return frames[end:]

    async def send(self, frames: bytes) -> None:
        """Send whole frames, after what is left of those before. Always a checkpoint.

        Cancelled, some of it may be lost, and no more may be sent but the Close. Once the peer is gone, it drops them.
        """
        async with self._turn:
            self._sending = True
            self._settle()
            try:
                if self._is_tls:
                    await self._send_tls(frames)
                else:
                    await self._send_plain(frames)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._rest = self._control = b""
            finally:
                self._sending = False
                self._settle()

    async def ping(self) -> None:
        """Send a Ping, or nothing if the peer is closing. `heard_at` tells of the answer.

        Callers own the deadline; cancelled, the Ping may come later, and nothing else is lost (over TLS, it cuts).
        """
        if self._core.state is State.OPEN:
            self._core.send_ping(b"")
            self._flush()
            await self._send_owed()

    async def close(self, code: int, reason: str) -> None:
        """Close: send the code, and wait for the peer's own Close. Callers own the deadline; cancelled, it cuts."""
        done = False
        self._closing = True
        self.unread.clear()
        try:
            if self._core.state is State.OPEN and not self._ended:
                self._core.send_close(code, reason)
            self._flush()
            await self._send_owed()
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
            self._settle()
            if not done:
                self.abort()

    def gone(self) -> None:
        """The peer is, or the socket is about to be closed: nothing more comes or goes."""
        self._ended = True
        self._settle()

    def abort(self) -> None:
        """Cut the connection, whatever the peer does: nothing that waits is sent, or received."""
        self.gone()
        self.unread.clear()
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()

    def feed(self, data: bytes) -> None:
        """Take in bytes from the network: messages to be received, and Pings, which are answered."""
        self.heard_at = trio.current_time()
        before = self._core.other_frames
        self._core.receive_data(data)
        self._is_flooded = self._core.other_frames - before > MANY_FRAMES
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
            self._settle()

    def _settle(self) -> None:
        """Find out anew whether frames may be sent at once."""
        waits = self._held or self._sending or self._rest or self._control or self._is_tls
        over = self._ended or self._failed or self._closing or self._core.state is not State.OPEN
        self.send_now = None if waits or over else self._write_socket

    def _flush(self) -> None:
        """Send what the protocol has to say: Pongs, and as the last thing a Close; never inside another frame."""
        data = b"".join(self._core.data_to_send())
        if not data or self._said_close:
            return
        self._said_close = self._core.state is not State.OPEN
        if self._rest or self._control or self._sending or self._is_tls:
            if len(self._control) < CONTROL_BYTES or self._said_close:
                self._control += data
        elif sent := self._write(data):
            self._rest = data[sent:]
        else:
            self._control = data
        self._settle()

    async def _send_owed(self) -> None:
        """Send what `_flush` could not, unless somebody is about to take it along."""
        if (self._rest or self._control) and not self._sending and (self._closing or not self._held):
            await self.send(b"")

    def _write(self, data: bytes | memoryview) -> int:
        """Write without blocking. A socket that fails is cut, and takes everything: the reader is about to find out."""
        try:
            return self._write_socket(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.abort()
            return len(data)

    async def _send_plain(self, frames: bytes) -> None:
        while True:
            waiting = self._waiting(frames)
            begun_bytes, control_bytes = len(self._rest), len(self._control)
            self._rest = self._control = frames = b""
            sent = 0
            try:
                while (sent := sent + self._write(memoryview(waiting)[sent:])) < len(waiting):
                    await trio.lowlevel.wait_writable(self._socket_below)
                    # It reads, however slowly. A Ping it may not come to for long: all this comes first.
                    self.heard_at = trio.current_time()
            finally:
                if sent < len(waiting):
                    end = frame_end(waiting, begun_bytes, sent)
                    self._rest = waiting[sent:end]
                    self._control = waiting[end : begun_bytes + control_bytes] + self._control
            if not self._control:  # a Pong may have been asked for meanwhile
                return

    async def _send_tls(self, frames: bytes) -> None:
        done = False
        try:
            while waiting := self._waiting(frames):
                self._rest = self._control = frames = b""
                await self._stream.send_all(waiting)
            done = True
        finally:
            if not done:  # a record may be torn
                self.abort()

    def _waiting(self, frames: bytes) -> bytes:
        """All that is to be sent, in order. Nothing may follow a Close (RFC 6455 section 5.5.1)."""
        return self._rest + self._control + (frames if self._core.state is State.OPEN else b"")
