"""Those who write, and some who decode what they follow, all in one process: `python -m soak_parts.writers`.

Promises: a command is sent when it is due, whatever became of those before it, and all latencies are from when it was
due: that of a reply to when it is read, that of a delivery to when a decoding client has it. When the process itself
did not get to run for seconds, it goes on from now and counts what it left out, so that one hiccup is not a flood.
Unanswered commands are sent again, under their ids, after a reconnect. The decoding clients check each number.
"""

from __future__ import annotations

import argparse
import asyncio
from array import array
from collections import Counter
from collections.abc import Mapping
from random import Random
from time import monotonic
from typing import Any

import attrs
import orjson
from attack_parts.account import Latency
from attack_parts.wire import TEXT, frame

from soak_parts.child import TOPICS, come_and_go, run
from soak_parts.link import Fleet, Link
from soak_parts.mix import Mix, Step

HICCUP_S = 3.0
OWED = 2000
"""Unanswered commands of a writer; past it, what is due is left out and counted."""
REPLIES = {
    "token.create": "token.created",
    "token.update": "token.updated",
    "token.delete": "token.deleted",
    "graph.connect": "graph.connected",
    "graph.disconnect": "graph.disconnected",
}


@attrs.define(eq=False)
class Seen:
    """What was counted; samples in seconds, since the last look."""

    replies: array[float] = attrs.field(factory=lambda: array("d"))
    deliveries: array[float] = attrs.field(factory=lambda: array("d"))
    late: array[float] = attrs.field(factory=lambda: array("d"))
    sent: int = 0
    left_out: int = 0
    answered: int = 0
    decoded: int = 0
    errors: Counter[str] = attrs.field(factory=Counter)
    due: Counter[str] = attrs.field(factory=Counter)
    """Events that the commands make, by topic."""


class Writer(Link):
    """Sends commands."""

    def __init__(self, fleet: Fleet, name: str, mix: Mix, seen: Seen) -> None:
        super().__init__(fleet, name)
        self.owed: dict[str, tuple[float, str, bytes]] = {}
        self._mix = mix
        self._seen = seen
        self._count = 0

    def write(self, due: float) -> None:
        """Send what comes next; it waits while there is no connection."""
        if len(self.owed) >= OWED:
            self._seen.left_out += 1
            return
        step: Step = self._mix.next()
        payload = step.payload | ({"metadata": {"due": due}} if step.dated else {})
        self._count += 1
        id_ = f"c{self._count}"
        data = frame(TEXT, orjson.dumps({"id": id_, "type": step.type, "payload": payload}))
        self.owed[id_] = (due, step.type, data)
        self._seen.sent += 1
        self._seen.due += Counter(tokens=step.tokens, graph=step.graph)
        if self.ready.is_set():
            self._write(data)

    def on_greeting(self) -> None:
        for _, _, data in self.owed.values():
            self._write(data)
        self.ready.set()

    def on_frame(self, whole: bytes, payload: bytes, now: float) -> None:
        message = orjson.loads(payload)
        owed = self.owed.pop(message.get("reply_to"), None)
        if owed is None:
            self.fleet.fault(f"{self.name}: not a reply that was due: {payload[:200]!r}")
            return
        due, type_, _ = owed
        self._seen.answered += 1
        self._seen.replies.append(now - due)
        if message["type"] != REPLIES[type_]:
            what = message["payload"].get("code", message["type"])
            self._seen.errors[f"{type_}: {what}"] += 1


