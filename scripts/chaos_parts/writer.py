"""A client that changes things, in a process of its own so that it can be killed: `python -m chaos_parts.writer`.

Promises: it goes on where its former life was killed, with the same ids, and first sends what has no reply yet. On
SIGTERM it sends nothing new, and ends once all is answered. Some commands that were answered are sent again, and
some ids are used for another command, to see what the server says. Runs on Trio.
"""

from __future__ import annotations

import argparse
import signal
from collections import deque
from pathlib import Path
from random import Random

import trio

from chaos_parts.journal import Answer, Journal, Record
from chaos_parts.mix import Mix, command_id
from chaos_parts.resend import Line

AGAIN = 0.05
TWIST = 0.01


class Writer:
    """Sends `per_s` commands a second, from `slots` tasks, each of which waits for its reply."""

    def __init__(self, journal: Journal, line: Line, seed: int, per_s: float, slots: int) -> None:
        self._journal = journal
        self._line = line
        self._mix = Mix(seed, journal.client_id)
        self._rng = Random(f"{seed}/{journal.client_id}/life {journal.lives}")
        self._pause_s = slots / per_s
        self._slots = slots
        self._left = deque(journal.unanswered())
        self._next = len(journal.records)
        self._stopping = trio.Event()
        for record in journal.records.values():
            for answer in record.answers[:1]:
                self._mix.learn(answer.type, answer.payload)

    async def run(self) -> None:
        """Write until `stop`, then until all is answered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._line.run)
            for task in (self._finish, self._write):
                async with trio.open_nursery() as slots:
                    for _ in range(self._slots):
                        slots.start_soon(task)
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Send nothing new."""
        self._stopping.set()

    async def _finish(self) -> None:
        """What a former life has left."""
        while self._left:
            self._learn(await self._line.again(self._left.popleft()))

    async def _write(self) -> None:
        while not self._stopping.is_set():
            id_ = command_id(self._journal.client_id, self._next)
            type_, payload = self._mix.command(self._next)
            self._next += 1
            self._learn(await self._line.first(id_, type_, payload))
            await self._doubt(self._journal.records[id_])
            with trio.move_on_after(self._rng.expovariate(1 / self._pause_s)):
                await self._stopping.wait()

    def _learn(self, answer: Answer) -> None:
        self._mix.learn(answer.type, answer.payload)

    async def _doubt(self, record: Record) -> None:
        """Now and then, ask once more, or something else by the same name."""
        chance = self._rng.random()
        if chance < AGAIN:
            await self._line.again(record)
        elif chance < AGAIN + TWIST:
            await self._line.twist(record)


async def main(given: argparse.Namespace) -> None:
    """Be a writer until SIGTERM."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        journal = Journal.open(given.journal, given.client_id, steady=given.steady)
        line = Line(given.url, journal, Random())
        writer = Writer(journal, line, given.seed, given.per_s, given.slots)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on, signals, writer)
            await writer.run()
            nursery.cancel_scope.cancel()


async def _stop_on(signals: object, writer: Writer) -> None:
    async for _ in signals:
        writer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, nargs="+", help="nodes: each new connection is to the next one")
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--per-s", required=True, type=float)
    parser.add_argument("--slots", required=True, type=int)
    parser.add_argument("--steady", action="store_true", help="leave it to ngos.client to come back")
    trio.run(main, parser.parse_args())
