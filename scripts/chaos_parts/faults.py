"""The plan's words as deeds: each kind of fault, from its beginning to its end.

Promises: when `commit` returns, the fault is over and what it stopped goes on, also when it was cancelled; what died
is being started again by whoever tends it. Runs on Trio.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import attrs
import trio

from chaos_parts.disk import keep_full
from chaos_parts.plan import OF_REDIS, Fault, Kind
from chaos_parts.postgres import Postgres, signal_if_there
from chaos_parts.probe import TOPIC, Probe
from chaos_parts.processes import Tended, until
from chaos_parts.proxy import Cut, Delay, Mode, Pass, Reset, Stall
from chaos_parts.redis import Redis
from chaos_parts.server import Node, closed_connections
from chaos_parts.watchers import Watcher

DELAY_S = (0.01, 0.15)
# How one ends that does not read, by close code: what waits for it is with the server, or with the kernel.
CUT = {1013: "1013 by the server", 1006: "by the kernel", 4408: "4408 by the server"}
LOOK_EVERY_S = 0.2
FIRST_CUT_S = 2.0
# While one node is stopped, or while Redis is away, the others are to be there for their clients.
MEANWHILE_S = 30.0
BACK_S = 30.0


@attrs.frozen
class Done:
    """A fault that is over.

    `at`: since when it can recover. `caught_up`: what else must be, given the number of the probe's event.
    """

    at: float
    detail: str
    caught_up: Callable[[int], bool] = lambda _seq: True


@attrs.frozen
class Victims:
    """Whom it can hit. `disk` is None where there is no small one, `redis` where nobody uses it."""

    nodes: Sequence[Node]
    postgres: Postgres
    redis: Redis | None
    writers: Sequence[tuple[Tended, Path]]
    watchers: Sequence[Watcher]
    disk: Path | None
    probe: Probe

    async def commit(self, fault: Fault) -> Done:
        """Do it, and wait until it is over."""
        match fault.kind:
            case Kind.KILL_SERVER:
                return self._kill_server(fault)
            case Kind.STOP_SERVER:
                return await self._stop_server(fault)
            case Kind.KILL_POSTGRES:
                at = trio.current_time()
                pids = self.postgres.pids()
                self.postgres.kill()
                return Done(at, f"and its {len(pids) - 1} children")
            case Kind.KILL_WRITER:
                writer, journal = self.writers[fault.of(len(self.writers))]
                size_bytes = journal.stat().st_size
                return attrs.evolve(self._kill(writer), caught_up=lambda _: _has_answer(journal, size_bytes))
            case Kind.KILL_WATCHER:
                watcher = self.watchers[fault.of(len(self.watchers))]
                at = trio.current_time()
                watcher.move()
                detail = f"{watcher.process.name}{self._now_at(watcher)}"
                return Done(at, detail, lambda seq: watcher.has(TOPIC, seq))
            case Kind.STOP_WATCHER:
                return await self._stop_watcher(fault)
            case Kind.STOP_BACKEND:
                return await self._stop_backend(fault.seconds)
            case Kind.DISK_FULL:
                return await self._fill_disk(fault)
            case kind if kind in OF_REDIS:
                assert self.redis is not None
                return await _hurt_redis(self.redis, fault)
            case _:
                return await self._misbehave(fault)

    def _kill_server(self, fault: Fault) -> Done:
        """With the watchers that were past its proxy, where there is another node: they go on there."""
        place = fault.of(len(self.nodes))
        done = self._kill(self.nodes[place].server)
        moved = [watcher for watcher in self.watchers if watcher.node == place and not watcher.proxied]
        if len(self.nodes) == 1 or not moved:
            return done
        for watcher in moved:
            watcher.move()
        names = ", ".join(f"{watcher.process.name}{self._now_at(watcher)}" for watcher in moved)
        return attrs.evolve(
            done,
            detail=f"{done.detail}; {names}",
            caught_up=lambda seq: all(watcher.has(TOPIC, seq) for watcher in moved),
        )

    def _now_at(self, watcher: Watcher) -> str:
        return f", now at {self.nodes[watcher.node].server.name}" if len(self.nodes) > 1 else ""

    async def _stop_server(self, fault: Fault) -> Done:
        """For so long; the other nodes serve meanwhile, or it is not over."""
        place = fault.of(len(self.nodes))
        server, meanwhile = self.nodes[place].server, ""
        server.send(signal.SIGSTOP)
        try:
            at = trio.current_time()
            if len(self.nodes) > 1:
                await self.probe.works(MEANWHILE_S, without=place)
                meanwhile = f", the others worked after {trio.current_time() - at:.3f} s"
            await trio.sleep_until(at + fault.seconds)
        finally:
            server.send(signal.SIGCONT)
        lasted_s = trio.current_time() - at
        return Done(trio.current_time(), f"{server.name}, for {lasted_s:.1f} s{meanwhile}")

    def _kill(self, process: Tended) -> Done:
        at = trio.current_time()
        process.kill()
        return Done(at, process.name)

    async def _stop_backend(self, seconds: float) -> Done:
        stopped = await self.postgres.stop_backend()
        if stopped is None:
            return Done(trio.current_time(), "there was none")
        pid, inside = stopped
        try:
            await trio.sleep(seconds)
        finally:
            signal_if_there(pid, signal.SIGCONT)
        where = "inside of a transaction" if inside else "idle"
        return Done(trio.current_time(), f"{where}, for {seconds:g} s")

    async def _fill_disk(self, fault: Fault) -> Done:
        """No room for tables; half of the times also none for the write-ahead log, without which Postgres can't be."""
        assert self.disk is not None
        panics = self.postgres.panics()
        async with trio.open_nursery() as nursery:
            if fault.pick < 0.5:
                nursery.start_soon(self.postgres.switch_wal)
            await keep_full(self.disk, fault.seconds)
            nursery.cancel_scope.cancel()
        return Done(trio.current_time(), f"for {fault.seconds:g} s, {self.postgres.panics() - panics} panics")

    async def _stop_watcher(self, fault: Fault) -> Done:
        """Until the server has cut it, or for as long as the fault may last."""
        proxied = [watcher for watcher in self.watchers if watcher.proxied]
        watcher = proxied[fault.of(len(proxied))]
        port = self.nodes[watcher.node].port
        before = await trio.to_thread.run_sync(closed_connections, port)
        cut: list[int] = []
        watcher.process.send(signal.SIGSTOP)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.probe.shout)
                with trio.move_on_after(fault.seconds):
                    while not cut:
                        await trio.sleep(LOOK_EVERY_S)
                        closed = await trio.to_thread.run_sync(closed_connections, port)
                        cut = [code for code in closed - before if code in CUT]
                nursery.cancel_scope.cancel()
        finally:
            watcher.process.send(signal.SIGCONT)
        how = f"cut: {CUT[cut[0]]}" if cut else f"for {fault.seconds:g} s, not cut"
        return Done(trio.current_time(), f"{watcher.process.name}, {how}", lambda seq: watcher.has(TOPIC, seq))

    async def _misbehave(self, fault: Fault) -> Done:
        """What the proxy does."""
        rng = Random(fault.salt)
        mode: Mode
        match fault.kind:
            case Kind.DELAY:
                mode = Delay(round(rng.uniform(*DELAY_S), 3))
                detail = f"of {mode.seconds * 1000:.0f} ms each way, for {fault.seconds:g} s"
            case Kind.STALL:
                mode, detail = Stall(), f"for {fault.seconds:g} s"
            case Kind.RESET:
                mode, detail = Reset(), f"of all, for {fault.seconds:g} s"
            case _:
                mode, detail = Cut(rng), f"in mid-frame, for {fault.seconds:g} s"
        node = self.nodes[fault.of(len(self.nodes))]
        proxy = node.proxy
        cuts = proxy.cuts
        proxy.set(mode)
        try:
            if isinstance(mode, Cut):  # a connection at least, for as long as there are any that speak
                with trio.move_on_after(FIRST_CUT_S):
                    await until(lambda: proxy.cuts > cuts, math.inf, str)
            await trio.sleep(fault.seconds)
        finally:
            proxy.set(Pass())
        if isinstance(mode, Cut):
            detail += f", {proxy.cuts - cuts} connections"
        if len(self.nodes) > 1:
            detail += f", at {node.server.name}"
        return Done(trio.current_time(), detail)


