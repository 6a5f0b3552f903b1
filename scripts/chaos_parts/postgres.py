"""Postgres to be hurt: a cluster of its own, held by the chaos process, so that it and the server die apart.

Promises: durable like any other (fsync stays on); killed, it is started again by ngos.postgres.embedded, as the
server's own would be. Runs on Trio. Imports ngos.postgres.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import trio

from chaos_parts.processes import LOOK_EVERY_S
from ngos.postgres.driver import TrioConnection
from ngos.postgres.embedded import embedded_postgres

START_S = 60.0
MIDDLE_S = 2.0
# Small, so that a small disk does; and a checkpoint now and then is part of life.
SETTINGS = {"max_wal_size": "64MB", "min_wal_size": "32MB", "checkpoint_timeout": "30s"}

_WRITES = "(backend_xid is not null or state = 'idle in transaction')"
_BACKENDS = f"""
select pid, {_WRITES} as writes from pg_stat_activity where application_name like 'ngos%'
order by writes desc, state_change desc
"""
_INSIDE = f"select 1 from pg_stat_activity where pid = %s and {_WRITES}"


@attrs.frozen
class Postgres:
    """A Postgres that runs, or is about to again."""

    url: str
    data_dir: Path

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, as the kernel does when memory is short."""
        for pid in self.pids():
            signal_if_there(pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        """The postmaster first, then its children; empty while there is none."""
        try:
            postmaster = int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        except (OSError, IndexError, ValueError):
            return []
        return [postmaster, *map(int, children)]

    async def stop_backend(self) -> tuple[int, bool] | None:
        """SIGSTOP one of the server's backends: its process, and whether it was caught inside of a transaction.

        Looks for one that is for MIDDLE_S, then takes any; None where there is none. Who stops it has it go on.
        """
        stopped: int | None = None
        try:
            async with connected(self.url) as connection:
                deadline = trio.current_time() + MIDDLE_S
                while True:
                    rows = await (await connection.execute(_BACKENDS)).fetchall()
                    late = trio.current_time() > deadline
                    if rows and (rows[0][1] or late):
                        stopped = int(rows[0][0])
                        signal_if_there(stopped, signal.SIGSTOP)
                        # What was seen may have been over before the signal came.
                        inside = (await (await connection.execute(_INSIDE, [stopped])).fetchone()) is not None
                        if inside or late:
                            caught, stopped = stopped, None
                            return caught, inside
                        signal_if_there(stopped, signal.SIGCONT)
                        stopped = None
                    elif late:
                        return None
        finally:
            if stopped is not None:
                signal_if_there(stopped, signal.SIGCONT)

    async def switch_wal(self) -> None:
        """Go on to the next file of the write-ahead log, and the next, as often as it can; until cancelled.

        On a full disk it soon can't, and Postgres panics. That is what is wanted here.
        """
        while True:
            try:
                async with connected(self.url) as connection:
                    while True:
                        # A switch without anything written does nothing.
                        await connection.execute("select pg_logical_emit_message(false, 'chaos', 'x'), pg_switch_wal()")
                        await trio.sleep(LOOK_EVERY_S)
            except psycopg.Error:
                await trio.sleep(LOOK_EVERY_S)

    def panics(self) -> int:
        """How often it has panicked, by its log."""
        return (self.data_dir / "postgres.log").read_text(errors="replace").count(" PANIC: ")


def signal_if_there(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


@asynccontextmanager
async def running_postgres(data_dir: Path) -> AsyncIterator[Postgres]:
    """Make a cluster in `data_dir` and keep it running. Its log is beside, for when its disk is full."""
    data_dir.mkdir(exist_ok=True)
    log = data_dir.with_name("postgres.log")
    log.touch()
    (data_dir / log.name).symlink_to(log)
    async with embedded_postgres(data_dir, start_s=START_S) as url:
        async with connected(url) as connection:
            for name, value in SETTINGS.items():
                await connection.execute(f"alter system set {name} = '{value}'")
            await connection.execute("select pg_reload_conf()")
        yield Postgres(url, data_dir)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[TrioConnection[Any]]:
    """A connection of ours. Raises psycopg.Error."""
    connection = await TrioConnection.connect(url, autocommit=True)
    async with connection:
        yield connection
