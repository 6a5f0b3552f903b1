"""What a connection needs of a WebSocket, and that over plain ASGI, as Quart has it.

Plain ASGI has no word for a Ping, for the last sign of life, or for cutting a client: see `AsgiTransport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import define
from quart import Websocket

from ngos.protocol.close import CloseCode


class BinaryMessage(Exception):
    """The peer sent a binary message: protocol.md section 2 closes with 1003."""


class Transport(Protocol):
    """One WebSocket, accepted. Used by one reader and one writer at a time."""

    async def receive(self) -> bytes:
        """The next text message, as UTF-8. Raises BinaryMessage. When the peer leaves, the caller is cancelled."""
        ...

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send text messages, in order. Cancelled, some of the last bytes may be lost: only `close` may follow."""
        ...

    async def ping(self) -> bool:
        """Send a Ping. False: this transport can't, and whoever serves it watches over its peer."""
        ...

    def heard_at(self) -> float:
        """The Trio time of the last sign of life."""
        ...

    async def close(self, code: CloseCode) -> None:
        """Say goodbye, as far as the peer can still hear it; never raises because it can't."""
        ...


@define(eq=False)
class AsgiTransport:
    """Over plain ASGI, by whatever server. It can't ping: the server's own pings and TCP's timeouts have to do."""

    _websocket: Websocket
    _heard_at: float

    async def receive(self) -> bytes:
        message = await self._websocket.receive()
        if isinstance(message, str):
            return message.encode()
        raise BinaryMessage

    async def send(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            await self._websocket.send(message.decode())

    async def ping(self) -> bool:
        return False

    def heard_at(self) -> float:
        return self._heard_at

    async def close(self, code: CloseCode) -> None:
        await self._websocket.close(code, code.reason)
