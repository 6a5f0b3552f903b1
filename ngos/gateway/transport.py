"""What a connection needs of a WebSocket: over our own frames, and over plain ASGI.

Plain ASGI has no word for a Ping, for the last sign of life, or for cutting a client: see `AsgiTransport`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

import trio
from attrs import define, field
from quart import Websocket

from ngos.gateway.channel import FrameChannel
from ngos.gateway.frames import EXTENSION
from ngos.gateway.sender import Sender
from ngos.gateway.wire import text_frame
from ngos.protocol.close import CloseCode
from ngos.protocol.parcel import Parcel


class BinaryMessage(Exception):
    """The peer sent a binary message: protocol.md section 2 closes with 1003."""


class PeerLeft(Exception):
    """The peer is gone, or is being told why it has to go: `code` says which (RFC 6455 section 7.4.1)."""

    def __init__(self, code: int) -> None:
        self.code = code


class Outlet(Protocol):
    """Where plain frames for one client go out at once, while it is its turn: `Sender.send_now` says how."""

    send_now: Callable[[bytes], int] | None


class Transport(Protocol):
    """One WebSocket, accepted. Used by one reader and one writer at a time.

    `outlet` is for those who send the same plain frames to many (NO_OUTLET: this client wants others); whoever gets a
    short count from it must take the rest from `rest`.
    """

    outlet: Outlet

    async def begin(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Run `serve`, which is the life of the connection: now, or as soon as the caller has returned from the app."""
        ...

    def take(self) -> bytes | None:
        """The next text message that is here, as UTF-8; None: `more` must be waited for. Raises BinaryMessage."""
        ...

    def bare_frames(self) -> int:
        """The frames since the last call that were no message: Pings, Pongs and fragments but for the last of each."""
        ...

    async def more(self) -> None:
        """Wait for more messages. Raises PeerLeft; over plain ASGI, the caller is cancelled when the peer leaves."""
        ...

    def try_send(self, parcel: Parcel) -> Parcel | None:
        """Send what can be sent without waiting, and return what `send` must be given."""
        ...

    def rest(self, parcel: Parcel, sent_bytes: int) -> Parcel:
        """What `send` must be given of a parcel of which the outlet took only so much."""
        ...

    def hold(self, held: bool) -> None:
        """While held, nothing is sent but by `send`."""
        ...

    def limit_unsent(self, limited: bool) -> None:
        """While limited, `send` takes about as long as the peer takes to read: for more than it can read at once."""
        ...

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Send, in order; always a checkpoint. Cancelled, some of it may be lost: only `close` may follow."""
        ...

    async def ping(self) -> bool:
        """Send a Ping. False: this transport can't, and whoever serves it watches over its peer."""
        ...

    def heard_at(self) -> float:
        """The Trio time of the last sign of life."""
        ...

    def is_over(self) -> bool:
        """Whether there is nobody left to close it for."""
        ...

    async def close(self, code: CloseCode) -> None:
        """Say goodbye, as far as the peer can still hear it. Cancelled, it is cut."""
        ...

    def abort(self) -> None:
        """Cut the connection, if this transport can."""
        ...


def transport_of(websocket: Websocket) -> Transport:
    """Our own frames where the server has them, else plain ASGI. To be called before the WebSocket is accepted."""
    channel: FrameChannel | None = cast("dict[str, Any]", websocket.scope.get("extensions") or {}).get(EXTENSION)
    return AsgiTransport(websocket) if channel is None else FrameTransport(channel.take())


class _NoOutlet:
    """All goes by way of `send` and `try_send`."""

    send_now: Callable[[bytes], int] | None = None


NO_OUTLET: Outlet = _NoOutlet()


