"""The load: picows clients on uvloop in a process of their own, each with exactly N commands in flight.

Promises: a command is sent the moment a reply comes in; latency is from that send to its own reply, whatever the
order of replies; only replies inside the window (after the warm-up) count; what is in flight at its end is waited
for, so that the number of effects can be checked. Anything but the reply that was due ends it with exit code 1.

One JSON object on stdout. Started by bench_frame.py; knows nothing of ngos but the protocol. The clients have no
`client_id`, so ngos keeps no idempotency keys for them; the peer has none either.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

CONNECT_S = 10.0
DRAIN_S = 15.0

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


class Run:
    """What all clients share: the window, what was counted in it, and how it ended."""

    def __init__(self) -> None:
        self.bodies = bodies()
        self.sending = True
        self.counting = False
        self.replies = 0
        self.latencies_ms = array("d")
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        """End the run; only the first reason is told."""
        if not self.failed.done():
            self.failed.set_exception(RuntimeError(why))


class Client(WSListener):  # type: ignore[misc]
    """One connection that keeps its commands in flight."""

    def __init__(self, run: Run, number: int) -> None:
        super().__init__()
        self.run = run
        self.number = number
        self.count = 0
        self.sent_at: dict[str, float] = {}
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def send(self) -> None:
        self.count += 1
        name = f"{self.number}-{self.count}"
        message = b'{"id":"' + name.encode() + self.run.bodies[self.count % BODIES]
        self.sent_at[name] = perf_counter()
        assert self.transport is not None
        self.transport.send(WSMsgType.TEXT, message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            if frame.msg_type == WSMsgType.CLOSE:
                self.run.fail(f"closed by the server with {frame.get_close_code()}")
            return
        now = perf_counter()
        reply: dict[str, Any] = orjson.loads(frame.get_payload_as_memoryview())
        if (name := reply.get("reply_to")) is None:
            return  # connection.established
        sent_at = self.sent_at.pop(name, None)
        if reply["type"] != "token.created" or sent_at is None:
            self.run.fail(f"not the reply that was due: {reply}")
            return
        self.run.replies += 1
        if self.run.counting:
            self.run.latencies_ms.append((now - sent_at) * 1000)
        if self.run.sending:
            self.send()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.sent_at:
            self.run.fail("connection lost")


def server_cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, its threads included; 0.0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of all are at most; 0.0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


async def load(arguments: argparse.Namespace) -> dict[str, float]:
    """Connect, warm up, count for `seconds`, drain; return the numbers."""
    run = Run()
    clients = [Client(run, number) for number in range(arguments.clients)]
    async with asyncio.timeout(CONNECT_S):
        await asyncio.gather(*(ws_connect(lambda client=client: client, arguments.url) for client in clients))
    for client in clients:
        for _ in range(arguments.in_flight):
            client.send()
    await pause(run, arguments.warm_up)

    run.counting = True
    cpu, server_cpu, start = own_cpu_s(), server_cpu_s(arguments.server_pid), perf_counter()
    await pause(run, arguments.seconds)
    run.counting = run.sending = False
    seconds = perf_counter() - start
    cpu, server_cpu = own_cpu_s() - cpu, server_cpu_s(arguments.server_pid) - server_cpu

    await drain(run, clients)
    for client in clients:
        assert client.transport is not None
        client.transport.disconnect()
    ordered = sorted(run.latencies_ms)
    return {
        "per_s": len(ordered) / seconds,
        "p50_ms": quantile(ordered, 0.5),
        "p99_ms": quantile(ordered, 0.99),
        "max_ms": quantile(ordered, 1.0),
        "counted": len(ordered),
        "replies": run.replies,
        "server_cpu": server_cpu / seconds,
        "load_cpu": cpu / seconds,
    }


async def drain(run: Run, clients: Sequence[Client]) -> None:
    """Wait for what is in flight."""
    deadline = perf_counter() + DRAIN_S
    while waiting := [name for client in clients for name in client.sent_at]:
        if perf_counter() > deadline:
            raise RuntimeError(f"no reply within {DRAIN_S:g} s to {len(waiting)} commands, {waiting[0]} first")
        await pause(run, 0.01)


async def pause(run: Run, seconds: float) -> None:
    """Let the clients work; raises as soon as one fails."""
    done, _ = await asyncio.wait([run.failed], timeout=seconds)
    for future in done:
        future.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the server's WebSocket")
    parser.add_argument("--server-pid", type=int, required=True, help="whose CPU time to report")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True, help="commands of each client")
    parser.add_argument("--warm-up", type=float, required=True, help="seconds before counting")
    parser.add_argument("--seconds", type=float, required=True, help="seconds to count for")
    arguments = parser.parse_args()
    try:
        numbers = uvloop.run(load(arguments))
    except (OSError, RuntimeError, TimeoutError) as exc:
        sys.exit(f"bench_load: {exc!r}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.stdout.buffer.write(orjson.dumps(numbers))


if __name__ == "__main__":
    main()
