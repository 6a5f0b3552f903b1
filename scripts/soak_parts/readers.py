"""Those who follow, all in one process: `python -m soak_parts.readers`.

Promises: every byte that any of them gets is checked (`stream`), with little work for each: 100,000 deliveries a second
take less than half a core. One in ten follows the graph too. Now and then one leaves, and goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any

import orjson
from attack_parts.priority import lower_priority

from soak_parts.child import TOPICS, come_and_go, run
from soak_parts.link import Fleet, Link
from soak_parts.stream import TOPIC, Cursor, Lost, Stream

GRAPH_EACH = 10
FORGET_EVERY_S = 1.0
HELD_BYTES = 64 * 1024 * 1024
NICE = 5


class Reader(Link):
    """One client."""

    def __init__(self, fleet: Fleet, name: str, streams: list[Stream]) -> None:
        super().__init__(fleet, name)
        self.cursors = {stream.topic: Cursor(stream) for stream in streams}
        self._epochs: dict[str, str] = {}
        self._asked: dict[str, int] = {}
        self._current: Cursor | None = None  # where the next bytes are likely due, if nothing waits to become whole
        self._latest: Cursor | None = None

    def buffer_updated(self, nbytes: int) -> None:
        fleet, current = self.fleet, self._current
        fleet.received_bytes += nbytes
        data = fleet.view[:nbytes]
        if current is None:
            self._look(bytes(data))
        elif current.stream.holds(data, current.at):
            current.at += nbytes
        else:
            whole = current.stream.boundary(current.at)
            begun, current.at = current.stream.part(whole, current.at), whole
            self._look(begun + bytes(data))

    def _look(self, data: bytes) -> None:
        self.take(data)
        self._current = None if self._rest or self.lost else self._latest

    def on_greeting(self) -> None:
        self._current = self._latest = None
        for topic, cursor in self.cursors.items():
            cursor.at = cursor.stream.boundary(cursor.at)
            self._asked[topic] = cursor.seq
            since: dict[str, Any] = {"topic": topic, "since": cursor.seq}
            self.send("subscribe", since | ({"epoch": self._epochs[topic]} if topic in self._epochs else {}), topic)

    def on_frame(self, whole: bytes, payload: bytes, now: float) -> None:
        for likely in self.cursors.values():
            if likely.stream.holds(whole, likely.at):
                likely.at += len(whole)
                self._latest = likely
                return
        found = TOPIC.search(payload)
        cursor = self.cursors.get(found[1].decode()) if found else None
        if self._asked and b'"reply_to":' in payload:
            self._subscribed(orjson.loads(payload))
        elif cursor is None:
            self.give_up(f"not an event: {payload[:200]!r}")
        else:
            try:
                cursor.at = cursor.stream.take(whole, cursor.at)
            except Lost as exc:
                self.give_up(str(exc))
            self._latest = cursor

    def _subscribed(self, message: dict[str, Any]) -> None:
        topic, payload = message["reply_to"], message["payload"]
        since = self._asked.pop(topic, None)
        if since is None or not payload.get("recovered") or payload["replay"] != payload["seq"] - since:
            self.give_up(f"since {since} of {topic}, and it was answered {message}")
            return
        self._epochs[topic] = payload["epoch"]
        if not self._asked:
            self.fleet.resumed += self.lives > 1
            self.ready.set()


class Readers:
    """All of them; see `child.Clients`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.fleet = Fleet(arguments.port, arguments.seed)
        self._share_per_min = arguments.reconnects
        self._rng = Random(arguments.seed)
        self._streams = {topic: Stream(topic) for topic in TOPICS}
        self._readers = [
            Reader(self.fleet, f"soak-reader-{n}", list(self._streams.values())[: 1 if n % GRAPH_EACH else 2])
            for n in range(arguments.clients)
        ]

    def all(self) -> list[Reader]:
        return self._readers

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(come_and_go(self._readers, self._share_per_min, self._rng))
            group.create_task(self._forget())

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            for topic, stream in self._streams.items():
                cursors = [(r.cursors[topic], r) for r in self._readers if topic in r.cursors and not r.lost]
                if len(stream.frames) > HELD_BYTES:
                    for cursor, reader in cursors:
                        if cursor.at < stream.base + HELD_BYTES // 2:
                            reader.give_up(f"{topic}: {HELD_BYTES // 2**21} MiB or more behind the first")
                stream.forget(min((cursor.at for cursor, reader in cursors if not reader.lost), default=stream.end))

    def quiet(self) -> bool:
        return True

    def reached(self, heads: Mapping[str, int]) -> bool:
        return all(self._has(reader, heads) for reader in self._readers if not reader.lost)

    @staticmethod
    def _has(reader: Reader, heads: Mapping[str, int]) -> bool:
        return all(
            cursor.seq == heads.get(topic, 0) and cursor.at == cursor.stream.end
            for topic, cursor in reader.cursors.items()
        )

    def missing(self, heads: Mapping[str, int]) -> str:
        behind = [reader.name for reader in self._readers if not reader.lost and not self._has(reader, heads)]
        return f"{len(behind)} readers ({', '.join(behind[:3])}, …) were not at just the last events, {dict(heads)},"

    def counted(self) -> dict[str, Any]:
        held = [len(stream.frames) for stream in self._streams.values()]
        events = sum(cursor.seq for reader in self._readers for cursor in reader.cursors.values())
        following = {topic: sum(topic in reader.cursors for reader in self._readers) for topic in TOPICS}
        return {"events": events, "held_bytes": sum(held), "following": following}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--reconnects", type=float, required=True, help="share of them that leaves in a minute")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    # Those who measure come first: they share the core.
    lower_priority(NICE)
    run(lambda: Readers(arguments))


if __name__ == "__main__":
    main()
