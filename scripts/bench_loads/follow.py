"""Clients that follow one durable topic of ngos, with every byte checked and little work for each.

Promises: an event's message has the same bytes for everybody, live and replayed, so what the first one gets is parsed
once (text frames, each with the number that was due), and what all others get must be just those bytes. Nothing can be
missing, repeated or out of order without being noticed: it ends the run. On bare asyncio protocols, with the upgrade
done by hand: a WebSocket library's own work would be most of what is measured.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from array import array
from bisect import bisect_right
from time import perf_counter
from urllib.parse import urlsplit

import orjson

from bench_loads.common import LoadError, Run

READ_BYTES = 256 * 1024
TEXT, CLOSE = 0x81, 0x88
SEQ = re.compile(rb'"seq":(\d+)[,}]')
ZERO_MASK = bytes(4)
PONG = b"\x8a\x80\x00\x00\x00\x00"


def frame_at(received: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Where a server's frame has its payload: from, to; None where its head is not whole yet."""
    if len(received) < start + 2:
        return None
    size = received[start + 1]
    if size < 126:
        return start + 2, start + 2 + size
    head = start + (4 if size == 126 else 10)
    if len(received) < head:
        return None
    return head, head + int.from_bytes(received[start + 2 : head], "big")


def text_frame(text: bytes) -> bytes:
    """A client's short text frame, masked with zeros."""
    assert len(text) < 126
    return bytes([TEXT, 0x80 | len(text)]) + ZERO_MASK + text


def refuse(frame: bytes | bytearray, payload_at: int) -> LoadError:
    """Say what this is, which is not a text frame."""
    if frame[0] == CLOSE and len(frame) >= payload_at + 2:
        return LoadError(f"closed by the server with {int.from_bytes(frame[payload_at : payload_at + 2], 'big')}")
    return LoadError(f"not an event: {bytes(frame[:100])!r}")


