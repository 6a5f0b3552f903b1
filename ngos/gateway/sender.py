"""What goes out of one socket: whole frames, in order, and between them what the protocol has to say (RFC 6455).

Knows sockets, and where frames end. Of the WebSocket it knows only whether its last bytes were said, which the channel
tells it: a Close comes between frames and not in one, and nothing follows it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Final

import trio
from attrs import define, field

from ngos.gateway.wire import frame_end

CONTROL_BYTES: Final = 1024
"""Pongs and Pings that may wait for a peer that does not read; past it they are dropped."""
UNSENT_BYTES: Final = 128 * 1024
"""What the kernel may hold that it can't send yet, where that is limited."""


@define(eq=False)
class Sender:
    """The sending half of a channel. Everything is for any task. Over TLS, all goes by way of `tls`.

    `send_now` hands whole frames to the kernel, without waiting and without a checkpoint, and returns how many bytes
    it took; it raises OSError like a socket's. None while anything else must be sent first, over TLS (whose writes
    can't be cut short), and after a Close. Who gets fewer bytes than there were must call `cut_short`.

    `cut` is called when nothing can be sent any more: it has to close the socket.

    `took_at` is the Trio time when the peer last made room for what waits: it reads, however slowly.
    """

    _socket: socket.socket
    _tls: trio.SSLStream[Any] | None
    _cut: Callable[[], None]
    send_now: Callable[[bytes], int] | None = field(init=False, default=None)
    took_at: float = field(init=False, default=-inf)
    _is_open: bool = field(init=False, default=True)  # the last bytes were not said yet
    _held: bool = field(init=False, default=False)
    _sending: bool = field(init=False, default=False)
    _rest: bytes = field(init=False, default=b"")
    _control: bytes = field(init=False, default=b"")
    _turn: trio.Lock = field(init=False, factory=trio.Lock)
    _write_socket: Callable[[bytes | memoryview], int] = field(init=False)
    _at_once: Callable[[bytes], int] | None = field(init=False)  # what `send_now` is while nothing waits

    def __attrs_post_init__(self) -> None:
        self._write_socket = self._socket.send
        self._at_once = None if self._tls is not None else self._write_socket
        self._settle()

    @property
    def owes(self) -> bool:
        """Whether there is something that has to go out before any frames, and that no `send` has taken along."""
        return bool(self._rest or self._control)

    def begin_with(self, data: bytes) -> None:
        """Owe the first bytes of all, which are no frame: they go out with the first frames, or by `send_owed`."""
        self._rest = data
        self._settle()

    def limit_unsent(self, limited: bool) -> None:
        """While limited, the kernel takes little more than the peer does: `send` tells how fast it reads.

        Else megabytes may go before anything is held up, and then nothing for as long as those take it.
        """
        with suppress(OSError, AttributeError):  # gone already; not Linux or macOS
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES if limited else 0)

    def hold(self, held: bool) -> None:
        """While held, `send_now` is None: the app has frames waiting that come first."""
        self._held = held
        self._settle()

    def stop(self) -> None:
        """The peer has left, or is about to be cut: from here on `send_now` is None."""
        self._at_once = self.send_now = None

    def try_send(self, frames: bytes) -> bytes | None:
        """Hand whole frames to the kernel, as far as it takes them now; returns those that `send` must be given.

        None: all are sent. No frames (`b""`): the rest of one is with us, and `send` must be called all the same.
        After a Close frames are dropped, here and by `send`.
        """
        if not self._is_open:
            return None
        if self._held or self._sending or self._control or self._tls is not None:
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

    def say(self, data: bytes, *, is_last: bool) -> None:
        """Send what the protocol has to say, at once or as soon as it can: Pings, Pongs, and as the last a Close."""
        if not self._is_open:
            return
        self._is_open = not is_last
        if is_last:
            self.stop()
        if self._rest or self._control or self._sending or self._tls is not None:
            if len(self._control) < CONTROL_BYTES or is_last:
                self._control += data
        elif sent := self._write(data):
            self._rest = data[sent:]
        else:
            self._control = data
        self._settle()

    async def send(self, frames: bytes) -> None:
        """Send whole frames, after what is left of those before. Always a checkpoint.

        Cancelled, some of it may be lost, and no more may be sent but the Close. Once the peer is gone, it drops them.
        """
        async with self._turn:
            self._sending = True
            self._settle()
            try:
                if self._tls is not None:
                    await self._send_tls(self._tls, frames)
                else:
                    await self._send_plain(frames)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._rest = self._control = b""
            finally:
                self._sending = False
                self._settle()

    async def send_owed(self, *, though_held: bool = False) -> None:
        """Send what is owed, unless somebody is about to take it along: a `send`, or the app that holds us."""
        if self.owes and not self._sending and (though_held or not self._held):
            await self.send(b"")

    def _settle(self) -> None:
        """Find out anew whether frames may be sent at once."""
        waits = self._held or self._sending or self._rest or self._control
        self.send_now = None if waits else self._at_once

    def _write(self, data: bytes | memoryview) -> int:
        """Write without blocking. A socket that fails is cut, and takes everything: the reader is about to find out."""
        try:
            return self._write_socket(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._cut()
            return len(data)

    async def _send_plain(self, frames: bytes) -> None:
        while True:
            waiting = self._waiting(frames)
            begun_bytes, control_bytes = len(self._rest), len(self._control)
            self._rest = self._control = frames = b""
            sent = 0
            try:
                while (sent := sent + self._write(memoryview(waiting)[sent:])) < len(waiting):
                    await trio.lowlevel.wait_writable(self._socket)
                    # A Ping it may not come to for long: all this comes first.
                    self.took_at = trio.current_time()
            finally:
                if sent < len(waiting):
                    end = frame_end(waiting, begun_bytes, sent)
                    self._rest = waiting[sent:end]
                    self._control = waiting[end : begun_bytes + control_bytes] + self._control
            if not self._control:  # a Pong may have been asked for meanwhile
                return

    async def _send_tls(self, tls: trio.SSLStream[Any], frames: bytes) -> None:
        done = False
        try:
            while waiting := self._waiting(frames):
                self._rest = self._control = frames = b""
                await tls.send_all(waiting)
            done = True
        finally:
            if not done:  # a record may be torn
                self._cut()

    def _waiting(self, frames: bytes) -> bytes:
        """All that is to be sent, in order. Nothing may follow a Close (RFC 6455 section 5.5.1)."""
        return self._rest + self._control + (frames if self._is_open else b"")
