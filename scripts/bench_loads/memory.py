"""Memory per idle connection: the server's, before many connect, when they have settled, and when they have left.

Promises: every connection is subscribed to two topics where the server knows topics; memory counts once it stands
still. It is the kernel's count: resident and swapped, of the server and all processes below it.
"""

from __future__ import annotations

import argparse
from time import perf_counter

from bench_loads.common import Numbers, Run, main, rss_kb
from bench_loads.dialects import DIALECTS, Client, connect, settle

TOPICS = ("tokens", "graph")
STILL_S, PATIENCE_S = 1.0, 15.0
READ_BYTES = 2048


async def load(arguments: argparse.Namespace) -> Numbers:
    """Connect, look, leave, look; return the numbers."""
    run = Run()
    dialect = DIALECTS[arguments.dialect]
    before = await still_rss_kb(run, arguments.server_pid)
    clients = [Client(run, dialect, TOPICS) for _ in range(arguments.connections)]
    began = perf_counter()
    await connect(run, arguments.url, "idle", clients, read_bytes=READ_BYTES)
    await settle(run, clients)
    connect_s = perf_counter() - began
    there = await still_rss_kb(run, arguments.server_pid)
    for client in clients:
        client.leave()
    left = await still_rss_kb(run, arguments.server_pid)
    return {
        "kb_per_connection": (there - before) / arguments.connections,
        "before_mb": before / 1024,
        "connected_mb": there / 1024,
        "left_mb": left / 1024,
        "connect_s": connect_s,
    }


async def still_rss_kb(run: Run, pid: int) -> int:
    """The server's memory, when it has not changed for a while, or at the end of our patience."""
    deadline = perf_counter() + PATIENCE_S
    last, since = rss_kb(pid), perf_counter()
    while perf_counter() - since < STILL_S and perf_counter() < deadline:
        await run.pause(0.05)
        if (now := rss_kb(pid)) != last:
            last, since = now, perf_counter()
    return last


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, required=True)


if __name__ == "__main__":
    main(__doc__, load, options)