@define(eq=False)
class FrameTransport:
    """Over our own frames, `channel`."""

    _channel: FrameChannel
    outlet: Outlet = field(init=False)
    _sender: Sender = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender = self._channel.sender
        self.outlet = NO_OUTLET if self._channel.deflate_bits else self._sender

    async def begin(self, serve: Callable[[], Awaitable[None]]) -> None:
        self._channel.succeed_by(serve)

    def take(self) -> bytes | None:
        unread = self._channel.unread
        if not unread:
            return None
        message = unread.pop()
        if message.is_text:
            return message.data
        raise BinaryMessage

    def bare_frames(self) -> int:
        return self._channel.take_bare_frames()

    async def more(self) -> None:
        try:
            await self._channel.read()
        except trio.EndOfChannel:
            raise PeerLeft(self._channel.end_code) from None

    def try_send(self, parcel: Parcel) -> Parcel | None:
        frames = frames_of(parcel, self._channel.deflate_bits)
        left = self._sender.try_send(frames)
        return None if left is None else Parcel((), len(left), left)

    def rest(self, parcel: Parcel, sent_bytes: int) -> Parcel:
        frames = frames_of(parcel)
        return Parcel((), len(frames) - sent_bytes, self._sender.cut_short(frames, sent_bytes))

    def hold(self, held: bool) -> None:
        self._sender.hold(held)

    def limit_unsent(self, limited: bool) -> None:
        self._sender.limit_unsent(limited)

    async def send(self, parcels: Sequence[Parcel]) -> None:
        bits = self._channel.deflate_bits
        await self._sender.send(b"".join([frames_of(parcel, bits) for parcel in parcels]))

    async def ping(self) -> bool:
        await self._channel.ping()
        return True

    def heard_at(self) -> float:
        return self._channel.heard_at

    def is_over(self) -> bool:
        return self._channel.is_over

    async def close(self, code: CloseCode) -> None:
        await self._channel.close(code, code.reason, heeds=not code.is_misdeed)

    def abort(self) -> None:
        self._channel.abort()


@define(eq=False)
class AsgiTransport:
    """Over plain ASGI, by whatever server. It can't ping: the server's own pings and TCP's timeouts have to do."""

    _websocket: Websocket
    outlet: Outlet = field(init=False, default=NO_OUTLET)
    _heard_at: float = field(init=False, factory=trio.current_time)
    _message: str | bytes | None = field(init=False, default=None)
    _has_message: bool = field(init=False, default=False)

    async def begin(self, serve: Callable[[], Awaitable[None]]) -> None:
        await serve()

    def take(self) -> bytes | None:
        if not self._has_message:
            return None
        self._has_message = False
        if isinstance(self._message, str):
            return self._message.encode()
        raise BinaryMessage

    def bare_frames(self) -> int:
        return 0  # the server's affair

    async def more(self) -> None:
        self._message = await self._websocket.receive()
        self._has_message = True
        self._heard_at = trio.current_time()

    def try_send(self, parcel: Parcel) -> Parcel | None:
        return parcel

    def rest(self, parcel: Parcel, sent_bytes: int) -> Parcel:
        raise NotImplementedError  # there is no outlet

    def hold(self, held: bool) -> None:
        pass

    def limit_unsent(self, limited: bool) -> None:
        pass

    async def send(self, parcels: Sequence[Parcel]) -> None:
        await trio.lowlevel.checkpoint()
        for parcel in parcels:
            for message in parcel.messages:
                await self._websocket.send(message.decode())

    async def ping(self) -> bool:
        return False

    def heard_at(self) -> float:
        return self._heard_at

    def is_over(self) -> bool:
        return False  # Quart wants its `close` in any case

    async def close(self, code: CloseCode) -> None:
        await self._websocket.close(code, code.reason)

    def abort(self) -> None:
        """Plain ASGI has no way to."""


def frames_of(parcel: Parcel, deflate_bits: int = 0) -> bytes:
    """A parcel as frames, made once for all that have agreed on the same compression."""
    if deflate_bits == 0 or not parcel.messages:
        if parcel.frames is None:
            parcel.frames = b"".join([text_frame(message) for message in parcel.messages])
        return parcel.frames
    frames = parcel.deflated.get(deflate_bits)
    if frames is None:
        frames = b"".join([text_frame(message, deflate_bits) for message in parcel.messages])
        parcel.deflated = {**parcel.deflated, deflate_bits: frames}
    return frames
