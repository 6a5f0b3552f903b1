"""Durable creates: clients that each keep N `token.create` in flight.

Promises: a command is sent the moment a reply comes in; latency is from that send to its own reply, whatever the
order of replies; only replies inside the window (after the warm-up) count; what is in flight at its end is waited
for, so that the number of effects can be checked. Anything but the reply that was due is an error.

Clients without a `client_id` get no idempotency from ngos, and the peer has none either; the dialect `ngos-once` is
for those that have one.
"""

from __future__ import annotations

import argparse
import random
from array import array
from time import perf_counter
from typing import Any

import orjson
from picows import WSFrame

from bench_loads.common import DRAIN_S, Numbers, Run, count, latencies, main
from bench_loads.dialects import DIALECTS, Client, connect, settle

BODIES = 64
LEVELS = 8


def bodies() -> list[bytes]:
    """Ends of `token.create` messages, from `type` on: eight real numbers for each coordinate, the same each time."""
    source = random.Random(1)
    made = []
    for _ in range(BODIES):
        payload = {f"coord_{axis}": [round(source.uniform(-1, 1), 6) for _ in range(LEVELS)] for axis in "xyz"}
        made.append(b'","type":"token.create","payload":' + orjson.dumps(payload) + b"}")
    return made


class CreateRun(Run):
    """What was counted, of all clients."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies = bodies()
        self.replies = 0
        self.latencies_ms = array("d")


class Creator(Client):
    """One connection that keeps its commands in flight."""

    def __init__(self, run: CreateRun, dialect: str, number: int) -> None:
        super().__init__(run, DIALECTS[dialect], [])
        self.all = run
        self.number = number
        self.count = 0
        self.sent_at: dict[str, float] = {}

    def create(self) -> None:
        self.count += 1
        name = f"{self.number}-{self.count}"
        message = b'{"id":"' + name.encode() + self.all.bodies[self.count % BODIES]
        self.sent_at[name] = perf_counter()
        self.send(message)

    def on_message(self, frame: WSFrame) -> None:
        now = perf_counter()
        reply: dict[str, Any] = orjson.loads(frame.get_payload_as_memoryview())
        sent_at = self.sent_at.pop(reply.get("reply_to", ""), None)
        if reply["type"] != "token.created" or sent_at is None:
            self.run.fail(f"not the reply that was due: {reply}")
            return
        self.all.replies += 1
        if self.run.counting:
            self.all.latencies_ms.append((now - sent_at) * 1000)
        if self.run.sending:
            self.create()


async def load(arguments: argparse.Namespace) -> Numbers:
    """Connect, warm up, count for `seconds`, drain; return the numbers."""
    run = CreateRun()
    clients = [Creator(run, arguments.dialect, number) for number in range(arguments.clients)]
    await connect(run, arguments.url, "create", clients)
    await settle(run, clients)
    for client in clients:
        for _ in range(arguments.in_flight):
            client.create()
    window = await count(run, arguments, lambda: run.replies)
    await run.until(
        lambda: not any(client.sent_at for client in clients),
        DRAIN_S,
        lambda: f"no reply to {sum(len(client.sent_at) for client in clients)} commands",
    )
    for client in clients:
        client.leave()
    return {**window.numbers(), **latencies(run.latencies_ms), "replies": run.replies}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True, help="commands of each client")


if __name__ == "__main__":
    main(__doc__, load, options)
