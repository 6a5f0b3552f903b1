"""WebSocket frames on Hypercorn, in the place of its `WSStream` on HTTP/1.1. Knows nothing of ngos.

Hypercorn goes on doing TCP, TLS, HTTP and lifespan. What it can't do (design.md, "Hypercorn's WebSockets") is here:
frames are parsed and made by the sans-I/O core of the `websockets` library, and an ASGI extension gives the app what
ASGI has no word for: the scope of a WebSocket holds a `FrameChannel` under `extensions[EXTENSION]`. An app that does
not `take` it is served as by plain ASGI. RFC 6455; permessage-deflate is not offered.

All that is relied on of Hypercorn's inside is in this file and in `containment`; what that is,
tests/gateway/test_hypercorn_contract.py says.
"""

from __future__ import annotations

from typing import Any, Final

import trio
from hypercorn.protocol import h11 as hypercorn_h11
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from ngos.gateway.channel import FrameChannel, text_frame

EXTENSION: Final = "websocket.frames"


class FrameStream(WSStream):
    """Hypercorn's view of it: takes the place of WSStream (`install`)."""

    def __init__(self, app: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(app, config, *args, **kwargs)
        server = self.send.__self__.send.__self__  # type: ignore[attr-defined]
        self.channel = FrameChannel(server.stream, Protocol(Side.SERVER, max_size=config.websocket_max_message_size))
        inner = self.app

        async def with_extension(scope: Any, *rest: Any) -> None:
            scope["extensions"][EXTENSION] = self.channel
            await inner(scope, *rest)

        self.app = with_extension  # type: ignore[assignment]

    async def handle(self, event: Any) -> None:
        if isinstance(event, Request) and _wrong_version(event):
            headers = [(b"sec-websocket-version", b"13"), (b"content-length", b"0"), (b"connection", b"close")]
            self.closed = True
            await self.send(Response(stream_id=self.stream_id, status_code=426, headers=headers))
            await self.send(EndBody(stream_id=self.stream_id))
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif isinstance(event, Data) and not self.closed and self.handshake.accepted:
            await self._receive(event.data)
        elif isinstance(event, Body | Data):
            # Before the upgrade was answered, which RFC 6455 section 4.1 forbids, or after it was refused.
            if not self.closed:
                await self.send(StreamClosed(stream_id=self.stream_id))
        else:
            if isinstance(event, StreamClosed):
                self.channel.gone()
            await super().handle(event)
            if isinstance(event, Request) and self.closed:  # refused by Hypercorn, which would leave it open
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: Any) -> None:
        if self.closed or self.state is not ASGIWebsocketState.CONNECTED:
            if self.state is not ASGIWebsocketState.CLOSED or message is None:
                await super().app_send(message)
        elif message is None:  # the app has ended without a close: a defect of the app's
            self.state = ASGIWebsocketState.CLOSED
            with trio.move_on_after(1.0, shield=True):
                await self.channel.close(1011, "")
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif message["type"] == "websocket.send":
            if message.get("bytes") is not None:
                await self.channel.send(Frame(Opcode.BINARY, message["bytes"]).serialize(mask=False))
            else:
                await self.channel.send(text_frame(message["text"].encode()))
        else:
            assert message["type"] == "websocket.close"
            self.state = ASGIWebsocketState.CLOSED
            with trio.move_on_after(self.config.graceful_timeout):
                await self.channel.close(message.get("code") or 1000, message.get("reason") or "")

    async def _accept(self, message: Any) -> None:
        self.handshake.extensions = None  # nothing of permessage-deflate
        await super()._accept(message)

    async def _receive(self, data: bytes) -> None:
        if self.channel.taken:
            await self.channel.hand_over(data)
        else:
            assert self.app_put is not None
            for message in self.channel.feed(data):
                text, binary = (message.data.decode(), None) if message.is_text else (None, message.data)
                await self.app_put({"type": "websocket.receive", "text": text, "bytes": binary})
        if self.channel.over:
            self.state = ASGIWebsocketState.CLOSED
            await self.send(StreamClosed(stream_id=self.stream_id))


def _wrong_version(request: Request) -> bool:
    versions = [value.strip() for name, value in request.headers if name.lower() == b"sec-websocket-version"]
    return bool(versions) and versions != [b"13"]


def install() -> None:
    """Put FrameStream in the place of WSStream, for all that Hypercorn serves in this process."""
    hypercorn_h11.WSStream = FrameStream  # type: ignore[attr-defined]
