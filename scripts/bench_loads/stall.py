"""Clients that never read among many that do: when they are cut, and what the others notice.

Promises: events are published at a fixed rate, whatever comes back. Each tells when it was sent; of every reader,
each 20th read is looked into, and all whole events in it are samples of latency. Three windows: before there are
stalled clients, while there are, and after the last was cut. The stalled ones have sockets with default buffers, say
that they subscribe, hear that they have, and never read again; one is cut when the server no longer counts it among
its connections, or when its socket says so. At the end every reader has got as many bytes as the witness, who
parsed all events and had them all, in order. Knows ngos only.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from array import array
from collections.abc import Sequence
from time import perf_counter
from urllib.parse import urlsplit

from picows import WSFrame

from bench_loads.common import (
    DRAIN_S,
    LoadError,
    Numbers,
    Run,
    Window,
    count,
    latencies,
    main,
    rss_kb,
)
from bench_loads.dialects import DIALECTS, Client, connect, settle
from bench_loads.stalled import Stalled

TOPIC = "bench"
EACH = 20  # reads of a reader to one that is looked into
READ_BYTES = 256 * 1024
TICK_S = 0.001
LOOK_S = 0.05
ALIVE_S = 10.0
PONG = b"\x8a\x80\x00\x00\x00\x00"
PATIENCE_S = 60.0  # until the last one is cut
SENT_AT = re.compile(rb'"at":"([\d.]{17})"')
NGOS = DIALECTS["ngos"]


class Phase:
    """What was seen in one window."""

    def __init__(self) -> None:
        self.latencies_ms = array("d")
        self.rss_max_kb = 0


class StallRun(Run):
    """What all share: the phase, and the buffer that readers read into."""

    def __init__(self, payload_bytes: int) -> None:
        super().__init__()
        self.phase = Phase()
        self.buffer = bytearray(READ_BYTES)
        self.published = 0
        self._filler = b"x" * (payload_bytes - len(self._payload(b"")))

    def _payload(self, filler: bytes) -> bytes:
        return b'{"at":"%017.6f","number":"%09d","data":"%b"}' % (perf_counter(), self.published, filler)

    def event(self) -> bytes:
        """The next event to publish; it tells when, and which one it is."""
        payload = self._payload(self._filler)
        self.published += 1
        return NGOS.publish(TOPIC, payload)

    def look_into(self, nbytes: int) -> None:
        """Take the latencies of all events that are whole in what was just read."""
        now = perf_counter()
        self.phase.latencies_ms.extend(
            (now - float(sent_at)) * 1000 for sent_at in SENT_AT.findall(self.buffer, 0, nbytes)
        )


class Reader(asyncio.BufferedProtocol):
    """Counts a reader's bytes, and looks into some."""

    def __init__(self, run: StallRun, number: int) -> None:
        self.run = run
        self.bytes = 0
        self._turn = number % EACH + 1

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.run.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.bytes += nbytes
        self._turn -= 1
        if not self._turn:
            self._turn = EACH
            self.run.look_into(nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.run.sending:
            self.run.fail("a reader lost its connection")


class Witness(Client):
    """A reader that parses everything."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, NGOS, [TOPIC])
        self.events = 0
        self.bytes = 0

    def on_message(self, frame: WSFrame) -> None:
        event = frame.get_payload_as_bytes()
        if b'"number":"%09d"' % self.events not in event:
            self.run.fail(f"event {self.events} was due, and this came: {event[:500]!r}")
        self.events += 1
        self.bytes += NGOS.counted_bytes(event)


async def load(arguments: argparse.Namespace) -> Numbers:
    """Publish through the three windows; return the numbers."""
    run = StallRun(arguments.payload_bytes)
    publisher, witness = Client(run, NGOS, []), Witness(run)
    clients = [Client(run, NGOS, [TOPIC]) for _ in range(arguments.readers - 1)]
    await connect(run, arguments.url, "sub", [*clients, witness, publisher])
    await settle(run, [*clients, witness, publisher])
    readers = _read_only(run, clients)
    stalled = Stalled(urlsplit(arguments.url).netloc, TOPIC)
    tasks = [
        asyncio.create_task(_publish(run, publisher, arguments.events_per_s)),
        asyncio.create_task(_watch_memory(run, arguments.server_pid)),
        asyncio.create_task(_stay_alive(clients)),
    ]
    try:
        window, phases = await _three_windows(run, arguments, stalled)
        await run.until(lambda: witness.events == run.published, DRAIN_S, lambda: "the last event did not come")
        await run.until(
            lambda: all(reader.bytes == witness.bytes for reader in readers),
            DRAIN_S,
            lambda: f"{sum(reader.bytes != witness.bytes for reader in readers)} readers did not get all events",
        )
    finally:
        for task in tasks:
            task.cancel()
        stalled.close()
    numbers = window.numbers() | stalled.numbers()
    for name, phase in zip(("before", "during", "after"), phases, strict=True):
        numbers |= {f"{name}_{key}": value for key, value in latencies(phase.latencies_ms).items()}
        numbers |= {f"{name}_rss_mb": phase.rss_max_kb / 1024, f"{name}_samples": len(phase.latencies_ms)}
    return numbers


async def _three_windows(
    run: StallRun, arguments: argparse.Namespace, stalled: Stalled
) -> tuple[Window, Sequence[Phase]]:
    """Before, during, after; the numbers of the whole time are of the window that is returned."""
    before, during, after = Phase(), Phase(), Phase()

    async def go() -> None:
        run.phase = before
        await run.pause(arguments.seconds)
        run.phase = during
        await stalled.connect(arguments.stalled)
        deadline = perf_counter() + PATIENCE_S
        while not await stalled.all_cut():
            if perf_counter() > deadline:
                raise LoadError(f"{stalled.left()} of {arguments.stalled} stalled clients not cut in {PATIENCE_S:g} s")
            await run.pause(LOOK_S)
        run.phase = after
        await run.pause(arguments.seconds)

    return await count(run, arguments, lambda: run.published, go), (before, during, after)


def _read_only(run: StallRun, clients: Sequence[Client]) -> list[Reader]:
    """From now on these count, and parse nothing."""
    readers = []
    for number, client in enumerate(clients):
        client.leaving = True
        readers.append(reader := Reader(run, number))
        assert client.transport is not None
        client.transport.underlying_transport.set_protocol(reader)
    return readers


async def _publish(run: StallRun, publisher: Client, events_per_s: float) -> None:
    """An open loop: what is due is sent, however far behind anybody is."""
    start = perf_counter()
    while run.sending:
        while run.published < (perf_counter() - start) * events_per_s:
            publisher.send(run.event())
        await asyncio.sleep(TICK_S)


async def _stay_alive(clients: Sequence[Client]) -> None:
    """Give the server no cause for a Ping, which no reader would answer: any frame is a sign of life."""
    while True:
        await asyncio.sleep(ALIVE_S)
        for client in clients:
            assert client.transport is not None
            client.transport.underlying_transport.write(PONG)


async def _watch_memory(run: StallRun, pid: int) -> None:
    while True:
        run.phase.rss_max_kb = max(run.phase.rss_max_kb, rss_kb(pid))
        await asyncio.sleep(LOOK_S)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--readers", type=int, required=True)
    parser.add_argument("--stalled", type=int, required=True, help="clients that never read")
    parser.add_argument("--events-per-s", type=float, required=True)
    parser.add_argument("--payload-bytes", type=int, required=True)


if __name__ == "__main__":
    main(__doc__, load, options)
