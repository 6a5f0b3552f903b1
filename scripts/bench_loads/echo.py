"""Round trips: clients that each keep N messages in flight, and answer each reply with the next message.

Promises: ngos gets the command `ping` with an id and answers with `pong`; a plain server gets the same bytes and
answers with them. Replies come in the order of the messages, and each is checked.
"""

from __future__ import annotations

import argparse
from array import array
from collections import deque
from time import perf_counter

from picows import WSFrame

from bench_loads.common import DRAIN_S, Numbers, Run, count, latencies, main
from bench_loads.dialects import DIALECTS, Client, connect, settle


class EchoRun(Run):
    """What was counted, of all clients."""

    def __init__(self) -> None:
        super().__init__()
        self.replies = 0
        self.latencies_ms = array("d")


class Pinger(Client):
    """One connection that keeps its messages in flight."""

    def __init__(self, run: EchoRun, dialect: str) -> None:
        super().__init__(run, DIALECTS[dialect], [])
        self.all = run
        self.count = 0
        self.waiting: deque[tuple[float, bytes]] = deque()
        self._reply = b'"reply_to":"%07d"' if dialect == "ngos" else b'{"id":"%07d","type":"ping"}'

    def ping(self) -> None:
        self.count += 1
        self.waiting.append((perf_counter(), self._reply % self.count))
        self.send(b'{"id":"%07d","type":"ping"}' % self.count)

    def on_message(self, frame: WSFrame) -> None:
        sent_at, due = self.waiting.popleft() if self.waiting else (0.0, b"nothing")
        if due not in (reply := frame.get_payload_as_bytes()):
            self.run.fail(f"{due!r} was due, and {reply[:500]!r} came")
            return
        self.all.replies += 1
        if self.run.counting:
            self.all.latencies_ms.append((perf_counter() - sent_at) * 1000)
        if self.run.sending:
            self.ping()


async def load(arguments: argparse.Namespace) -> Numbers:
    """Connect, warm up, count for `seconds`, drain; return the numbers."""
    run = EchoRun()
    clients = [Pinger(run, arguments.dialect) for _ in range(arguments.clients)]
    await connect(run, arguments.url, "echo", clients)
    await settle(run, clients)
    for client in clients:
        for _ in range(arguments.in_flight):
            client.ping()
    window = await count(run, arguments, lambda: run.replies)
    await run.until(lambda: not any(client.waiting for client in clients), DRAIN_S, lambda: "a reply did not come")
    for client in clients:
        client.leave()
    return {**window.numbers(), **latencies(run.latencies_ms)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True, help="messages of each client")


if __name__ == "__main__":
    main(__doc__, load, options)
