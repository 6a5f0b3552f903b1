"""A run, from an empty database to the account of everything.

Promises: bounded in time, also where things hang; one fault at a time, the next when the system has recovered from
the last; whatever happens, what it started is gone afterwards. Runs on Trio.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
import orjson
import psycopg
import trio

from chaos_parts.account import make_account
from chaos_parts.disk import may_mount, small_disk
from chaos_parts.facts import keep_tables, read_events, read_positions
from chaos_parts.faults import Victims
from chaos_parts.journal import Journal
from chaos_parts.mix import WATCHED
from chaos_parts.plan import Kind, make_plan
from chaos_parts.postgres import Postgres, running_postgres
from chaos_parts.probe import Probe
from chaos_parts.processes import ROOT, NotRecovered, Tended, until
from chaos_parts.proxy import Pass, Proxy
from chaos_parts.report import Hit, Outcome, hit_line
from chaos_parts.server import clean_environment, quiet_port, serving, tended_server
from chaos_parts.watchers import Watcher, tended_watcher

RECOVERY_S = 60.0
SUBSCRIBE_S = 30.0
WARM_UP_S = 1.0
FINISH_S = 60.0
CATCH_UP_S = 60.0
DRAIN_S = 15.0
VERIFY_S = 120.0
TRACEBACK = "Traceback (most recent call last)"


@attrs.frozen(kw_only=True)
class Options:
    """What is asked for."""

    seed: int
    kills: int
    seconds: float
    writers: int
    watchers: int
    kinds: Sequence[Kind]
    per_s: float
    slots: int
    keep: bool


def _is_possible(kind: Kind, options: Options) -> bool:
    if kind is Kind.DISK_FULL:
        return may_mount()
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
            make_plan(options.seed, options.kills, kinds),
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
                victims = await self._begin(nursery, postgres, disk)
                for step in (self._break, self._settle):
                    try:
                        await step(victims)
                    except NotRecovered as exc:
                        self.outcome.failures.append(str(exc))
                await self._judge(victims)
                nursery.cancel_scope.cancel()
        self.outcome.seconds = trio.current_time() - started_s

    async def _begin(self, nursery: trio.Nursery, postgres: Postgres, disk: Path | None) -> Victims:
        """Start everybody: the server, the watchers, and when these are subscribed the writers."""
        options, directory = self._options, self._directory
        port = quiet_port()
        proxy = Proxy(port)
        await nursery.start(proxy.serve)
        server = tended_server(postgres.url, port, directory / "server.log")
        await nursery.start(server.run)
        await serving(port, server)
        url, proxy_url = (f"ws://127.0.0.1:{number}/ws" for number in (port, proxy.port))
        watchers = [tended_watcher(number, url, proxy_url, directory) for number in range(options.watchers)]
        for watcher in watchers:
            await nursery.start(watcher.process.run)
        for watcher in watchers:
            await until(
                lambda watcher=watcher: watcher.has_all(dict.fromkeys(WATCHED, 0)),
                SUBSCRIBE_S,
                lambda watcher=watcher: f"{watcher.process.name} did not subscribe: {watcher.process.last_words()}",
            )
        writers = [self._writer(number, proxy_url) for number in range(options.writers)]
        for writer, _ in writers:
            await nursery.start(writer.run)
        probe = Probe(proxy_url, directory / "probe.jsonl")
        return Victims(server, port, postgres, proxy, writers, watchers, disk, probe)

    def _writer(self, number: int, url: str) -> tuple[Tended, Path]:
        name, options = f"w{number}", self._options
        journal = self._directory / f"{name}.jsonl"
        command = [sys.executable, "-m", "chaos_parts.writer", "--url", url, "--journal", str(journal)]
        command += ["--client-id", name, "--seed", str(options.seed)]
        command += ["--per-s", str(options.per_s), "--slots", str(options.slots)]
        command += ["--steady"] if number % 2 else []
        return Tended(name, command, clean_environment(), self._directory / f"{name}.log"), journal

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
            done = await victims.commit(fault)
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
                hit = Hit(fault, done, recovery_s)
                self.outcome.hits.append(hit)
                self._say(hit_line(number, len(plan), hit, trio.current_time() - started_s))

    async def _settle(self, victims: Victims) -> None:
        """No more faults: let the writers finish, and the watchers get everything."""
        victims.proxy.set(Pass())
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

    async def _judge(self, victims: Victims) -> None:
        """The account, by what the journals and the log say, and by `ngos verify`."""
        outcome, url = self.outcome, victims.postgres.url
        async with trio.open_nursery() as nursery:
            for watcher in victims.watchers:
                # The last test of their journals.
                nursery.start_soon(self._finish, watcher.process, signal.SIGKILL, FINISH_S)
        journals = [Journal.read(path, process.name) for process, path in victims.writers]
        try:
            events = await read_events(url)
            if self._options.keep:
                await keep_tables(url, self._directory)
        except psycopg.Error as exc:
            outcome.failures.append(f"the database can't be read: {exc}")
            return
        seen = {watcher.process.name: watcher.lines() for watcher in victims.watchers}
        outcome.account = make_account([*journals, victims.probe.journal], events, seen)
        await self._verify(url, victims.watchers)
        await self._finish(victims.server, signal.SIGTERM, DRAIN_S)
        for process in (victims.server, *(w for w, _ in victims.writers), *(w.process for w in victims.watchers)):
            outcome.failures += process.deaths
        if found := victims.server.log.read_text(errors="replace").count(TRACEBACK):
            outcome.failures.append(f"{found} tracebacks in the server's log")

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
