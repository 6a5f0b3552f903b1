"""What comes before the upgrade is answered, or after it was refused: a peer breaks only its own connection."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
import trio
from h2.connection import H2Connection

from ngos.gateway.server import Server, _Deadline
from tests.servers import Running
from tests.web.wire import ANSWER_S, BINARY, TEXT, frame, origin_of, raw_socket, request, upgrade

PING = frame(TEXT, b'{"type":"ping"}')
REFUSED = {
    "key": ("/ws", {"Sec-WebSocket-Key": ""}),
    "version": ("/ws", {"Sec-WebSocket-Version": "8"}),
    "path": ("/nothing", {}),
    "client_id": ("/ws?client_id=", {}),
}


async def alive(server: Running) -> None:
    """The server goes on for others."""
    for _ in range(3):
        assert 200 == (await request(server.http, "GET", "/livez")).status


@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_frames_before_the_answer(target: Running, pieces: int) -> None:
    """A client that sends frames without waiting for the 101 is served or let go; the server goes on."""
    host, port = origin_of(target.http)
    for _ in range(10):
        async with await trio.open_tcp_stream(host, port) as stream:
            match pieces:
                case 1:
                    await stream.send_all(upgrade(host, port) + PING)
                case 2:
                    await stream.send_all(upgrade(host, port))
                    await stream.send_all(PING)
                case _:
                    await stream.send_all(upgrade(host, port) + PING)
                    await stream.send_all(PING)
    await alive(target)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_frames_with_the_request(target: Running, opcode: int) -> None:
    """Tries to have what came in one packet with the upgrade left lying until something else comes."""
    host, port = origin_of(target.http)
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(upgrade(host, port) + frame(opcode, b'{"type":"ping","id":"1"}'))
        got = b""
        with trio.fail_after(ANSWER_S):
            while (b'"reply_to":"1"' if opcode == TEXT else b"\x03\xeb") not in got:
                got += await stream.receive_some()


async def test_an_upgrade_of_http_1_0(target: Running) -> None:
    """Tries to be upgraded by a version of HTTP that has no upgrade (RFC 6455 section 4.1)."""
    host, port = origin_of(target.http)
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(upgrade(host, port).replace(b"HTTP/1.1", b"HTTP/1.0"))
        with trio.fail_after(ANSWER_S):
            assert b" 400 " in await stream.receive_some()


@pytest.mark.parametrize("path", ["/livez", "/ws/stats", "/nothing", "/ws"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_who_asks_for_the_end_gets_it(target: Running, path: str, version: str) -> None:
    """Tries to keep somebody waiting for the end of a connection that it asked to be closed after the answer."""
    host, port = origin_of(target.http)
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(f"GET {path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        with trio.fail_after(ANSWER_S):
            while await stream.receive_some():
                pass


HALF = {
    "nothing": b"",
    "half a request": b"GET / HT",
    "one that was answered": b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "half a body": b"POST /ws/publish/x HTTP/1.1\r\nHost: a\r\n"
    b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    "half a body that nobody wants": b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx",
}


@pytest.mark.parametrize("what", HALF)
async def test_idle_connections_end_and_nothing_else_does(
    target: Running, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Tries to keep a connection by sending nothing, or half of something; or to end the server by its end."""
    host, port = origin_of(target.http)
    async with raw_socket(target.http) as bystander:
        await bystander.message()
        is_held = trio.Event()

        def impatient(_idle_s: float, request_s: float) -> _Deadline:
            is_held.set()
            return _Deadline(0.3, request_s)

        # Only the one that is made meanwhile is held to so little time.
        with monkeypatch.context() as patch:
            patch.setattr(Server, "request_s", 0.3)
            patch.setattr("ngos.gateway.server._Deadline", impatient)
            stream = await trio.open_tcp_stream(host, port)
            with trio.fail_after(ANSWER_S):
                await is_held.wait()
        async with stream:
            with trio.fail_after(3):
                try:
                    if HALF[what]:
                        await stream.send_all(HALF[what])
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass  # cut: that is fine
            await alive(target)
            await bystander.command("ping", id="1")
            assert "pong" == (await bystander.message())["type"]


async def test_http2_is_not_spoken(target: Running) -> None:
    """Tries to get at streams that cost nothing to open and to reset: by prior knowledge, and by an upgrade."""
    host, port = origin_of(target.http)
    client = H2Connection()
    client.initiate_connection()
    fields = {":method": "GET", ":path": "/livez", ":scheme": "http", ":authority": "a"}
    for stream_id in range(1, 200, 2):
        client.send_headers(stream_id, list(fields.items()))
        client.reset_stream(stream_id)
    asked = b"GET /livez HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
    for data in (client.data_to_send(), asked + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"):
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(data)
            answer = bytearray()
            with trio.fail_after(3):
                try:
                    while got := await stream.receive_some():
                        answer += got
                except trio.BrokenResourceError:
                    pass  # cut with the rest unread
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), answer


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_answers_that_nobody_takes(target: Running) -> None:
    """Tries to leave a connection behind, and its descriptor, by a reset in the midst of an answer."""
    host, port = origin_of(target.http)
    asked = b"GET /asyncapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    before = descriptors()
    for _ in range(20):
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(asked * 50)
            await stream.receive_some(100)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with trio.fail_after(10):
        while descriptors() > before + 2:  # noqa: ASYNC110 - nobody could set an Event
            await trio.sleep(0.05)
    await alive(target)


@pytest.mark.parametrize("why", REFUSED)
async def test_frames_after_a_refusal(target: Running, why: str) -> None:
    """A client that goes on as if its upgrade had not been refused breaks nothing but its own connection."""
    host, port = origin_of(target.http)
    path, headers = REFUSED[why]
    for _ in range(10):
        async with await trio.open_tcp_stream(host, port) as stream:
            try:
                await stream.send_all(upgrade(host, port, path, headers) + PING)
                await stream.send_all(PING)
                await stream.receive_some()
                await stream.send_all(PING)
            except trio.BrokenResourceError:
                pass  # cut: that is fine
    await alive(target)


@pytest.mark.parametrize("why", REFUSED)
async def test_a_refusal_ends_the_connection(target: Running, why: str) -> None:
    """A refused upgrade does not leave a connection open that nothing watches any more."""
    host, port = origin_of(target.http)
    path, headers = REFUSED[why]
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(upgrade(host, port, path, headers))
        with trio.fail_after(ANSWER_S):
            while await stream.receive_some():
                pass


NOT_HTTP = (
    b"\r\n" * 100,
    b"\0" * 100,
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /ws/broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /ws/broadcast HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 100_000,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000,
    b"GET http://[/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%zz%00%ff?%zz=%ff HTTP/1.1\r\nHost: \xff\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: zz\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


async def test_what_is_not_http(target: Running) -> None:
    """Bytes that are no HTTP, or nearly, end their connection and nothing else."""
    host, port = origin_of(target.http)
    for data in NOT_HTTP:
        async with await trio.open_tcp_stream(host, port) as stream:
            try:
                await stream.send_all(data)
                await stream.send_eof()
                with trio.fail_after(ANSWER_S):
                    while await stream.receive_some():
                        pass
            except trio.BrokenResourceError:
                pass  # cut: that is fine
        await alive(target)
