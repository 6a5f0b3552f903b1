"""One client's connection, life after life: it comes, subscribes, answers Pings, and comes back by itself.

Promises: whoever ends a connection, and however often it fails, the client is back after a pause, as protocol.md's
section 8 has it, and goes on with `since`; who ended it is counted. On bare asyncio protocols, whose buffer all share:
a WebSocket library's own work would be most of what the process does.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from random import Random
from time import monotonic
from typing import Any

import orjson
from attack_parts.wire import CLOSE, PING, PONG, TEXT, frame
from bench_loads.follow import frame_at

READ_BYTES = 256 * 1024
ANSWER_S = 30.0
GOODBYE_S = 5.0
AWAY_S = (0.2, 3.0)
BACK_OFF_S, BACK_OFF_MOST_S = 0.5, 20.0
CLOSE_FRAME = frame(CLOSE, (1000).to_bytes(2, "big"))
FIN = 0x80


class Fleet:
    """What the clients of a process share."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.rng = Random(seed)
        self.buffer = bytearray(READ_BYTES)
        self.view = memoryview(self.buffer)
        self.received_bytes = 0
        self.came_back = 0
        self.resumed = 0  # subscriptions that were away and go on
        self.ended: Counter[str] = Counter()
        """How connections ended that the client did not end."""
        self.faults: Counter[str] = Counter()

    def fault(self, what: str) -> None:
        """Note a finding; so many of them are told, all are counted."""
        self.faults[what if len(self.faults) < 50 else "more findings"] += 1


class Link(asyncio.BufferedProtocol):
    """One client. Subclasses say what follows the greeting, and what they do with messages."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.ready = asyncio.Event()  # all that was to be answered after the greeting is
        self.lives = 0
        self.lost = False  # what it got is not what was due: it comes back no more
        self._rest = b""
        self._upgraded = False
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving = False
        self._why = ""

    async def live(self) -> None:
        """Be connected, until cancelled."""
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while not self.lost:
                self._rest, self._upgraded, self._leaving, self._why = b"", False, False, ""
                self._gone = loop.create_future()
                self.ready.clear()
                try:
                    await asyncio.wait_for(loop.create_connection(lambda: self, "127.0.0.1", self.fleet.port), ANSWER_S)
                    await self._until_gone()
                except (OSError, TimeoutError) as exc:
                    self._why = type(exc).__name__
                self.ready.clear()
                if self._leaving:
                    failures = 0
                    await asyncio.sleep(self.fleet.rng.uniform(*AWAY_S))
                else:
                    failures = 0 if self._upgraded else failures + 1
                    self.fleet.ended[self._why or "without a Close"] += 1
                    most_s = min(BACK_OFF_MOST_S, BACK_OFF_S * 2**failures)
                    await asyncio.sleep(self.fleet.rng.uniform(0, most_s))
                self.fleet.came_back += 1
        finally:
            if self._transport is not None:
                self._transport.abort()

    async def _until_gone(self) -> None:
        settled = asyncio.create_task(self.ready.wait())
        either: set[asyncio.Future[Any]] = {settled, self._gone}
        try:
            await asyncio.wait(either, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()
        if not self.ready.is_set() and not self._gone.done():
            self._why = "no answer"
            self._abort()
        await self._gone

    def leave(self) -> None:
        """Go, now with a Close, now with a reset, and come back soon. Does nothing where it is not ready."""
        if not self.ready.is_set() or self._leaving or self._transport is None:
            return
        self._leaving = True
        if self.fleet.rng.random() < 0.5:
            self._transport.write(CLOSE_FRAME)
            asyncio.get_running_loop().call_later(GOODBYE_S, self._abort_if, self.lives)
        else:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._abort()

    def send(self, type_: str, payload: dict[str, Any], id_: str) -> None:
        """Send a command, if there is a connection."""
        if self._transport is not None:
            self._transport.write(frame(TEXT, orjson.dumps({"id": id_, "type": type_, "payload": payload})))

    def give_up(self, what: str) -> None:
        """What it got is not what was due."""
        self.fleet.fault(f"{self.name}: {what}")
        self.lost = True
        self._abort()

    # What subclasses are.

    def on_greeting(self) -> None:
        raise NotImplementedError

    def on_frame(self, whole: bytes, payload: bytes, now: float) -> None:
        """A text frame, and the message in it."""
        raise NotImplementedError

    # asyncio's side.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self.lives += 1
        request = (
            f"GET /ws?client_id={self.name} HTTP/1.1\r\nHost: 127.0.0.1:{self.fleet.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        transport.write(request.encode())

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.fleet.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.fleet.received_bytes += nbytes
        self.take(bytes(self.fleet.view[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._gone.done():
            self._gone.set_result(None)

    def take(self, data: bytes) -> None:
        """Whole frames go to `on_frame`; what is not whole waits."""
        rest = self._rest + data
        start = 0
        if not self._upgraded:
            head, end, after = rest.partition(b"\r\n\r\n")
            if not end:
                self._rest = rest
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._why = head[:12].decode("latin1")
                self._abort()
                return
            self._upgraded, rest = True, after
        now = monotonic()
        while (bounds := frame_at(rest, start)) is not None and bounds[1] <= len(rest):
            opcode, payload = rest[start], rest[slice(*bounds)]
            if opcode == FIN | TEXT:
                self.on_text(rest[start : bounds[1]], payload, now)
            elif opcode == FIN | PING:
                self._write(frame(PONG, payload))
            elif opcode == FIN | CLOSE:
                self._why = f"closed {int.from_bytes(payload[:2], 'big') if payload else 1005}"
                self._write(frame(CLOSE, payload[:2]))
                asyncio.get_running_loop().call_later(GOODBYE_S, self._abort_if, self.lives)
            elif opcode != FIN | PONG:
                self.fleet.fault(f"{self.name}: a frame of no kind that was due: {rest[start : start + 100]!r}")
            start = bounds[1]
        self._rest = rest[start:]

    def on_text(self, whole: bytes, payload: bytes, now: float) -> None:
        if self._upgraded and payload.startswith(b'{"id":') and b'"type":"connection.established"' in payload[:200]:
            self.on_greeting()
        else:
            self.on_frame(whole, payload, now)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _abort_if(self, life: int) -> None:
        if life == self.lives:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
