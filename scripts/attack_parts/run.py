"""A run, from an empty database to the account of everything.

Promises: bounded in time; whatever happens, what it started is gone afterwards; all traffic stays on the loopback.
The server has one core, honest clients and attackers share the other, the honest first. Runs on Trio.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import attrs
import orjson
import trio
from bench_postgres import open_databases
from bench_servers import pinned
from chaos_parts.processes import NotRecovered, ended, start, until
from chaos_parts.server import clean_environment

from attack_parts.account import Account, Arrived, Latency, Log, Spent, make_phases
from attack_parts.server import LOOK_EVERY_S, Numbers, Server, start_server, waited_s
from attack_parts.tally import Tally
from attack_parts.tokens import Tokens, make_tokens
from attack_parts.world import make_world

HONEST_ADDRESS = "127.0.0.1"
ATTACKERS_ADDRESS = "127.0.0.2"
READY_S = 60.0
SETTLE_S = 2.0
HELD_S = 5.0
AFTER_S = 30.0
QUIET_S = 5.0
"""How long the honest ones are measured when all is over, at least."""
REPORT_S = 30.0
STOP_S = 20.0


@attrs.frozen(kw_only=True)
class Options:
    """What is asked for."""

    seconds: float
    before_seconds: float
    after_seconds: float = AFTER_S
    held_seconds: float = HELD_S
    honest: int
    attackers: int
    seed: int
    only: Sequence[str]
    jwt: bool
    memory_bytes: int
    database_url: str | None
    flags: Sequence[str]


@attrs.define
class _Most:
    """The most that was seen."""

    memory_bytes: int = 0
    descriptors: int = 0


@attrs.define(eq=False)
class Run:
    """One run in a directory of its own, which has to be there. `say` gets a line now and then."""

    options: Options
    directory: Path
    say: Callable[[str], None]
    _bounds: dict[str, tuple[float, float]] = attrs.field(factory=dict)
    _spent: dict[str, Spent] = attrs.field(factory=dict)
    _arrivals: dict[str, Any] = attrs.field(factory=dict)
    _honest_pid: int = 0
    _failures: list[str] = attrs.field(factory=list)
    _descriptor_limit: int = 0

    async def run(self) -> Account:
        """Do it all. Raises ChaosError or BenchError where it could not be begun."""
        options, flags = self.options, list(self.options.flags)
        tokens: Tokens | None = None
        if options.jwt:
            tokens = make_tokens(self.directory, options.honest)
            flags += tokens.flags
        async with open_databases(options.database_url) as databases:
            database_url = await databases.create()
            await make_world(database_url)
            token = None if tokens is None else tokens.honest.read_text().split()[0]
            server = await start_server(database_url, flags, self.directory / "server.log", token)
            with killed_at_end(server.process):
                return await self._with(server, tokens)

    async def _with(self, server: Server, tokens: Tokens | None) -> Account:
        options, most = self.options, _Most()
        honest_tokens = ["--tokens", str(tokens.honest)] if tokens else []
        async with self._child("honest", server, "--clients", str(options.honest), *honest_tokens) as honest:
            self._honest_pid = honest.pid
            ready = self.directory / "honest.ready"
            await until(ready.exists, READY_S, lambda: f"honest clients were not ready ({self._words('honest')})")
            await trio.sleep(SETTLE_S)
            self.say(f"before: {options.honest} honest clients, {options.before_seconds:g} s")
            coming = ["--seconds", str(options.before_seconds), *honest_tokens]
            async with self._child("arrivals-before", server, *coming) as arrivals:
                with self._phase("before", server):
                    await trio.sleep(options.before_seconds)
                self._arrivals["before"] = await self._report_of("arrivals-before", arrivals, asked=False)
            before = await server.settled(options.honest, READY_S)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, server, most)
                coming = ["--seconds", str(options.seconds), *honest_tokens]
                async with self._child("arrivals-during", server, *coming) as arrivals:
                    reports = await self._attack(server, tokens)
                    self._arrivals["during"] = await self._report_of("arrivals-during", arrivals, asked=False)
                nursery.cancel_scope.cancel()
            after = await self._after(server, before)
            seen = await self._report_of("honest", honest)
        exit_code = await self._stop(server)
        kinds: dict[str, Tally] = {}
        for report in reports:
            for name, record in report["kinds"].items():
                tally, more = kinds.setdefault(name, Tally()), Tally.of(record)
                tally.did(more.attempts, more.sent_bytes)
                tally.outcomes += more.outcomes
        return Account(
            attack_s=options.seconds,
            memory_tolerance_bytes=options.memory_bytes,
            phases=make_phases(self._bounds, self._spent, seen["replies"], seen["deliveries"]),
            arrivals={
                name: Arrived(Latency.of(found["greeted_s"]), found["turned_away"])
                for name, found in self._arrivals.items()
            },
            before=before,
            after=after,
            most_memory_bytes=most.memory_bytes,
            most_descriptors=most.descriptors,
            descriptor_limit=self._descriptor_limit,
            sent=seen["sent"],
            unanswered=seen["unanswered"],
            foreign_events=seen["foreign_events"],
            errors=seen["errors"],
            closes=seen["closes"],
            reconnects=seen["reconnects"],
            kinds=kinds,
            attackers_cpu_s=round(sum(report["cpu_s"] for report in reports), 2),
            log=Log.of(server.log.read_bytes()),
            exit_code=exit_code,
            failures=self._failures,
        )

    async def _attack(self, server: Server, tokens: Tokens | None) -> list[dict[str, Any]]:
        """Let all attackers loose; when the time is over stop them with their sockets open, then let them go."""
        options = self.options
        each: list[tuple[str, int, Sequence[str]]] = [("attackers", options.attackers, ())]
        if tokens is not None:
            half = max(1, options.attackers // 2)
            each = [("attackers", half, ()), ("attackers-with-token", half, ("--token", str(tokens.attackers)))]
        self.say(f"during: {len(options.only)} kinds of attack from {ATTACKERS_ADDRESS}, {options.seconds:g} s")
        async with AsyncExitStack() as stack:
            children = []
            for name, tasks, more in each:
                arguments = ["--seconds", str(options.seconds), "--tasks", str(tasks), "--seed", str(options.seed)]
                arguments += ["--only", *options.only, *more]
                children.append((name, await stack.enter_async_context(self._child(name, server, *arguments))))
            with self._phase("during", server):
                await trio.sleep(options.seconds)
            for _, child in children:
                child.send_signal(signal.SIGSTOP)
            self.say(f"held: attackers are stopped, their sockets open, {options.held_seconds:g} s")
            with self._phase("held", server):
                await trio.sleep(options.held_seconds)
            for _, child in children:
                child.send_signal(signal.SIGCONT)
            return [await self._report_of(name, child, asked=False) for name, child in children]

    async def _after(self, server: Server, before: Numbers) -> list[tuple[float, Numbers]]:
        """Look until descriptors and tasks are what they were, or the time is over; the honest ones go on."""
        self.say(f"after: until all is as it was, at most {self.options.after_seconds:g} s")
        self._descriptor_limit = server.most_descriptors()
        found = []
        with self._phase("after", server):
            began = monotonic()
            while True:
                now = await server.numbers()
                elapsed_s = monotonic() - began
                found.append((round(elapsed_s, 2), now))
                is_enough = elapsed_s >= min(QUIET_S, self.options.after_seconds) and now.is_back(before)
                if is_enough or elapsed_s > self.options.after_seconds:
                    break
                # Also until the connection of our own question is gone, which is a descriptor too.
                await trio.sleep(LOOK_EVERY_S)
        return found

    @contextmanager
    def _phase(self, name: str, server: Server) -> Iterator[None]:
        """Note when a phase was, and what it took."""

        def spent() -> tuple[float, float, float]:
            return server.cpu_s(), waited_s(server.process.pid), waited_s(self._honest_pid)

        began, before = monotonic(), spent()
        yield
        self._bounds[name] = (began, monotonic())
        self._spent[name] = Spent(*(round(now - then, 2) for now, then in zip(spent(), before, strict=True)))

    @asynccontextmanager
    async def _child(self, name: str, server: Server, *arguments: str) -> AsyncIterator[subprocess.Popen[bytes]]:
        """A process of clients on core 1; killed at the end if it is still there."""
        is_honest = name == "honest"
        module = f"attack_parts.{name.partition('-')[0]}"
        source = ATTACKERS_ADDRESS if module == "attack_parts.attackers" else HONEST_ADDRESS
        command = [sys.executable, "-m", module, "--port", str(server.port), "--source", source]
        command += ["--report", str(self.directory / f"{name}.json"), *arguments]
        command += ["--ready", str(self.directory / "honest.ready")] if is_honest else []
        with (self.directory / f"{name}.log").open("wb") as log:
            process = start(pinned(1, command), clean_environment(), log)
        with killed_at_end(process):
            yield process

    async def _report_of(self, name: str, process: subprocess.Popen[bytes], *, asked: bool = True) -> dict[str, Any]:
        """What a process of clients has to tell; `asked` if it has to be told to end. Raises ChaosError."""
        if asked:
            process.send_signal(signal.SIGTERM)
        code = None
        with trio.move_on_after(REPORT_S):
            code = await ended(process)
        if code != 0:
            raise NotRecovered(f"the {name} ended with {code}: {self._words(name)}")
        report: dict[str, Any] = orjson.loads((self.directory / f"{name}.json").read_bytes())
        return report

    async def _stop(self, server: Server) -> int | None:
        """Ask the server to end; None: it did not."""
        server.process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_S):
            return await ended(server.process)
        self._failures.append(f"the server did not end within {STOP_S:g} s")
        return None

    def _words(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace").strip()[-1000:]


@contextmanager
def killed_at_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()  # killed: at once


async def _watch(server: Server, most: _Most) -> None:
    """Look at what the server holds, until cancelled."""
    while True:
        most.memory_bytes = max(most.memory_bytes, server.memory_bytes())
        most.descriptors = max(most.descriptors, server.descriptors())
        await trio.sleep(LOOK_EVERY_S)