class Stream:
    """The events of a topic behind `after`, as frames, as far as anybody has got them."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.frames = bytearray()
        self.ends = array("q")  # of the whole frames

    @property
    def last(self) -> int:
        """The number of the last event that is whole."""
        return self.after + len(self.ends)

    def end_of(self, seq: int) -> int:
        """Where this event ends."""
        return self.ends[seq - self.after - 1] if seq > self.after else 0

    def last_before(self, at: int) -> int:
        """The last event that is whole up to there."""
        return self.after + bisect_right(self.ends, at)

    def take(self, data: memoryview, at: int) -> int:
        """Check what somebody got who has all up to `at`; return up to where he has all now."""
        known = len(self.frames) - at
        if len(data) <= known:
            if not self.frames.startswith(data, at):
                raise self._other_than_due(data, at)
        else:
            if known and not self.frames.startswith(data[:known], at):
                raise self._other_than_due(data[:known], at)
            self.frames += data[known:]
            self._parse()
        return at + len(data)

    def _parse(self) -> None:
        frames = self.frames
        start = self.ends[-1] if self.ends else 0
        while (payload := frame_at(frames, start)) is not None and payload[1] <= len(frames):
            if frames[start] != TEXT:
                raise refuse(frames[start:], payload[0] - start)
            seq = SEQ.search(frames, *payload)
            if seq is None or int(seq[1]) != self.last + 1:
                raise LoadError(f"event {self.last + 1} was due, and this came: {frames[start : start + 500]!r}")
            start = payload[1]
            self.ends.append(start)

    def _other_than_due(self, data: memoryview, at: int) -> LoadError:
        same = next(n for n, byte in enumerate(data) if byte != self.frames[at + n])
        seq, start = self.last_before(at + same) + 1, max(0, same - 200)
        return LoadError(f"event {seq} was due, and something else came: {bytes(data[start : same + 200])!r}")


class FollowRun(Run):
    """What all followers share."""

    def __init__(self, url: str, topic: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self.topic = topic
        self.stream = Stream(0)
        self.buffer = bytearray(READ_BYTES)
        self.view = memoryview(self.buffer)
        self.request = (
            f"GET /ws HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()


class Follower(asyncio.BufferedProtocol):
    """One client: connects, subscribes, and has its bytes checked. It may be cut off, and come back.

    `at` is up to where it has the stream; `subscribed` is the payload of the reply.
    """

    def __init__(self, run: FollowRun) -> None:
        self.run = run
        self.at = 0
        self.subscribed: dict[str, object] = {}
        self.subscribed_at = 0.0
        self.transport: asyncio.Transport | None = None
        self._since: int | None = None
        self._epoch: object = None
        self._received = b""
        self._following = False

    @property
    def seq(self) -> int:
        """The last event that it has."""
        return self.run.stream.last_before(self.at)

    @property
    def head(self) -> int:
        """The topic's last event, when its subscription was answered."""
        seq = self.subscribed["seq"]
        assert isinstance(seq, int)
        return seq

    def has(self, seq: int) -> bool:
        """Whether it has this event, and so all before."""
        return seq <= self.run.stream.last and self.at >= self.run.stream.end_of(seq)

    async def connect(self, since: int | None = None, sock: socket.socket | None = None) -> None:
        """Connect anew, and go on behind the event `since`; None: with what comes."""
        loop = asyncio.get_running_loop()
        self._since = since
        if since is not None:
            self.at = self.run.stream.end_of(since)
        self._received = b""
        self._following = False
        address = {"sock": sock} if sock is not None else {"host": self.run.host, "port": self.run.port}
        await loop.create_connection(lambda: self, **address)  # type: ignore[call-overload]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(self.run.request)

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        return self.run.buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self.run.view[:nbytes]
        try:
            if self._following:
                self.at = self.run.stream.take(data, self.at)
            else:
                self._greet(bytes(data))
        except LoadError as exc:
            self.run.fail(str(exc))

    def _greet(self, data: bytes) -> None:
        """The upgrade, `connection.established`, `subscribed`; what follows are events."""
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 101 "):
            raise LoadError(f"not upgraded: {head[:200]!r}")
        start = 0
        while (payload := frame_at(rest, start)) is not None and payload[1] <= len(rest):
            if rest[start] != TEXT:
                raise refuse(rest[start:], payload[0] - start)
            message = orjson.loads(rest[slice(*payload)])
            start = payload[1]
            match message["type"]:
                case "connection.established":
                    self._subscribe()
                case "subscribed":
                    self.subscribed, self.subscribed_at = message["payload"], perf_counter()
                    self._check_reply()
                    self._epoch = self.subscribed["epoch"]
                    self._received, self._following = b"", True
                    self.at = self.run.stream.take(memoryview(rest)[start:], self.at)
                    return
                case _:
                    raise LoadError(f"not subscribed: {message}")
        self._received = head + end + rest[start:]

    def _subscribe(self) -> None:
        payload = {"topic": self.run.topic}
        if self._since is not None:
            payload |= {"since": self._since} | ({"epoch": self._epoch} if self._epoch else {})
        assert self.transport is not None
        self.transport.write(text_frame(orjson.dumps({"type": "subscribe", "payload": payload})))

    def _check_reply(self) -> None:
        reply = self.subscribed
        due = {"recovered": False, "replay": 0}
        if self._since is not None:
            due = {"recovered": True, "replay": self.head - self._since}
        if any(reply[name] != value for name, value in due.items()):
            raise LoadError(f"since {self._since}, and it was answered {reply}")

    def stay_alive(self) -> None:
        """Give the server no cause for a Ping: any frame is a sign of life."""
        assert self.transport is not None
        self.transport.write(PONG)

    def cut(self) -> None:
        """Vanish, with a reset."""
        assert self.transport is not None
        transport, self.transport = self.transport, None
        self.subscribed = {}
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None:
            self.run.fail("a follower lost its connection")
