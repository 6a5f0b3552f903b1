"""What comes before the upgrade is answered, or after it was refused: a peer breaks only its own connection."""

from __future__ import annotations

import pytest
import trio

from tests.servers import Running
from tests.web.wire import ANSWER_S, TEXT, frame, origin_of, request, upgrade

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
