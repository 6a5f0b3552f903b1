"""Replay: one client wants all events of a topic behind a position, as fast as it gets them or at its own slow pace.

Promises: every event is checked, by its number, once each. The rate is from the sending of `subscribe` (with it goes
the connecting) to the last event that was asked for. A second client, in a process of its own, pings all the while:
what it waits before and during the replay tells whether that holds anybody up. Memory is the server's, as the kernel
counts it. A slow reader reads so many bytes a second for a time, and must still be connected at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from time import perf_counter

from bench_loads.beside import Beside
from bench_loads.common import LoadError, Numbers, count, main
from bench_loads.follow import Follower, FollowRun, Stream
from bench_loads.memory import still_rss_kb
from bench_loads.watch import Watch

PINGS_PER_S = 200
PATIENCE_S = 60.0
TICK_S = 0.02
SLOW_BUFFER_BYTES = 64 * 1024


class SlowFollower(Follower):
    """Reads so many bytes a second, in small pieces."""

    def __init__(self, run: FollowRun, bytes_per_s: float) -> None:
        super().__init__(run)
        self._bytes_per_s = bytes_per_s
        self._turn = memoryview(run.buffer)[: max(1, int(bytes_per_s * TICK_S))]

    async def connect(self, since: int | None = None, sock: socket.socket | None = None) -> None:
        """With a small receive buffer: what the kernel takes for us in advance, the server does not wait for."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (self.run.host, self.run.port))
        await super().connect(since, sock)

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        return self._turn

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        if self.transport is not None:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(nbytes / self._bytes_per_s, self._read_on)

    def _read_on(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()


async def load(arguments: argparse.Namespace) -> Numbers:
    """Ping, replay, look; return the numbers."""
    run = FollowRun(arguments.url, arguments.topic)
    since = await _head(run) - arguments.events
    if since < 0:
        raise LoadError(f"{arguments.events} events are to be replayed, and there are {-since} too few")
    run.stream = Stream(since)
    watch = Watch(run, arguments.server_pid)
    slow_bytes_per_s = arguments.slow_kb_per_s * 1000
    follower = SlowFollower(run, slow_bytes_per_s) if slow_bytes_per_s else Follower(run)
    replay = Replay(run, follower, since, since + arguments.events)

    async def go() -> None:
        watch.enter("during")
        await replay.go(arguments.seconds if slow_bytes_per_s else None)
        watch.enter("after")

    async with Beside.running(run, arguments.url, "--per-s", str(PINGS_PER_S)) as pinger:
        watch.enter("before")
        window = await count(run, arguments, lambda: follower.seq - since, go)
        follower.cut()
        left_kb = await still_rss_kb(run, arguments.server_pid)
        samples = await pinger.stop()
    got_bytes = run.stream.end_of(follower.seq)
    return (
        window.numbers()
        | watch.numbers(samples)
        | {
            "first_ms": replay.first_s * 1000,
            "mb_per_s": got_bytes / window.seconds / 1e6,
            "event_bytes": got_bytes / (follower.seq - since),
            "left_mb": left_kb / 1024,
        }
    )


class Replay:
    """Connects, and waits: for the last event, or for so many seconds."""

    def __init__(self, run: FollowRun, follower: Follower, since: int, head: int) -> None:
        self.first_s = 0.0
        self._run, self._follower, self._since, self._head = run, follower, since, head

    async def go(self, seconds: float | None) -> None:
        run, follower = self._run, self._follower
        began = perf_counter()
        await follower.connect(self._since)
        await run.until(lambda: follower.seq > self._since, PATIENCE_S, lambda: "no event came")
        self.first_s = perf_counter() - began
        if seconds is not None:
            await run.pause(seconds)
        else:
            await run.until(
                lambda: follower.has(self._head), PATIENCE_S, lambda: f"{self._head - follower.seq} events did not come"
            )


async def _head(run: FollowRun) -> int:
    """The number of the topic's last event."""
    asker = Follower(run)
    await asker.connect()
    await run.until(lambda: bool(asker.subscribed), PATIENCE_S, lambda: "no reply to subscribe")
    head = asker.head
    asker.cut()
    return head


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", required=True, help="a durable one, with enough events")
    parser.add_argument("--events", type=int, required=True, help="how many of the last ones to replay")
    parser.add_argument("--slow-kb-per-s", type=float, default=0.0, help="read no faster, for --seconds")


if __name__ == "__main__":
    main(__doc__, load, options)
