"""A run, from an empty database to the account of everything.

Promises: bounded in time, also where things hang; one fault at a time, the next when the system has recovered from
the last; whatever happens, what it started is gone afterwards. Runs on Trio.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import orjson
import psycopg
import trio

from chaos_parts.account import Account, make_account
from chaos_parts.cast import Cast, Options, begin, writers_nodes
from chaos_parts.disk import may_mount, small_disk
from chaos_parts.facts import keep_tables, read_events, read_positions
from chaos_parts.faults import Victims
from chaos_parts.journal import Journal
from chaos_parts.latency import Span, Times, phases
from chaos_parts.plan import OF_REDIS, Kind, make_plan
from chaos_parts.postgres import running_postgres
from chaos_parts.processes import ROOT, NotRecovered, Tended, until
from chaos_parts.proxy import Pass
from chaos_parts.report import Hit, Outcome, hit_line
from chaos_parts.server import clean_environment
from chaos_parts.watchers import Watcher

RECOVERY_S = 60.0
WARM_UP_S = 1.0
FINISH_S = 60.0
CATCH_UP_S = 60.0
DRAIN_S = 15.0
VERIFY_S = 120.0
TRACEBACK = "Traceback (most recent call last)"


def _is_possible(kind: Kind, options: Options) -> bool:
    if kind is Kind.DISK_FULL:
        return may_mount()
    if kind in OF_REDIS:
        return options.backplane == "redis"
    return options.watchers > 0 or kind not in (Kind.KILL_WATCHER, Kind.STOP_WATCHER)


class Run:
    """One run in a directory of its own, which has to be there. `say` gets each line."""

    def __init__(self, options: Options, directory: Path, say: Callable[[str], None]) -> None:
        kinds = [kind for kind in options.kinds if _is_possible(kind, options)]
        self._options = options
        self._directory = directory
        self._say = say
        self.outcome = Outcome(
            options.seed,
            make_plan(options.seed, options.kills, kinds, lasting_s=options.lasting_s, quiet_s=2 * options.around_s),
            options.nodes,
            options.backplane,
            left_out=[kind for kind in options.kinds if kind not in kinds],
        )

    async def run(self) -> None:
        """Do it all; what it comes to is in `outcome`. Raises ChaosError where it could not be begun."""
        started_s = trio.current_time()
        with ExitStack() as disks:
            data_dir, disk = self._directory / "data", None
            if any(fault.kind is Kind.DISK_FULL for fault in self.outcome.planned):
                disk = disks.enter_context(small_disk(data_dir))
            async with running_postgres(data_dir) as postgres, trio.open_nursery() as nursery:
                cast = await begin(nursery, self._options, self._directory, postgres, disk)
                for step in (self._break, self._settle):
                    try:
                        await step(cast.victims)
                    except NotRecovered as exc:
                        self.outcome.failures.append(str(exc))
                await self._judge(cast)
                nursery.cancel_scope.cancel()
        self.outcome.seconds = trio.current_time() - started_s

    async def _break(self, victims: Victims) -> None:
        """The plan, fault by fault, for as long as there is time."""
        started_s = trio.current_time()
        await victims.probe.works(RECOVERY_S)
        await trio.sleep(WARM_UP_S)
        plan = self.outcome.planned
        for number, fault in enumerate(plan, start=1):
            if trio.current_time() - started_s > self._options.seconds:
                self._say(f"the time is over: {len(plan) - number + 1} faults were not committed")
                return
            await trio.sleep(fault.after_s)
            begun_at = time.monotonic()
            done = await victims.commit(fault)
            over_at = time.monotonic()
            recovery_s = None
            try:
                seq = await victims.probe.works(RECOVERY_S)
                await until(
                    lambda done=done, seq=seq: done.caught_up(seq),
                    RECOVERY_S,
                    lambda done=done: f"{done.detail} did not catch up",
                )
                recovery_s = trio.current_time() - done.at
            finally:
                hit = Hit(fault, done, recovery_s, begun_at, over_at)
                self.outcome.hits.append(hit)
                self._say(hit_line(number, len(plan), hit, trio.current_time() - started_s))
        await trio.sleep(2 * self._options.around_s)

    async def _settle(self, victims: Victims) -> None:
        """No more faults: let the writers finish, and the watchers get everything."""
        for node in victims.nodes:
            node.proxy.set(Pass())
        async with trio.open_nursery() as nursery:
            for writer, _ in victims.writers:
                nursery.start_soon(self._finish, writer, signal.SIGTERM, FINISH_S)
        await victims.probe.settle()
        positions = await read_positions(victims.postgres.url)
        for watcher in victims.watchers:
            try:
                await until(
                    lambda watcher=watcher: watcher.has_all(positions),
                    CATCH_UP_S,
                    lambda watcher=watcher: f"{watcher.process.name} at {dict(watcher.positions())} not at {positions}",
                )
            except NotRecovered as exc:
                self.outcome.failures.append(str(exc))

    async def _judge(self, cast: Cast) -> None:
        """The account, by what the journals and the log say, and by `ngos verify`."""
        outcome, victims = self.outcome, cast.victims
        async with trio.open_nursery() as nursery:
            for watcher in victims.watchers:
                # The last test of their journals.
                nursery.start_soon(self._finish, watcher.process, signal.SIGKILL, FINISH_S)
            for listener in cast.listeners:
                nursery.start_soon(self._finish, listener.process, signal.SIGTERM, FINISH_S)
        journals = [Journal.read(path, process.name) for process, path in victims.writers]
        try:
            events = await read_events(victims.postgres.url)
            if self._options.keep:
                await keep_tables(victims.postgres.url, self._directory)
        except psycopg.Error as exc:
            outcome.failures.append(f"the database can't be read: {exc}")
            return
        seen = {watcher.process.name: watcher.lines() for watcher in victims.watchers}
        outcome.account = make_account([*journals, victims.probe.journal], events, seen)
        self._measure(cast, outcome.account)
        await self._verify(victims.postgres.url, victims.watchers)
        async with trio.open_nursery() as nursery:
            for server in cast.servers():
                nursery.start_soon(self._finish, server, signal.SIGTERM, DRAIN_S)
        for process in cast.all():
            outcome.failures += process.deaths
        for server in cast.servers():
            if found := server.log.read_text(errors="replace").count(TRACEBACK):
                outcome.failures.append(f"{found} tracebacks in the log of {server.name}")

    def _measure(self, cast: Cast, account: Account) -> None:
        """How long things took; and where only Redis was hurt, whether anybody noticed more than that."""
        options, outcome = self._options, self.outcome
        if options.around_s:
            times = Times()
            for number, (_, path) in enumerate(cast.victims.writers):
                times.add_journal(path.read_bytes().splitlines(), writers_nodes(number, options.nodes))
            for listener in cast.listeners:
                times.add_listener(listener.lines())
            spans = [Span(hit.fault, hit.done.detail, hit.begun_at, hit.over_at) for hit in outcome.hits]
            outcome.phases = phases(times, spans, options.around_s)
        if account.troubles and all(fault.kind in OF_REDIS for fault in outcome.planned):
            troubles = ", ".join(f"{why} {count}" for why, count in account.troubles.items())
            outcome.failures.append(f"clients noticed more of Redis than latency: {troubles}")

    async def _finish(self, process: Tended, number: signal.Signals, patience_s: float) -> None:
        try:
            await process.finish(number, patience_s)
        except NotRecovered as exc:
            self.outcome.failures.append(str(exc))

    async def _verify(self, url: str, watchers: Sequence[Watcher]) -> None:
        command = [sys.executable, "-m", "ngos", "verify", "--database-url", url, "--complete", "--json"]
        for watcher in watchers:
            command += ["--journal", str(watcher.journal)]
        with trio.move_on_after(VERIFY_S):
            done = await trio.run_process(
                command, capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=ROOT, env=clean_environment()
            )
            self.outcome.verify_code = done.returncode
            try:
                self.outcome.verified = orjson.loads(done.stdout)
            except orjson.JSONDecodeError:
                self.outcome.failures.append(f"ngos verify: {done.stdout.decode(errors='replace').strip()[-500:]}")
