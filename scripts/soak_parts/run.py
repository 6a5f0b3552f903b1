"""A run, from an empty database to the account of everything.

Promises: the server has one core, all clients the other; a signal ends the load and not the run, so that what was seen
till then is told; whatever happens, what it started is gone afterwards. That the machine stands still for a while is
measured, not fatal. Runs on Trio.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import orjson
import trio
from attack_parts.account import Log
from attack_parts.run import killed_at_end
from attack_parts.server import LOOK_EVERY_S, Numbers, Server, start_server
from bench_postgres import open_databases
from bench_servers import allow_connections, pinned
from chaos_parts.processes import SCRIPTS, ChaosError, NotRecovered, ended
from chaos_parts.server import clean_environment

from ngos.errors import NgosError
from ngos.postgres.driver import TrioConnection
from ngos.verify import verify
from soak_parts.account import Account, warm_up_min
from soak_parts.sample import Look, Sample, between, closes, scrape

ANSWER_S = 150.0
SETTLE_S = 30.0
STILL_S = 1.0
STOP_S = 30.0
GONE = Numbers(0, None, None, None, None, None, 0.0)
DECODERS = 5
WRITER_PER_S = 25
"""What one writer sends; a connection may do 95, with 500 listeners to each event (`ngos.gateway.limits.LISTENERS`)."""


@attrs.frozen(kw_only=True)
class Options:
    """What is asked for. `reconnects`: the share of clients that leaves, and comes back, in a minute."""

    minutes: float
    clients: int
    changes_per_s: float
    reconnects: float
    interval_s: float
    seed: int
    database_url: str | None
    flags: Sequence[str] = ()


@attrs.frozen
class Child:
    """A process of clients, from outside."""

    name: str
    process: trio.Process
    log: Path
    lines: AsyncIterator[bytes]

    async def ask(self, do: str, **more: Any) -> Mapping[str, Any]:
        """Let it do something, and answer. Raises NotRecovered."""
        assert self.process.stdin is not None
        try:
            await self.process.stdin.send_all(orjson.dumps({"do": do, **more}) + b"\n")
        except trio.BrokenResourceError:
            pass  # it has ended: its answer will not come
        return await self.answer()

    async def answer(self) -> Mapping[str, Any]:
        """What it says next. Raises NotRecovered."""
        why = f"did not answer within {ANSWER_S:g} s"
        with trio.move_on_after(ANSWER_S):
            async for line in self.lines:
                record: dict[str, Any] = orjson.loads(line)
                return record
            why = "ended"
        raise NotRecovered(f"the {self.name} {why}: {self.words()}")

    def words(self) -> str:
        return self.log.read_text(errors="replace").strip()[-1500:]


@attrs.define(eq=False)
class Run:
    """One run in a directory of its own, which has to be there. `on_sample` hears of each interval."""

    options: Options
    directory: Path
    say: Callable[[str], None]
    on_sample: Callable[[Sample], None]
    _samples: list[Sample] = attrs.field(factory=list)
    _faults: list[str] = attrs.field(factory=list)
    _interrupted: bool = False

    async def run(self) -> Account:
        """Do it all. Raises ChaosError or BenchError where it could not be begun, or clients could not go on."""
        options = self.options
        allow_connections(options.clients)
        async with open_databases(options.database_url) as databases:
            database_url = await databases.create()
            server = await start_server(database_url, options.flags, self.directory / "server.log")
            with killed_at_end(server.process):
                return await self._with(server, database_url)

    async def _with(self, server: Server, database_url: str) -> Account:
        options = self.options
        decoders = min(DECODERS, max(1, options.clients // 10))
        writing = max(1, round(options.changes_per_s / WRITER_PER_S))
        common = ["--port", str(server.port), "--seed", str(options.seed), "--reconnects", str(options.reconnects)]
        count = ["--clients", str(options.clients - decoders)]
        kinds = ["--decoders", str(decoders), "--writers", str(writing)]
        kinds += ["--changes-per-s", str(options.changes_per_s)]
        async with (
            self._child("readers", *common, *count) as readers,
            self._child("writers", *common, *kinds) as writers,
        ):
            await trio.sleep(STILL_S)
            start = await server.settled(options.clients + writing, SETTLE_S)
            await self._load(server, readers, writers)
            self.say("the load has ended: waiting for all that is owed")
            # Of a server that is gone, nothing is to be waited for.
            stop, reach = ("stop", "reach") if server.process.poll() is None else ("look", "look")
            wrote = await writers.ask(stop)
            await readers.ask(stop)
            heads = await _heads(database_url)
            read = await readers.ask(reach, heads=heads)
            decoded = await writers.ask(reach, heads=heads)
            end = await self._back(server, start)
            closed = closes(await trio.to_thread.run_sync(scrape, server.port))
        exit_code = await self._stop(server)
        self.say("ngos verify")
        return Account(
            minutes=options.minutes,
            warm_up_min=warm_up_min(options.minutes),
            clients=options.clients,
            changes_per_s=options.changes_per_s,
            seed=options.seed,
            interrupted=self._interrupted,
            samples=self._samples,
            start=start,
            end=end,
            readers=read,
            writers={**wrote}
            | {name: decoded[name] for name in ("decoded", "faults", "ended", "came_back", "resumed")},
            heads=heads,
            decoders=decoders,
            verified=await self._verify(database_url),
            log=Log.of(server.log.read_bytes()),
            closes=closed,
            exit_code=exit_code,
            faults=self._faults,
        )

    async def _load(self, server: Server, readers: Child, writers: Child) -> None:
        """Let the writers write, for as long as it was asked for, or until a signal, and sample."""
        options = self.options
        read, wrote = await readers.ask("begin"), await writers.ask("begin")
        began = trio.current_time()
        before = Look.at_server(server.process.pid, {}, read, wrote)
        if before is None:
            raise NotRecovered("the server ended before the load began")
        first = before.at
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                self.say(f"the load has begun: {options.clients} clients, {options.changes_per_s:g} changes a second")
                rounds = max(1, round(options.minutes * 60 / options.interval_s))
                for number in range(1, rounds + 1):
                    # After a look that was late, the next one is due at once: too few replies would be between the two.
                    soonest = trio.current_time() + options.interval_s / 2
                    await trio.sleep_until(max(began + number * options.interval_s, soonest))
                    with trio.CancelScope(shield=True):  # half an answer would be taken for the next one
                        metrics = await trio.to_thread.run_sync(scrape, server.port)
                        read, wrote = await readers.ask("look"), await writers.ask("look")
                    now = None
                    if server.process.poll() is None:
                        now = Look.at_server(server.process.pid, metrics, read, wrote)
                    if now is None:
                        self._faults.append("the server ended by itself")
                        break
                    self._samples.append(between(before, now, first))
                    self.on_sample(self._samples[-1])
                    before = now
                nursery.cancel_scope.cancel()

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for _ in signals:
            self._interrupted = True
            scope.cancel()
            return

    async def _back(self, server: Server, start: Numbers) -> Numbers:
        """Look until the server has what it had, or the time is over: connections that were left take a while to go."""
        deadline = trio.current_time() + SETTLE_S
        await trio.sleep(STILL_S)
        while True:
            try:
                now = await server.numbers()
            except OSError:
                return GONE
            if now.is_back(start) or trio.current_time() > deadline:
                return now
            # Also until the connection of our own question is gone, which is a descriptor too.
            await trio.sleep(LOOK_EVERY_S)

    async def _verify(self, database_url: str) -> Mapping[str, Any] | None:
        try:
            report: dict[str, Any] = (await verify(database_url)).to_json()
        except NgosError as exc:
            self._faults.append(f"ngos verify: {exc}")
            return None
        return report

    async def _stop(self, server: Server) -> int | None:
        if (code := server.process.poll()) is not None:
            return code
        server.process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_S):
            return await ended(server.process)
        self._faults.append(f"the server did not end within {STOP_S:g} s")
        return None

    @asynccontextmanager
    async def _child(self, name: str, *arguments: str) -> AsyncIterator[Child]:
        """A process of clients on core 1, once they are all there; killed at the end."""
        path = self.directory / f"{name}.log"
        with path.open("wb") as log:
            # In a session of its own: a Ctrl-C in the terminal is for us. Without us, its stdin ends, and so does it.
            process = await trio.lowlevel.open_process(
                pinned(1, [sys.executable, "-m", f"soak_parts.{name}", *arguments]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=SCRIPTS,
                env=clean_environment(),
                start_new_session=True,
            )
        try:
            assert process.stdout is not None
            child = Child(name, process, path, _lines(process.stdout))
            await child.answer()
            yield child
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()  # killed: at once


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line


async def _heads(database_url: str) -> dict[str, int]:
    """The last event of each topic. Raises ChaosError."""
    async with await TrioConnection.connect(database_url, autocommit=True) as connection:
        rows = await (await connection.execute("select topic, seq from topics")).fetchall()
    if not rows:
        raise ChaosError("nothing was written: there are no topics")
    return {str(topic): int(seq) for topic, seq in rows}
