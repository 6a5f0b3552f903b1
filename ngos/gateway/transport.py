"""What a connection needs of a WebSocket: over our own frames, and over plain ASGI.

Plain ASGI has no word for a Ping, for the last sign of life, or for cutting a client: see `AsgiTransport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import trio
from attrs import define, field
from quart import Websocket

from ngos.gateway.channel import FrameChannel, text_frame
from ngos.gateway.frames import EXTENSION
from ngos.protocol.close import CloseCode
from ngos.protocol.parcel import Parcel


class BinaryMessage(Exception):
    """The peer sent a binary message: protocol.md section 2 closes with 1003."""


class Transport(Protocol):
    """One WebSocket, accepted. Used by one reader and one writer at a time."""

    async def receive(self) -> bytes:
        """The next text message, as UTF-8. Raises BinaryMessage. When the peer leaves, the caller is cancelled."""
        ...

    def more_received(self) -> bool:
        """Whether a further message is here already: an answer may then wait for its neighbours."""
        ...

    def try_send(self, parcel: Parcel) -> Parcel | None:
        """Send what can be sent without waiting, and return the rest. Only while nothing else waits to be sent."""
        ...

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Send, in order; always a checkpoint. Cancelled, some of it may be lost: only `close` may follow."""
        ...

    def ping(self) -> bool:
        """Send a Ping. False: this transport can't, and whoever serves it watches over its peer."""
        ...

    def heard_at(self) -> float:
        """The Trio time of the last sign of life."""
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
    return AsgiTransport(websocket) if channel is None else FrameTransport(websocket, channel.take())


@define(eq=False)
class FrameTransport:
    """Over our own frames, `channel`."""

    _websocket: Websocket
    _channel: FrameChannel

    async def receive(self) -> bytes:
        message = await self._channel.receive()
        if message.is_text:
            return message.data
        raise BinaryMessage

    def more_received(self) -> bool:
        return self._channel.unread() > 0

    def try_send(self, parcel: Parcel) -> Parcel | None:
        frames = _frames(parcel)
        sent = self._channel.try_send(frames)
        if sent == len(frames):
            return None
        return Parcel((), len(frames) - sent, frames[sent:]) if sent else parcel

    async def send(self, parcels: Sequence[Parcel]) -> None:
        await self._channel.send(b"".join(map(_frames, parcels)))

    def ping(self) -> bool:
        self._channel.ping()
        return True

    def heard_at(self) -> float:
        return self._channel.heard_at

    async def close(self, code: CloseCode) -> None:
        await self._websocket.close(code, code.reason)

    def abort(self) -> None:
        self._channel.abort()


@define(eq=False)
class AsgiTransport:
    """Over plain ASGI, by whatever server. It can't ping: the server's own pings and TCP's timeouts have to do."""

    _websocket: Websocket
    _heard_at: float = field(init=False, factory=trio.current_time)

    async def receive(self) -> bytes:
        message = await self._websocket.receive()
        self._heard_at = trio.current_time()
        if isinstance(message, str):
            return message.encode()
        raise BinaryMessage

    def more_received(self) -> bool:
        return False

    def try_send(self, parcel: Parcel) -> Parcel | None:
        return parcel

    async def send(self, parcels: Sequence[Parcel]) -> None:
        await trio.lowlevel.checkpoint()
        for parcel in parcels:
            for message in parcel.messages:
                await self._websocket.send(message.decode())

    def ping(self) -> bool:
        return False

    def heard_at(self) -> float:
        return self._heard_at

    async def close(self, code: CloseCode) -> None:
        await self._websocket.close(code, code.reason)

    def abort(self) -> None:
        """Plain ASGI has no way to."""


def _frames(parcel: Parcel) -> bytes:
    if parcel.frames is None:
        parcel.frames = b"".join(map(text_frame, parcel.messages))
    return parcel.frames
