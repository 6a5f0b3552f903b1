"""Connections per second: connect, upgrade, (ngos: hear `connection.established`,) Close, and again.

Promises: N are under way at any time; one counts when it is established, its latency is from the connect to then.
The server closes the TCP connection after both Close frames, as RFC 6455 (7.1.1) wants it, so that the client has no
ports in TIME_WAIT. On bare asyncio protocols: a WebSocket library's own work would be most of what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
from array import array
from time import perf_counter
from urllib.parse import urlsplit

from bench_loads.common import Numbers, Run, count, latencies, main
from bench_loads.dialects import DIALECTS

CLOSE_1000 = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # masked with zeros
ONE_S = 5.0
UPGRADED = b"HTTP/1.1 101 "


class AcceptRun(Run):
    """What was counted, of all connections."""

    def __init__(self, url: str, dialect: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self.established = 0
        self.latencies_ms = array("d")
        self.greeting = b'"connection.established"' if dialect == "ngos" else b""
        self.request = (
            f"GET {DIALECTS[dialect].path('idle')} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()


class Visitor(asyncio.Protocol):
    """One connection, from the upgrade to its end."""

    def __init__(self, run: AcceptRun, gone: asyncio.Future[None]) -> None:
        self.run = run
        self.gone = gone
        self.began = perf_counter()
        self.established = False
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if self.established:
            return  # the answer to our Close
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end or self.run.greeting not in rest:
            return
        if not head.startswith(UPGRADED):
            self.run.fail(f"not upgraded: {head[:200]!r}")
            return
        self.established = True
        self.run.established += 1
        if self.run.counting:
            self.run.latencies_ms.append((perf_counter() - self.began) * 1000)
        assert self._transport is not None
        self._transport.write(CLOSE_1000)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.established:
            self.run.fail("connection lost before it was established")
        if not self.gone.done():
            self.gone.set_result(None)


async def visit(run: AcceptRun) -> None:
    """Come and go, until nothing more is to be sent."""
    loop = asyncio.get_running_loop()
    while run.sending:
        gone = loop.create_future()
        try:
            transport, _ = await loop.create_connection(lambda gone=gone: Visitor(run, gone), run.host, run.port)
        except OSError as exc:
            run.fail(f"can't connect: {exc}")
            return
        try:
            async with asyncio.timeout(ONE_S):
                await gone
        except TimeoutError:
            run.fail(f"a connection was not closed by the server within {ONE_S:g} s")
        finally:
            transport.abort()


async def load(arguments: argparse.Namespace) -> Numbers:
    """Keep N connections on their way; return the numbers."""
    run = AcceptRun(arguments.url, arguments.dialect)
    visitors = [asyncio.create_task(visit(run)) for _ in range(arguments.concurrency)]
    window = await count(run, arguments, lambda: run.established)
    await asyncio.gather(*visitors)
    await run.pause(0)  # raises what the last of them met with
    return {**window.numbers(), **latencies(run.latencies_ms)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", type=int, required=True, help="connections under way at any time")


if __name__ == "__main__":
    main(__doc__, load, options)
