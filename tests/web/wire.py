"""HTTP and WebSocket by hand, byte for byte, so that tests can do what no decent client does."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import h11
import orjson
import trio
from attrs import define, field, frozen

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
ANSWER_S = 10.0
"""No answer of these tests takes this long; a server that owes one fails the test by it."""


@frozen
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


def origin_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


async def request(
    base: str,
    method: str,
    path: str,
    *,
    body: object = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    chunked: bool = False,
) -> Answer:
    """Send one request, with `body` as JSON or `content` as it is, and read the response."""
    host, port = origin_of(base)
    if content is None:
        content = b"" if body is None else orjson.dumps(body)
    fields = {"Host": f"{host}:{port}", "Connection": "close"}
    if content:
        fields |= {"Content-Type": "application/json"}
        fields |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(content))}
    fields |= headers or {}
    protocol = h11.Connection(h11.CLIENT)
    data = protocol.send(h11.Request(method=method, target=path, headers=list(fields.items()))) or b""
    data += (protocol.send(h11.Data(data=content)) or b"") if content else b""
    data += protocol.send(h11.EndOfMessage()) or b""
    with trio.fail_after(ANSWER_S):
        async with await trio.open_tcp_stream(host, port) as stream:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                pass  # it has heard enough; its answer is there nevertheless
            return await _read_answer(protocol, stream)


async def _read_answer(protocol: h11.Connection, stream: trio.SocketStream) -> Answer:
    response: h11.Response | None = None
    body = b""
    while True:
        event = protocol.next_event()
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            return Answer(101, {}, b"")
        if event is h11.NEED_DATA:
            protocol.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            return Answer(response.status_code, {k.decode(): v.decode() for k, v in response.headers}, body)


@define(eq=False)
class RawSocket:
    """The client's end of a WebSocket, without any of a client's manners."""

    stream: trio.SocketStream
    _buffer: bytearray = field(factory=bytearray)

    async def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> None:
        """Send one frame."""
        await self.stream.send_all(frame(opcode, payload, fin=fin, masked=masked))

    async def text(self, message: bytes | str) -> None:
        await self.frame(TEXT, message.encode() if isinstance(message, str) else message)

    async def command(self, type_: str, payload: Mapping[str, Any] | None = None, **envelope: Any) -> None:
        await self.text(orjson.dumps({"type": type_, "payload": payload or {}, **envelope}))

    async def next_frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. EndOfChannel when the server has cut the connection."""
        with trio.fail_after(ANSWER_S):
            opcode, size = await self._exactly(2)
            assert not size & 0x80, "a server's frames are not masked"
            if size == 126:
                (size,) = struct.unpack("!H", await self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._exactly(8))
            return opcode & 0x0F, await self._exactly(size)

    async def message(self) -> dict[str, Any]:
        """The next message; Pings in between are not answered."""
        while True:
            opcode, payload = await self.next_frame()
            if opcode == TEXT:
                message: dict[str, Any] = orjson.loads(payload)
                return message
            assert opcode in (PING, PONG), f"a frame {opcode} {payload!r}"

    async def closed(self) -> int:
        """Read until the server's Close, and return its code."""
        while True:
            opcode, payload = await self.next_frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self.stream.receive_some()
            if not data:
                raise trio.EndOfChannel
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """A client's frame (RFC 6455 section 5.2)."""
    first = (0x80 if fin else 0) | opcode
    mask_bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, mask_bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    pad = (key * (size // 4 + 1))[:size]
    return head + key + (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def upgrade(host: str, port: int, target: str = "/ws", headers: Mapping[str, str] | None = None) -> bytes:
    """The request that asks for a WebSocket; `headers` replace, or with an empty text take away."""
    fields = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode()


async def knock(base: str, target: str = "/ws", headers: Mapping[str, str] | None = None) -> Answer:
    """Ask for a WebSocket, and return how the server refuses it; 101 if it does not."""
    host, port = origin_of(base)
    protocol = h11.Connection(h11.CLIENT)
    offer = [("Host", "x"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    protocol.send(h11.Request(method="GET", target="/", headers=offer))
    protocol.send(h11.EndOfMessage())
    with trio.fail_after(ANSWER_S):
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(upgrade(host, port, target, headers))
            return await _read_answer(protocol, stream)


@asynccontextmanager
async def raw_socket(
    base: str, target: str = "/ws", headers: Mapping[str, str] | None = None
) -> AsyncIterator[RawSocket]:
    """An open WebSocket, the greeting not yet read; cut without a goodbye at the end."""
    host, port = origin_of(base)
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        await stream.send_all(upgrade(host, port, target, headers))
        socket = RawSocket(stream)
        head = bytearray()
        with trio.fail_after(ANSWER_S):
            while not head.endswith(b"\r\n\r\n"):
                head += await socket._exactly(1)
        assert head.startswith(b"HTTP/1.1 101 "), bytes(head)
        yield socket
