"""The storm: all followers of a topic vanish at once while events are written, and all come back at once.

Promises: events are written at a fixed rate, by a client in a process of its own, before, while all are away, and
until long after all are back. Everybody vanishes with a reset, stays away for a while (with a jitter, each for a random
time more), connects, and subscribes behind the last event that it had whole. Every byte is checked (see `follow`), so
that nobody has a gap or a repeat, and in the end everybody has the last event that was written.

Times are from when the first one is due to come back: `subscribed` is when one's subscription was answered, `replayed`
when it had all up to the position that the answer told, and `level` when it had all up to the one that was the last
when the last client was subscribed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Sequence
from time import perf_counter

from bench_loads.beside import Beside
from bench_loads.common import DRAIN_S, Numbers, count, main, quantile
from bench_loads.follow import Follower, FollowRun, Stream
from bench_loads.memory import still_rss_kb
from bench_loads.watch import Watch

AT_ONCE = 100  # handshakes, when all come for the first time
SETTLE_S = 30.0
BACK_S = 70.0  # until the last one is level
LOOK_S = 0.02
ALIVE_S = 10.0


class Returner(Follower):
    """Follows, vanishes, comes back."""

    def __init__(self, run: FollowRun) -> None:
        super().__init__(run)
        self.since = 0
        self.replayed_at = 0.0
        self.level_at = 0.0

    def vanish(self) -> None:
        self.since = self.seq
        self.cut()

    async def come_back(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        try:
            await self.connect(self.since)
        except OSError as exc:
            self.run.fail(f"can't connect: {exc}")

    def look(self, now: float, level: int | None) -> bool:
        """Note what it has reached by now; returns whether it is level."""
        if not self.replayed_at and self.subscribed and self.has(self.head):
            self.replayed_at = now
        if level is not None and self.has(level):
            self.level_at = now
        return bool(self.level_at)


async def load(arguments: argparse.Namespace) -> Numbers:
    """Follow, vanish, come back; return the numbers."""
    run = FollowRun(arguments.url, arguments.topic)
    watch = Watch(run, arguments.server_pid)
    clients = [Returner(run) for _ in range(arguments.clients)]
    await _follow(run, clients)
    rate = ("--per-s", str(arguments.rate), "--payload-bytes", str(arguments.payload_bytes))
    alive = asyncio.create_task(_stay_alive(clients))
    async with Beside.running(run, arguments.url, "--topic", arguments.topic, *rate) as writer:
        await run.pause(arguments.warm_up)
        watch.enter("before")
        await run.pause(arguments.seconds)
        watch.enter("away")
        for client in clients:
            client.vanish()
        await run.pause(arguments.away)
        watch.enter("back")
        arguments.warm_up = 0.0  # the window is to begin at once
        began = perf_counter()
        window = await count(run, arguments, lambda: 0.0, lambda: _come_back(run, clients, arguments.jitter))
        watch.enter("after")
        await run.pause(arguments.seconds)
        written = await writer.stop()
        await run.until(
            lambda: all(client.has(written.last_seq) for client in clients),
            DRAIN_S,
            lambda: f"{sum(not client.has(written.last_seq) for client in clients)} clients did not get the last event",
        )
    alive.cancel()
    numbers = window.numbers() | watch.numbers(written) | _times(clients, began)
    for client in clients:
        client.cut()
    left_kb = await still_rss_kb(run, arguments.server_pid)
    return numbers | {"written": len(written.ms), "left_mb": left_kb / 1024}


async def _follow(run: FollowRun, clients: Sequence[Returner]) -> None:
    """Subscribe for the first time."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(client: Returner) -> None:
        async with free:
            await client.connect()
            while not client.subscribed:
                await asyncio.sleep(0.001)

    async with asyncio.timeout(SETTLE_S):
        await asyncio.gather(*map(one, clients))
    await run.pause(0)
    run.stream = Stream(clients[0].head)


async def _come_back(run: FollowRun, clients: Sequence[Returner], jitter_s: float) -> None:
    """Returns when all are level."""
    source = random.Random(1)
    coming = [asyncio.create_task(client.come_back(source.uniform(0, jitter_s))) for client in clients]
    deadline = perf_counter() + BACK_S
    level: int | None = None
    left: Sequence[Returner] = clients
    while left and perf_counter() < deadline:
        await run.pause(LOOK_S)
        if level is None and all(client.subscribed for client in clients):
            level = max(client.head for client in clients)
        now = perf_counter()
        left = [client for client in left if not client.look(now, level)]
    await run.until(lambda: not left, 0.0, lambda: f"{len(left)} of {len(clients)} clients not level")
    await asyncio.gather(*coming)


def _times(clients: Sequence[Returner], began: float) -> Numbers:
    numbers: Numbers = {}
    replayed = sum(client.head - client.since for client in clients)
    for name in ("subscribed", "replayed", "level"):
        times = sorted(getattr(client, f"{name}_at") - began for client in clients)
        for which, share in (("first", 0.0), ("median", 0.5), ("last", 1.0)):
            numbers[f"{name}_{which}_s"] = quantile(times, share)
    return numbers | {
        "resumed": len(clients),
        "missed_mean": replayed / len(clients),
        "per_s": replayed / numbers["replayed_last_s"],
    }


async def _stay_alive(clients: Sequence[Returner]) -> None:
    while True:
        await asyncio.sleep(ALIVE_S)
        for client in clients:
            if client.transport is not None:
                client.stay_alive()


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", required=True, help="a durable one")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="events that are written a second")
    parser.add_argument("--payload-bytes", type=int, required=True)
    parser.add_argument("--away", type=float, required=True, help="seconds that all stay away")
    parser.add_argument("--jitter", type=float, required=True, help="seconds in which they come back, at random")


if __name__ == "__main__":
    main(__doc__, load, options)
