"""What both processes of clients are made with: requests on stdin, an answer to each on stdout, as lines of JSON.

Promises: the first line says that all are subscribed; the process ends when its stdin does, however we die. Requests:
`look`: what was counted since the last time; `stop`: let nothing more happen by itself, and answer when all is quiet;
`reach`: answer when everybody has the last events of each topic.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

import orjson
import uvloop
from attack_parts.server import waited_s
from bench_loads.common import own_cpu_s

from soak_parts.link import Fleet, Link

COME_S = 60.0
QUIET_S = 60.0
LOOK_S = 0.02
AT_ONCE = 50
TOPICS = ("tokens", "graph")


class Clients(Protocol):
    """A kind of clients, as `serve` has it."""

    fleet: Fleet

    def all(self) -> Sequence[Link]: ...

    async def work(self) -> None:
        """Do what they do, until cancelled."""

    def quiet(self) -> bool:
        """Whether nothing is owed."""

    def reached(self, heads: Mapping[str, int]) -> bool:
        """Whether all have just these last events."""

    def missing(self, heads: Mapping[str, int]) -> str:
        """Who has not."""

    def counted(self) -> dict[str, Any]:
        """What was counted since the last time, or in all."""


def run(make: Callable[[], Clients]) -> None:
    """Be such a process. `make` is called with a loop running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for who started us

    async def whole() -> None:
        await _serve(make())

    uvloop.run(whole())


async def _serve(clients: Clients) -> None:
    lives = [asyncio.create_task(_late(client, number)) for number, client in enumerate(clients.all())]
    if not await until(lambda: all(client.ready.is_set() for client in clients.all()), COME_S):
        there = sum(client.ready.is_set() for client in clients.all())
        sys.exit(f"only {there} of {len(clients.all())} clients were there within {COME_S:g} s: {_why(clients.fleet)}")
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    work: asyncio.Task[None] | None = None
    _answer({"ready": True})
    while line := await stdin.readline():
        request = orjson.loads(line)
        match request["do"]:
            case "begin":
                work = asyncio.create_task(clients.work())
            case "stop":
                if work is not None:
                    work.cancel()
                if not await until(lambda: _still(clients), QUIET_S):
                    clients.fleet.fault(f"not all was answered, or not all were back, within {QUIET_S:g} s")
            case "reach":
                await _reach(clients, request["heads"])
        if work is not None and work.done() and not work.cancelled():
            work.result()  # raises what is a defect of ours
        _answer(_counted(clients))
    for life in lives:
        life.cancel()


async def _reach(clients: Clients, heads: Mapping[str, int]) -> None:
    if not await until(lambda: clients.reached(heads), QUIET_S):
        clients.fleet.fault(f"{clients.missing(heads)} within {QUIET_S:g} s")


async def _late(client: Link, number: int) -> None:
    """Let some come at a time."""
    await asyncio.sleep(number // AT_ONCE * 0.05)
    await client.live()


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition, looking often; whether it came."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(LOOK_S)
    return True


async def come_and_go(clients: Sequence[Link], share_per_min: float, rng: Random) -> None:
    """Let so large a share of them leave in a minute, evenly, one after the other; all before one does again."""
    while share_per_min > 0:
        for client in rng.sample(list(clients), len(clients)):
            await asyncio.sleep(60 / (share_per_min * len(clients)))
            client.leave()


def _still(clients: Clients) -> bool:
    return clients.quiet() and all(client.ready.is_set() or client.lost for client in clients.all())


def _counted(clients: Clients) -> dict[str, Any]:
    fleet = clients.fleet
    return {
        "there": sum(client.ready.is_set() for client in clients.all()),
        "bytes": fleet.received_bytes,
        "came_back": fleet.came_back,
        "resumed": fleet.resumed,
        "ended": dict(fleet.ended),
        "faults": dict(fleet.faults),
        "cpu_s": own_cpu_s(),
        "waited_s": waited_s(os.getpid()),
    } | clients.counted()


def _answer(record: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(record) + b"\n")
    sys.stdout.buffer.flush()


def _why(fleet: Fleet) -> str:
    return ", ".join(f"{why} ({count})" for why, count in (fleet.ended + fleet.faults).items()) or "no answer"
