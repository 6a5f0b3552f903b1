"""Clients that subscribe and then never read, and how to see that the server has cut them.

A server that closes a socket behind data that nobody takes is not heard by that client: its FIN waits behind the
data. So the server's own count of connections is asked too, and who is first to know counts.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

import orjson

from bench_loads.common import LoadError, Numbers, quantile
from bench_loads.dialects import DIALECTS

ONE_S = 10.0
CUT = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
ZERO_MASK = bytes(4)

T = TypeVar("T")


class Stalled:
    """All clients that never read."""

    def __init__(self, netloc: str, topic: str) -> None:
        self._netloc = netloc
        self._subscribe = DIALECTS["ngos"].greet([topic])[0]
        self._stopped_at: dict[int, float] = {}
        self._sockets: list[socket.socket] = []
        self._epoll = select.epoll()
        self._heard = 0  # by their sockets
        self._connections_before = 0
        self._cut_s: list[float] = []

    async def connect(self, number: int) -> None:
        """Come one after the other; each is stalled from when it heard that it is subscribed."""
        self._connections_before = await self._connections()
        for _ in range(number):
            sock = socket.socket()
            sock.setblocking(False)
            self._sockets.append(sock)
            await _in_time(self._settle(sock), "a client that is to stall was not subscribed")
            self._stopped_at[sock.fileno()] = perf_counter()
            self._epoll.register(sock.fileno(), CUT)

    async def _settle(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        host, _, port = self._netloc.partition(":")
        await loop.sock_connect(sock, (host, int(port)))
        head = (
            f"GET /ws HTTP/1.1\r\nHost: {self._netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await loop.sock_sendall(sock, head.encode())
        received = b""
        while b'"connection.established"' not in received:
            received += await self._some(sock)
        await loop.sock_sendall(sock, bytes([0x81, 0x80 | len(self._subscribe)]) + ZERO_MASK + self._subscribe)
        while b'"type":"subscribed"' not in received:
            received += await self._some(sock)

    @staticmethod
    async def _some(sock: socket.socket) -> bytes:
        if not (data := await asyncio.get_running_loop().sock_recv(sock, 4096)):
            raise LoadError("a client was refused before it stalled")
        return data

    async def all_cut(self) -> bool:
        """Look who is cut by now."""
        for fileno, _events in self._epoll.poll(0):
            self._epoll.unregister(fileno)
            self._heard += 1
        gone = self._connections_before + len(self._sockets) - await self._connections()
        now = perf_counter()
        stopped_at = sorted(self._stopped_at.values())
        while len(self._cut_s) < min(len(stopped_at), max(gone, self._heard)):
            self._cut_s.append(now - stopped_at[len(self._cut_s)])
        return not self.left()

    def left(self) -> int:
        return len(self._sockets) - len(self._cut_s)

    async def _connections(self) -> int:
        """How many the server counts."""
        return await _in_time(_active_connections(self._netloc), "the server did not answer /ws/stats")

    def numbers(self) -> Numbers:
        ordered = sorted(self._cut_s)
        return {
            "cut_first_s": quantile(ordered, 0.0),
            "cut_last_s": quantile(ordered, 1.0),
            "cut_heard": self._heard,
        }

    def close(self) -> None:
        self._epoll.close()
        for sock in self._sockets:
            sock.close()


async def _active_connections(netloc: str) -> int:
    reader, writer = await asyncio.open_connection(*netloc.split(":"))
    try:
        writer.write(f"GET /ws/stats HTTP/1.1\r\nHost: {netloc}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        return int(orjson.loads(body)["active_connections"])
    finally:
        writer.close()


async def _in_time(what: Awaitable[T], why_not: str) -> T:
    try:
        async with asyncio.timeout(ONE_S):
            return await what
    except TimeoutError:
        raise LoadError(f"{why_not} within {ONE_S:g} s") from None