class Decoder(Link):
    """Follows both topics, and looks into each event."""

    def __init__(self, fleet: Fleet, name: str, seen: Seen) -> None:
        super().__init__(fleet, name)
        self.seqs = dict.fromkeys(TOPICS, 0)
        self._epochs: dict[str, str] = {}
        self._asked: set[str] = set()
        self._since = 0.0
        self._seen = seen

    def on_greeting(self) -> None:
        self._asked = set(TOPICS)
        for topic, seq in self.seqs.items():
            epoch = {"epoch": self._epochs[topic]} if topic in self._epochs else {}
            self.send("subscribe", {"topic": topic, "since": seq} | epoch, topic)

    def on_frame(self, whole: bytes, payload: bytes, now: float) -> None:
        message = orjson.loads(payload)
        if "reply_to" in message:
            self._subscribed(message, now)
            return
        topic = message.get("topic")
        if topic not in self.seqs or message["seq"] != self.seqs[topic] + 1 or message["epoch"] != self._epochs[topic]:
            due = self.seqs.get(topic, -1) + 1
            self.give_up(f"{topic}: event {due} was due, and this came: {payload[:300]!r}")
            return
        self.seqs[topic] += 1
        self._seen.decoded += 1
        due_at = (message["payload"].get("metadata") or {}).get("due", 0.0)
        # What happened while it was away is not late.
        if due_at > self._since:
            self._seen.deliveries.append(now - due_at)

    def _subscribed(self, message: dict[str, Any], now: float) -> None:
        topic, payload = message["reply_to"], message["payload"]
        since = self.seqs.get(topic, 0)
        if message["type"] != "subscribed" or not payload["recovered"] or payload["replay"] != payload["seq"] - since:
            self.give_up(f"since {since} of {topic}, and it was answered {message}")
            return
        self._epochs[topic] = payload["epoch"]
        self._asked.discard(topic)
        if not self._asked:
            self._since = now
            self.fleet.resumed += self.lives > 1
            self.ready.set()


class Writers:
    """All of them; see `child.Clients`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        seed = arguments.seed
        self.fleet = Fleet(arguments.port, seed)
        self._per_s = arguments.changes_per_s
        self._share_per_min = arguments.reconnects
        self._seen = Seen()
        self._decoders = [Decoder(self.fleet, f"soak-decoder-{n}", self._seen) for n in range(arguments.decoders)]
        self._writers = [
            Writer(self.fleet, f"soak-writer-{n}", Mix(Random(f"{seed}:{n}")), self._seen)
            for n in range(arguments.writers)
        ]
        self._rng = Random(seed)

    def all(self) -> list[Link]:
        return [*self._decoders, *self._writers]

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(come_and_go(self._decoders, self._share_per_min, self._rng))
            group.create_task(self._write())

    async def _write(self) -> None:
        every_s = 1 / self._per_s
        due = monotonic()
        turn = 0
        while True:
            due += every_s
            if (wait_s := due - monotonic()) > 0:
                await asyncio.sleep(wait_s)
            elif -wait_s > HICCUP_S:
                missed = int(-wait_s / every_s)
                self._seen.left_out += missed
                due += missed * every_s
            self._seen.late.append(monotonic() - due)
            self._writers[turn % len(self._writers)].write(due)
            turn += 1

    def quiet(self) -> bool:
        return not any(writer.owed for writer in self._writers)

    def reached(self, heads: Mapping[str, int]) -> bool:
        return all(decoder.lost or self._has(decoder, heads) for decoder in self._decoders)

    @staticmethod
    def _has(decoder: Decoder, heads: Mapping[str, int]) -> bool:
        return decoder.seqs == {topic: heads.get(topic, 0) for topic in TOPICS}

    def missing(self, heads: Mapping[str, int]) -> str:
        behind = [decoder.seqs for decoder in self._decoders if not decoder.lost and not self._has(decoder, heads)]
        return f"{len(behind)} decoding clients, at {behind[:3]}, were not at the last events, {dict(heads)},"

    def counted(self) -> dict[str, Any]:
        seen = self._seen
        samples = {}
        for name in ("replies", "deliveries", "late"):
            values = getattr(seen, name)
            latency = Latency.of(values)
            samples[name] = None if latency is None else attrs.asdict(latency)
            del values[:]
        return samples | {
            "sent": seen.sent,
            "left_out": seen.left_out,
            "answered": seen.answered,
            "owed": sum(len(writer.owed) for writer in self._writers),
            "decoded": seen.decoded,
            "errors": dict(seen.errors),
            "due": dict(seen.due),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--writers", type=int, required=True)
    parser.add_argument("--decoders", type=int, required=True)
    parser.add_argument("--changes-per-s", type=float, required=True)
    parser.add_argument("--reconnects", type=float, required=True, help="share of them that leaves in a minute")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    run(lambda: Writers(arguments))


if __name__ == "__main__":
    main()
