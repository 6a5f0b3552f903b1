"""Reads of one kind, from a set that comes again and again, while somebody writes.

Promises: each reader has one read under way, and asks the next when it is answered; latency is from that send to the
reply; only replies inside the window count. Where the answers came from is what the server counts, in the same window.
The tokens are those of `bench_postgres.fill_graph`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
from array import array
from hashlib import md5
from time import perf_counter
from typing import Any
from urllib.request import urlopen
from uuid import UUID

import orjson
from picows import WSFrame

from bench_loads.common import Numbers, Run, count, latencies, main
from bench_loads.dialects import DIALECTS, Client, connect, settle

HOT = 50
SOURCES = ("memory", "redis", "joined", "database")
_ANSWERS = re.compile(r'^ngos_cache_answers_total\{source="(\w+)"\} (\S+)', re.MULTILINE)


def token_id(number: int) -> str:
    """The id of the n-th token that was filled in; the first is the hub."""
    return str(UUID(md5(f"t{number}".encode(), usedforsecurity=False).hexdigest()))


def questions(kind: str, tokens: int) -> list[tuple[str, dict[str, Any]]]:
    """What is asked, in turn: of `path`, `node`, `degree` and `get`, or, with a limit, like `hub:100`, of pages."""
    rng = random.Random(1)
    name, _, limit = kind.partition(":")
    ids = [token_id(rng.randint(2, tokens)) for _ in range(2 * HOT)]
    match name:
        case "path":
            pairs = zip(ids[:HOT], ids[HOT:], strict=True)
            return [("graph.path", {"source_id": near, "target_id": far, "max_depth": 6}) for near, far in pairs]
        case "node":
            return [("graph.neighbors", {"token_id": id_}) for id_ in ids[:HOT]]
        case "hub":
            return [("graph.neighbors", {"token_id": token_id(1), "limit": int(limit)})]
        case "degree":
            return [("graph.degree", {"token_id": token_id(1)})]
        case "get":
            return [("token.get", {"token_id": id_}) for id_ in ids[:HOT]]
    more = {"full": {"full": True}, "total": {"total": True}}.get(name, {})
    return [("token.list", {"limit": int(limit), **more})]


class ReadRun(Run):
    """What was counted, of all readers."""

    def __init__(self, asked: list[bytes]) -> None:
        super().__init__()
        self.asked = asked
        self.replies = 0
        self.reply_bytes = 0
        self.latencies_ms = array("d")


class Reader(Client):
    """One connection that asks one thing after the other."""

    def __init__(self, run: ReadRun, number: int) -> None:
        super().__init__(run, DIALECTS["ngos"], [])
        self.all = run
        self.turn = 7 * number
        self.sent_at = 0.0

    def ask(self) -> None:
        self.turn += 1
        self.sent_at = perf_counter()
        self.send(self.all.asked[self.turn % len(self.all.asked)])

    def on_message(self, frame: WSFrame) -> None:
        now = perf_counter()
        payload = frame.get_payload_as_bytes()
        if b'"type":"error"' in payload[:120] or b"not_found" in payload[:120]:
            self.run.fail(f"not an answer: {payload[:300]!r}")
            return
        self.all.replies += 1
        if self.run.counting:
            self.all.reply_bytes += len(payload)
            self.all.latencies_ms.append((now - self.sent_at) * 1000)
        if self.run.sending:
            self.ask()


class Writer(Client):
    """One connection that changes tokens and edges at random, so often, whatever is answered."""

    def __init__(self, run: Run, tokens: int) -> None:
        super().__init__(run, DIALECTS["ngos"], [])
        self.rng = random.Random()
        self.tokens = tokens

    async def work(self, per_s: float) -> None:
        while self.run.sending:
            await asyncio.sleep(self.rng.expovariate(per_s))
            near, far = (token_id(self.rng.randint(2, self.tokens)) for _ in range(2))
            type_, payload = self.rng.choice(
                [
                    ("token.update", {"token_id": near, "weight": self.rng.random()}),
                    ("token.create", {}),
                    ("graph.connect", {"source_id": near, "target_id": far, "type": str(self.rng.random())}),
                ]
            )
            self.send(orjson.dumps({"type": type_, "payload": payload}))


def sources(url: str) -> dict[str, float]:
    """Where answers came from so far. Blocks."""
    with urlopen(url.replace("ws://", "http://") + "/metrics", timeout=10) as response:
        return {source: float(number) for source, number in _ANSWERS.findall(response.read().decode())}


async def load(arguments: argparse.Namespace) -> Numbers:
    """Connect, warm up, count for `seconds`."""
    asked = questions(arguments.kind, arguments.tokens)
    run = ReadRun([orjson.dumps({"type": type_, "payload": payload}) for type_, payload in asked])
    readers = [Reader(run, number) for number in range(arguments.readers)]
    writer = Writer(run, arguments.tokens)
    await connect(run, arguments.url, "create", [*readers, writer])
    await settle(run, [*readers, writer])
    for reader in readers:
        reader.ask()
    writing = asyncio.create_task(writer.work(arguments.writes_per_s)) if arguments.writes_per_s else None
    before = await asyncio.to_thread(sources, arguments.url)
    window = await count(run, arguments, lambda: run.replies)
    after = await asyncio.to_thread(sources, arguments.url)
    if writing is not None:
        writing.cancel()
    for client in (*readers, writer):
        client.leave()
    came = {source: after[source] - before[source] for source in SOURCES}
    shares = {f"{source}_share": number / max(1.0, sum(came.values())) for source, number in came.items()}
    kb = run.reply_bytes / max(1, len(run.latencies_ms)) / 1000
    return {**window.numbers(), **latencies(run.latencies_ms), **shares, "kb": kb}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--readers", type=int, required=True)
    parser.add_argument("--writes-per-s", type=float, required=True)


if __name__ == "__main__":
    main(__doc__, load, options)
