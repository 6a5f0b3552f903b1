"""A Postgres of our own, for who has none: started, watched, healed, stopped.

Promises: durable like any other Postgres; it answers before the block is entered; killed, it is back within about
a second; it never outlives its ngos; leaving the block takes at most STOP_S + ABORT_S seconds.

Imports ngos.errors, ngos.postgres.cluster and ngos.postgres.driver.
"""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import structlog
import trio

from ngos.errors import SetupError
from ngos.postgres.cluster import Cluster, open_cluster
from ngos.postgres.driver import TrioConnection

log = structlog.get_logger(__name__)

# Seconds for a stop in good order, and for one without: both lose nothing, the second makes the next start recover.
STOP_S = 0.8
ABORT_S = 1.0

# How often a Postgres that starts is asked whether it answers, and how long it may take to say so.
ASK_EVERY_S = 0.02
ANSWER_S = 1.0

# Between the deaths of a server that does not get up.
RESTART_AFTER_S = 0.05
RESTART_AT_MOST_EVERY_S = 2.0

# A start that fails with the dust of a killed server still in the air deserves another.
START_ATTEMPTS = 3


@asynccontextmanager
async def embedded_postgres(data_dir: Path, *, start_s: float) -> AsyncIterator[str]:
    """A running Postgres whose cluster is in `data_dir`; yields its conninfo, a Unix socket.

    `start_s`: seconds until it must answer, a recovery after a crash included. SetupError, in one line, if it does
    not, if another ngos runs on `data_dir`, if that can't be written, or if the wheel is not installed.
    Cancellation stops Postgres, in good order if it is quick.
    """
    # Its calls block, so they have threads of their own: one to run in, one for all else.
    limiter = trio.CapacityLimiter(2)
    cluster = await trio.to_thread.run_sync(open_cluster, data_dir, limiter=limiter)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            # What the block raises must not come out as a group because we happen to watch a server meanwhile.
            try:
                await nursery.start(_keep_running, cluster, start_s, limiter)
                yield cluster.conninfo
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        cluster.close()
    if failure is not None:
        raise failure


async def _keep_running(  # noqa: ASYNC114 - started here only
    cluster: Cluster,
    start_s: float,
    limiter: trio.CapacityLimiter,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Start it, say so when it answers, and start it again whenever it ends, until cancelled."""
    deadline = trio.current_time() + start_s
    started = False
    failures = 0
    while True:
        life = _Life(cluster, limiter)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.run)
            try:
                alive = False
                with trio.move_on_at(math.inf if started else deadline):
                    alive = await life.answers()
                if alive:
                    failures = 0
                    if started:
                        log.warning("postgres.restarted")
                    else:
                        started = True
                        task_status.started()
                    await life.ended.wait()
                else:
                    failures += 1
            finally:
                await life.stop()  # noqa: ASYNC102 - shielded and bounded inside
        if not started and (failures >= START_ATTEMPTS or trio.current_time() >= deadline):
            reason = life.failure or cluster.last_words()
            raise SetupError(f"the embedded Postgres does not start: {reason} (more in {cluster.log})")
        if started:
            log.error("postgres.ended", exit_code=life.exit_code, reason=life.failure or cluster.last_words())
        await trio.sleep(min(RESTART_AFTER_S * 2**failures, RESTART_AT_MOST_EVERY_S))


class _Life:
    """One run of Postgres, from its start to its end."""

    def __init__(self, cluster: Cluster, limiter: trio.CapacityLimiter) -> None:
        self._cluster = cluster
        self._limiter = limiter
        self._token = trio.lowlevel.current_trio_token()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = trio.Event()
        self.ended = trio.Event()
        self.exit_code: int | None = None
        self.failure: Exception | None = None

    async def run(self) -> None:
        """Be this life. Not cancellable: `stop` ends it."""
        try:
            self.exit_code = await trio.to_thread.run_sync(self._cluster.run, self._on_start, limiter=self._limiter)
        except (OSError, SetupError) as error:
            self.failure = error
        finally:
            self._started.set()
            self.ended.set()

    def _on_start(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._token.run_sync_soon(self._started.set)

    async def answers(self) -> bool:
        """Wait until it answers a query: True; or ends before that: False."""
        while not self.ended.is_set():
            with trio.move_on_after(ANSWER_S):
                try:
                    async with await TrioConnection.connect(self._cluster.conninfo, autocommit=True) as connection:
                        await connection.execute("select 1")
                        return True
                except psycopg.Error:
                    pass  # it is starting, or recovering
            with trio.move_on_after(ASK_EVERY_S):
                await self.ended.wait()
        return False

    async def stop(self) -> None:
        """End it: in good order, else without, else by force. Shielded, and bounded by the constants above."""
        with trio.CancelScope(shield=True):
            await self._started.wait()  # bounded: a fork, or what clear_leftovers allows itself
            for number, patience_s in ((signal.SIGINT, STOP_S), (signal.SIGQUIT, ABORT_S), (signal.SIGKILL, ABORT_S)):
                if self._process is not None and not self.ended.is_set():
                    self._process.send_signal(number)
                    with trio.move_on_after(patience_s):
                        await self.ended.wait()
