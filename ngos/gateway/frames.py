"""WebSocket frames on Hypercorn, in the place of its `WSStream` on HTTP/1.1. Knows nothing of ngos.

Hypercorn goes on doing TCP, TLS, HTTP and lifespan. What it can't do (design.md, "Hypercorn's WebSockets") is here:
frames are parsed and made by the sans-I/O core of the `websockets` library, and an ASGI extension gives the app what
ASGI has no word for: the scope of a WebSocket holds a `FrameChannel` under `extensions[EXTENSION]`. An app that does
not `take` it is served as by plain ASGI. RFC 6455; permessage-deflate (RFC 7692) where `install` is told so.

The app runs in the task that has read the request, where Hypercorn would start another and hand each message over. So
from the upgrade on, whoever wants a message reads the socket. And the app may return and leave the channel to a
successor (`FrameChannel.succeed_by`), which `server` runs in the same task when all of the request is forgotten.

All that is relied on of Hypercorn's inside is in this file and in `server`; what that is,
tests/gateway/test_hypercorn_contract.py says.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

import trio
from hypercorn.protocol import h11 as hypercorn_h11
from hypercorn.protocol.events import EndBody, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.trio.task_group import _handle as run_app
from hypercorn.utils import valid_server_name
from websockets.frames import Frame, Opcode

from ngos.gateway import server
from ngos.gateway.channel import FrameChannel
from ngos.gateway.core import BadHandshake, Core, Handshake, negotiate
from ngos.gateway.wire import text_frame

EXTENSION: Final = "websocket.frames"
END_S: Final = 1.0
"""How long the end of a connection may take that an app has left without a Close."""


_LINE_END: Final = re.compile(rb"[\r\n\0]")


class FrameStream(WSStream):
    """Hypercorn's view of it: takes the place of WSStream (`install`)."""

    deflates = False
    channel: FrameChannel | None = None
    answer: Handshake
    _told_connect = False
    _accepted: trio.Event | None = None

    async def handle(self, event: Any) -> None:
        """Serve a WebSocket from its request to its end. Whatever else Hypercorn tells of is its end."""
        if isinstance(event, Request):
            await self._serve(event)
        elif isinstance(event, StreamClosed):
            self.closed = True
            if self.channel is not None:
                self.channel.gone()

    async def app_send(self, message: Any) -> None:
        """ASGI's `send`; None: the app has ended."""
        if message is None:
            await self._app_ended()
        elif self.state is ASGIWebsocketState.HANDSHAKE and message["type"] == "websocket.accept":
            await self._accept(message)
        elif self.state is not ASGIWebsocketState.CONNECTED:
            if message["type"] == "websocket.http.response.start":
                self._count(message["status"])
            await super().app_send(message)
        elif message["type"] == "websocket.send":
            assert self.channel is not None
            if message.get("bytes") is not None:
                await self.channel.sender.send(Frame(Opcode.BINARY, message["bytes"]).serialize(mask=False))
            else:
                await self.channel.sender.send(text_frame(message["text"].encode(), self.channel.deflate_bits))
        else:
            assert message["type"] == "websocket.close"
            assert self.channel is not None
            self.state = ASGIWebsocketState.CLOSED
            with trio.move_on_after(self.config.graceful_timeout):
                await self.channel.close(message.get("code") or 1000, message.get("reason") or "")

    @property
    def _server(self) -> server.Server:
        found = self.send.__self__.send.__self__  # type: ignore[attr-defined]
        assert isinstance(found, server.Server)
        return found

    async def _serve(self, request: Request) -> None:
        path, _, query = request.raw_path.partition(b"?")
        subprotocols = [
            token.strip().decode("latin1")
            for name, value in request.headers
            if name == b"sec-websocket-protocol"
            for token in value.split(b",")
        ]
        self.scope = {
            "type": "websocket",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "scheme": self.scheme,
            "http_version": request.http_version,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": self.config.root_path,
            "headers": request.headers,
            "client": self.client,
            "server": self.server,
            "state": request.state.copy(),  # type: ignore[typeddict-item]
            "subprotocols": subprotocols,
            "extensions": {"websocket.http.response": {}},
        }
        try:
            if request.http_version != "1.1":
                raise BadHandshake(400)
            self.answer = negotiate(request.headers, deflates=self.deflates)
        except BadHandshake as exc:
            await self._refuse(exc.status)
        else:
            if valid_server_name(self.config, request):
                await self._run_app()
            else:
                await self._refuse(404)

    async def _run_app(self) -> None:
        self._server.set_no_deadline()
        deflate = self.answer.deflate
        core = Core(self.config.websocket_max_message_size, deflate)
        self.channel = FrameChannel(self._server.stream, core, deflate.local_max_window_bits if deflate else 0)
        self.scope["extensions"][EXTENSION] = self.channel  # type: ignore[assignment]
        to_thread, from_thread = trio.to_thread.run_sync, trio.from_thread.run
        await run_app(self.app, self.config, self.scope, self._app_receive, self.app_send, to_thread, from_thread)

    async def _app_receive(self) -> Any:
        """ASGI's `receive`; of a channel that was taken it tells nothing any more."""
        assert self.channel is not None
        if not self._told_connect:
            self._told_connect = True
            return {"type": "websocket.connect"}
        if self.state is ASGIWebsocketState.HANDSHAKE:
            self._accepted = trio.Event()
            await self._accepted.wait()
        if self.channel.taken:
            await trio.sleep_forever()
        try:
            message = await self.channel.receive()
        except trio.EndOfChannel:
            return {"type": "websocket.disconnect", "code": self.channel.end_code}
        text, binary = (message.data.decode(), None) if message.is_text else (None, message.data)
        return {"type": "websocket.receive", "text": text, "bytes": binary}

    async def _accept(self, message: Any) -> None:
        assert self.channel is not None
        headers = [*self.answer.headers, *message.get("headers", ())]
        if subprotocol := message.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", subprotocol.encode()))
        # Not by way of h11, whose part ends here: it checks and copies each header three times.
        await self.channel.send_answer(_answer([*headers, *self.config.response_headers("h11")]))
        self.state = ASGIWebsocketState.CONNECTED
        h11 = self.send.__self__.connection  # type: ignore[attr-defined]
        early, h11.buffer = bytes(h11.buffer), bytearray()
        if early and self.answer.deflate is not None:
            self.channel.abort()  # it can't know yet what was agreed on, and we would read too much at once
        elif early:  # frames that did not wait for this answer
            self.channel.feed(early)
        if self._accepted is not None:
            self._accepted.set()

    async def _app_ended(self) -> None:
        if self.closed:
            return
        if self.state is ASGIWebsocketState.CONNECTED:
            assert self.channel is not None
            if self.channel.successor is not None:
                self._server.successor, self.channel.successor = self.channel.successor, None
                return
            # Without a Close: a defect of the app's.
            self.state = ASGIWebsocketState.CLOSED
            with trio.move_on_after(END_S, shield=True):
                await self.channel.close(1011, "")
        await super().app_send(None)

    async def _refuse(self, status: int) -> None:
        self._count(status)
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        if status == 426:
            headers.append((b"sec-websocket-version", b"13"))
        await self.send(Response(stream_id=self.stream_id, status_code=status, headers=headers))
        await self.send(EndBody(stream_id=self.stream_id))
        await self.send(StreamClosed(stream_id=self.stream_id))

    def _count(self, status: int) -> None:
        door = getattr(self.config, "door", None)
        if door is not None:
            door.rejected(status)


def _answer(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The answer that upgrades (RFC 6455 section 4.2.2). Raises ValueError for a header that would be more than one."""
    lines = [b"%b: %b" % header for header in headers]
    if any(_LINE_END.search(line) for line in lines):
        raise ValueError("a header of the app's has a line end in it")
    return b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""])


def install(*, deflate: bool = False, request_s: float = server.REQUEST_S) -> None:
    """Put FrameStream in the place of WSStream, and `server` under it, for all that Hypercorn serves in this process.

    `deflate`: whether permessage-deflate is agreed to, without context takeover. `request_s`: what a request over HTTP
    may take.
    """
    server.install(request_s=request_s)
    FrameStream.deflates = deflate
    hypercorn_h11.WSStream = FrameStream  # type: ignore[attr-defined]