async def _hurt_redis(redis: Redis, fault: Fault) -> Done:
    """Nobody is to notice, so it is over when Redis is well."""
    process, detail = redis.process, f"for {fault.seconds:g} s"
    match fault.kind:
        case Kind.KILL_REDIS:
            lives = process.lives
            process.kill(fault.seconds)
            await until(lambda: process.lives > lives, fault.seconds + BACK_S, lambda: "Redis did not come back")
            detail = f"and gone {detail}"
        case Kind.STOP_REDIS:
            process.send(signal.SIGSTOP)
            try:
                await trio.sleep(fault.seconds)
            finally:
                process.send(signal.SIGCONT)
        case Kind.SLEEP_REDIS:
            await redis.ask(f"debug sleep {fault.seconds:g}", fault.seconds + BACK_S)
        case Kind.FILL_REDIS:
            policy = "noeviction" if fault.pick < 0.5 else "allkeys-lru"
            try:
                await redis.fill(policy)
                await trio.sleep(fault.seconds)
            finally:
                with trio.move_on_after(BACK_S, shield=True):
                    await redis.empty()
            detail += f", {policy}"
        case _:
            await redis.ask("flushall")
            detail = "all databases"
    await redis.answering()
    return Done(trio.current_time(), detail)


def _has_answer(journal: Path, after_bytes: int) -> bool:
    """Whether a writer has been answered since its journal was so long; a kill may have torn what came next."""
    with journal.open("rb") as file:
        file.seek(max(0, after_bytes - 1))
        return b'\n{"answer"' in file.read()
