"""Across nodes: a writer on one node of a server, a subscriber there and one on another node; who has an event when.

Promises: both subscribers get each event that was written, in order and once, or the run fails. Times are from one
clock, in one process. An event's time is from the writer's own reply, which follows the commit, to its arrival; what
arrives before the reply was read has a time below zero. Those count whose reply came inside the window. `level_s` is
how long the other node's subscriber is behind when the last reply has come: whether it keeps up.

The writer publishes to a durable topic at a fixed rate, come what may, or as fast as it goes with so many in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections import deque
from time import perf_counter
from urllib.request import urlopen

from picows import WSFrame, WSMsgType

from bench_loads.common import DRAIN_S, LoadError, Numbers, Run, count, latencies, main
from bench_loads.dialects import DIALECTS, Client, connect, settle
from bench_loads.fanout import payload_of

SEQ = re.compile(rb'"seq":(\d+)[,}]')
UNHEARD = {
    name: re.compile(rf"^ngos_relay_{name}_total (\S+)$", re.MULTILINE)
    for name in ("holes", "found")  # by what came behind, and by asking the log
}
METRICS_S = 5.0


class AcrossRun(Run):
    """What all three share: when each event was answered, by its number, and which of them count."""

    def __init__(self) -> None:
        super().__init__()
        self.replied_at: dict[int, float] = {}
        self.reply_ms: list[float] = []
        self.counted: list[int] = []


class Follower(Client):
    """Notes when each event arrives."""

    def __init__(self, run: AcrossRun, dialect: str, topic: str) -> None:
        super().__init__(run, DIALECTS[dialect], [topic])
        self.arrived_at: dict[int, float] = {}
        self._last = 0

    def on_message(self, frame: WSFrame) -> None:
        now = perf_counter()
        if frame.msg_type != WSMsgType.TEXT:
            return
        seq = seq_in(self.run, frame.get_payload_as_bytes())
        if self._last and seq != self._last + 1:
            self.run.fail(f"event {self._last + 1} was due, and {seq} came")
        self._last = seq
        self.arrived_at[seq] = now

    def times_ms(self, run: AcrossRun) -> list[float]:
        """From the reply to the arrival, of each event that counts."""
        return [(self.arrived_at[seq] - run.replied_at[seq]) * 1000 for seq in run.counted]


class Writer(Client):
    """Publishes; replies come in the order of the messages. `keeps` goes on with the next at each reply."""

    def __init__(self, run: AcrossRun, dialect: str, message: bytes, *, keeps: bool) -> None:
        super().__init__(run, DIALECTS[dialect], [])
        self.all = run
        self.waiting: deque[float] = deque()
        self._message = message
        self._keeps = keeps

    def publish(self) -> None:
        self.waiting.append(perf_counter())
        self.send(self._message)

    def on_message(self, frame: WSFrame) -> None:
        now = perf_counter()
        reply = frame.get_payload_as_bytes()
        if b'"type":"published"' not in reply or not self.waiting:
            self.run.fail(f"not the reply that was due: {reply[:500]!r}")
            return
        sent_at, seq = self.waiting.popleft(), seq_in(self.run, reply)
        self.all.replied_at[seq] = now
        if self.run.counting:
            self.all.counted.append(seq)
            self.all.reply_ms.append((now - sent_at) * 1000)
        if self._keeps and self.run.sending:
            self.publish()

    async def publish_at(self, per_s: float) -> None:
        """Until no more is to be sent."""
        begun, number = perf_counter(), 0
        while self.run.sending:
            while number / per_s <= perf_counter() - begun:
                self.publish()
                number += 1
            await asyncio.sleep(number / per_s - (perf_counter() - begun))


def seq_in(run: Run, message: bytes) -> int:
    """The event's number; where there is none, the run has failed."""
    found = SEQ.search(message)
    if found is None:
        run.fail(f"no event: {message[:500]!r}")
        return 0
    return int(found[1])


async def load(arguments: argparse.Namespace) -> Numbers:
    """Subscribe, write, count, drain; return the numbers."""
    if len(arguments.other_url) != 1:
        raise LoadError("two nodes are needed")
    run = AcrossRun()
    message = DIALECTS[arguments.dialect].publish(arguments.topic, payload_of(arguments.payload_bytes))
    here, there = (Follower(run, arguments.dialect, arguments.topic) for _ in range(2))
    writer = Writer(run, arguments.dialect, message, keeps=bool(arguments.in_flight))
    await connect(run, arguments.url, "sub", [here])
    await connect(run, *arguments.other_url, "sub", [there])
    await connect(run, arguments.url, "pub", [writer])
    await settle(run, [here, there, writer])
    unheard = await _unheard(arguments.other_url[0])
    for _ in range(arguments.in_flight):
        writer.publish()
    pace = asyncio.create_task(writer.publish_at(arguments.per_s)) if arguments.per_s else None
    window = await count(run, arguments, lambda: len(there.arrived_at))
    if pace is not None:
        await pace
    await run.until(lambda: not writer.waiting, DRAIN_S, lambda: f"no reply to {len(writer.waiting)} messages")
    last_reply_at = max(run.replied_at.values())
    due = run.replied_at.keys()
    for who, follower in (("here", here), ("there", there)):
        await run.until(
            lambda follower=follower: len(follower.arrived_at) >= len(due),  # type: ignore[misc]
            DRAIN_S,
            lambda who=who, follower=follower: (  # type: ignore[misc]
                f"{len(due) - len(follower.arrived_at)} events did not come {who}"
            ),
        )
        if follower.arrived_at.keys() != due:
            raise LoadError(f"other events came {who} than were written")
    unheard = {name: count - unheard[name] for name, count in (await _unheard(arguments.other_url[0])).items()}
    for client in (writer, here, there):
        client.leave()
    numbers = {f"reply_{name}": value for name, value in latencies(run.reply_ms).items()}
    for who, follower in (("here", here), ("there", there)):
        numbers |= {f"{who}_{name}": value for name, value in latencies(follower.times_ms(run)).items()}
    return {
        **window.numbers(),
        **numbers,
        "written_per_s": len(run.counted) / window.seconds,
        "written": len(due),
        "level_s": max(0.0, max(there.arrived_at.values()) - last_reply_at),
        **unheard,
    }


async def _unheard(url: str) -> Numbers:
    """What a node has read from the log because nobody told it: how many holes, and how many events without a hole."""

    def ask() -> str:
        with urlopen(f"http{url.removeprefix('ws')}/metrics", timeout=METRICS_S) as response:
            text: str = response.read().decode()
            return text

    text = await asyncio.to_thread(ask)
    numbers = {}
    for name, pattern in UNHEARD.items():
        found = pattern.search(text)
        if found is None:
            raise LoadError(f"the metrics have no {name}")
        numbers[name] = float(found[1])
    return numbers


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", required=True, help="a durable one")
    parser.add_argument("--payload-bytes", type=int, required=True)
    pace = parser.add_mutually_exclusive_group(required=True)
    pace.add_argument("--per-s", type=float, default=0.0, help="events that are written a second")
    pace.add_argument("--in-flight", type=int, default=0, help="as fast as it goes, with so many on their way")


if __name__ == "__main__":
    main(__doc__, load, options)
