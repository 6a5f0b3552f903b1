"""All of it together, in a given time: the children that search, then a server and what is done to it.

Promises: two busy processes at most; a finding does not end the run, and is a file when it ends. Runs on Trio.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import trio
from chaos_parts.processes import ended, start
from chaos_parts.server import clean_environment

from fuzz_parts import attacks, server, sessions
from fuzz_parts.findings import Finding, failure_of
from fuzz_parts.oracles import ORACLES, Defect
from ngos.verify import verify

TARGETS: Final = ("codec", "frames", "http", "connections")
AT_ONCE: Final = 12
"""Sessions of a round."""
FULL_SIZE_MINUTES: Final = 5
SPARE_S: Final = 30.0
"""What a child may take beyond its time, to start and to end."""
CONNECT_S: Final = 30.0


@attrs.frozen
class Options:
    """What is asked for."""

    seconds: float
    seed: int
    only: tuple[str, ...] = TARGETS
    planted: bool = False
    attacks: tuple[str, ...] = attacks.NAMES


@attrs.define
class Row:
    """A line of the report."""

    target: str
    inputs: int
    remark: str = ""


@attrs.define
class Run:
    """One run; `rows` and `findings` are what came of it."""

    options: Options
    directory: Path
    into: Path
    say: Callable[[str], None]
    rows: list[Row] = attrs.field(factory=list)
    findings: dict[Path, Finding] = attrs.field(factory=dict)

    def found(self, finding: Finding) -> None:
        """Save a finding, once."""
        path = finding.save(self.into)
        if path not in self.findings:
            self.findings[path] = finding
            self.say(f"FOUND: {finding.target}: {finding.what}")

    async def run(self) -> None:
        """Search, attack, and ask whether the database is sound."""
        only = self.options.only
        searches = [target for target in ("codec", "frames") if target in only]
        attacked = [target for target in ("http", "connections") if target in only]
        if searches:
            search_s = self.options.seconds * (SEARCH if attacked else 1)
            async with trio.open_nursery() as nursery:
                for target in searches:
                    nursery.start_soon(self._search, target, search_s)
        if attacked:
            await self._attack(attacked)

    async def _search(self, target: str, seconds: float) -> None:
        if target == "codec":
            cursor_s = max(1, seconds / 10)
            await self._child("cursor", cursor_s)
            seconds = max(1, seconds - cursor_s)
        await self._child(target, seconds)

    async def _child(self, target: str, seconds: float) -> None:
        self.say(f"{target}: {seconds:.0f} s")
        directory = self.directory / target
        log = self.directory / f"{target}.log"
        arguments = ["--seconds", str(max(1, int(seconds))), "--seed", str(self.options.seed), "--into", str(directory)]
        command = [sys.executable, "-m", "fuzz_parts.child", target, *arguments]
        if self.options.planted:
            command.append("--planted")
        with log.open("wb") as file:
            process = start(command, clean_environment(), file)
        try:
            code = None
            with trio.move_on_after(seconds + SPARE_S):
                code = await ended(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._read_child(target, directory, log.read_text(errors="replace"), code)

    def _read_child(self, target: str, directory: Path, said: str, code: int | None) -> None:
        for path in sorted(directory.glob("*.json")):
            self.found(Finding.load(path))
        for kind in ("crash", "timeout", "oom", "leak", "slow-unit"):
            for path in directory.glob(f"{kind}-*"):
                self.found(Finding(target, f"{kind} of the search's process", said[-3000:], path.read_bytes()))
        if (directory / "random").exists():
            inputs, remark = int((directory / "random").read_text()), "at random: atheris can't be imported"
        else:
            counts = re.findall(r"^stat::number_of_executed_units: (\d+)|^#(\d+)\t", said, re.MULTILINE)
            inputs = max((int(number) for pair in counts for number in pair if number), default=0)
            edges = re.findall(r"cov: (\d+)", said)
            remark = f"{edges[-1] if edges else 0} edges"
        if code != 0 and not any(finding.target == target for finding in self.findings.values()):
            self.found(Finding(target, f"the search ends well, not with {code}", said[-3000:]))
        self.rows.append(Row(target, inputs, remark))

    async def _attack(self, targets: Sequence[str]) -> None:
        async with server.postgres(self.directory, os.environ.get("NGOS_TEST_DATABASE_URL")) as url:
            for compresses in (False, True):
                async with server.database(url, server.own_name("deflate" if compresses else "plain")) as database_url:
                    await self._attack_one(targets, database_url, compresses=compresses)
                    await self._verify(database_url)

    async def _attack_one(self, targets: Sequence[str], url: str, *, compresses: bool) -> None:
        log = self.directory / f"server-{compresses}.log"
        async with _host(url, log, compresses=compresses) as host:
            named = attacks.ATTACKS.compressed if compresses else attacks.ATTACKS.plain
            if "connections" in targets:
                for name in named:
                    if name in self.options.attacks:
                        await self._named(host, name)
            share = COMPRESSED_SESSIONS if compresses else SESSIONS
            if "codec" not in self.options.only:
                share *= 1 / (1 - SEARCH)
            deadline = time.monotonic() + self.options.seconds * share
            kinds = [kind for kind, target in KINDS if target in targets]
            counts = dict.fromkeys(kinds, 0)
            rounds = 0
            while time.monotonic() < deadline or not rounds:
                rng = Random(f"{self.options.seed} {compresses} {rounds}")
                plans = []
                for n in range(AT_ONCE):
                    kind = kinds[n % len(kinds)]
                    plans.append(sessions.make(rng, kind, compresses=compresses))
                    counts[kind] += 1
                await self._round(host, plans)
                rounds += 1
            for kind, count in counts.items():
                self.rows.append(Row(f"{kind} sessions{COMPRESSED if compresses else ''}", count, f"{rounds} rounds"))

    async def _named(self, host: _Host, name: str) -> None:
        begun = time.monotonic()
        scale = self.options.seconds / 60 / FULL_SIZE_MINUTES
        try:
            target = await host.target()
            remark = await attacks.run(target, name, scale)
            await target.judge()
        except Exception as exc:
            remark = "FOUND"
            self.found(_finding("attack", exc, {"attack": name, "scale": scale}))
            await host.restart()
        self.say(f"{name}: {remark}")
        self.rows.append(Row(f"attack {name}", 1, f"{remark} ({time.monotonic() - begun:.0f} s)"))

    async def _round(self, host: _Host, plans: list[sessions.Plan]) -> None:
        failures = await _play(await host.target(), plans)
        for exc, plan in failures:
            alone = [plan] if plan is not None else await self._guilty(host, plans)
            self.found(_finding("connections", exc, {"compresses": host.compresses, "sessions": alone}))
        if failures:
            await host.restart()

    async def _guilty(self, host: _Host, plans: list[sessions.Plan]) -> list[sessions.Plan]:
        """The one session after which a fresh server is not as it was; else all of them."""
        for plan in plans:
            await host.restart()
            if await _play(await host.target(), [plan]):
                return [plan]
        return plans

    async def _verify(self, url: str) -> None:
        report = await verify(url, (), connect_s=CONNECT_S)
        looked_at = sum(check.looked_at for check in report.checks)
        self.rows.append(Row("ngos verify", looked_at, "sound" if report.sound else "FAULTY"))
        if not report.sound:
            faults = [text for check in report.checks for text in check.first]
            self.found(Finding("verify", "the database is sound afterwards", "\n".join(faults)))


KINDS: Final = (("tidy", "connections"), ("wild", "connections"), ("http", "http"))
COMPRESSED: Final = ", compressed"
# What each gets of the time; the attacks take about what is left.
SEARCH: Final = 0.3
SESSIONS: Final = 0.3
COMPRESSED_SESSIONS: Final = 0.1


async def _play(target: server.Target, plans: Sequence[sessions.Plan]) -> list[tuple[Exception, sessions.Plan | None]]:
    """Run sessions at once, then judge the server; what failed, None standing for the server."""
    failures: list[tuple[Exception, sessions.Plan | None]] = []

    async def one(plan: sessions.Plan) -> None:
        try:
            await sessions.run(target, plan)
        except Exception as exc:
            failures.append((exc, plan))

    async with trio.open_nursery() as nursery:
        for plan in plans:
            nursery.start_soon(one, plan)
    try:
        await target.judge()
    except Exception as exc:
        failures.append((exc, None))
    return failures


def _finding(target: str, exc: Exception, plan: Any) -> Finding:
    while isinstance(exc, ExceptionGroup):  # by way of a nursery
        exc = exc.exceptions[0]
    failure = failure_of(_raise, exc)  # type: ignore[arg-type]
    assert failure is not None
    return Finding(target, *failure, plan=plan)


def _raise(exc: Exception) -> None:
    raise exc


@attrs.define(eq=False)
class _Host:
    """A server that is started again after it has been found wanting."""

    url: str
    log: Path
    compresses: bool
    _exits: AsyncExitStack
    _target: server.Target | None = None

    async def target(self) -> server.Target:
        """The server that runs, or a new one."""
        if self._target is None:
            running = server.running(self.url, self.log, compresses=self.compresses)
            self._target = await self._exits.enter_async_context(running)
        return self._target

    async def restart(self) -> None:
        """End the one that runs; `target` starts another."""
        self._target = None
        await self._exits.aclose()


@asynccontextmanager
async def _host(url: str, log: Path, *, compresses: bool) -> AsyncIterator[_Host]:
    async with AsyncExitStack() as exits:
        yield _Host(url, log, compresses, exits)


async def replay(finding: Finding, directory: Path) -> str | None:
    """Try a finding again; how it fails, or None."""
    if finding.data is not None:
        failure = failure_of(ORACLES[finding.target], finding.data)
        return None if failure is None else "\n".join(failure)
    plan = finding.plan
    if not plan:
        return "what found it can't be replayed"
    async with _replay_target(directory, compresses=_compresses(plan)) as target:
        if "attack" in plan:
            try:
                await attacks.run(target, plan["attack"], plan["scale"])
                await target.judge()
            except Exception as exc:
                return repr(exc)
            return None
        failures = await _play(target, plan["sessions"])
    return "\n".join(repr(exc) for exc, _ in failures) or None


def _compresses(plan: dict[str, Any]) -> bool:
    return bool(plan.get("compresses", plan.get("attack") in attacks.ATTACKS.compressed))


@asynccontextmanager
async def _replay_target(directory: Path, *, compresses: bool) -> AsyncIterator[server.Target]:
    async with (
        server.postgres(directory, os.environ.get("NGOS_TEST_DATABASE_URL")) as url,
        server.database(url, server.own_name("replay")) as database_url,
        server.running(database_url, directory / "server.log", compresses=compresses) as target,
    ):
        yield target


__all__ = ["TARGETS", "Defect", "Options", "Run", "replay"]
