"""The processes of a server with several workers, from outside."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from ngos.config import Settings
from ngos.place import VARIABLE, Place
from ngos.systemd import Notifier
from ngos.worker import Worker
from ngos.workers import Supervisor
from tests.daemons import LIMIT_S, Daemon, daemon


@asynccontextmanager
async def server_of(database_url: str, count: int, *flags: str, **options: Any) -> AsyncIterator[Daemon]:
    """A server with so many workers; those that it leaves behind are killed."""
    pids: set[int] = set()
    try:
        async with daemon(database_url, "--workers", str(count), *flags, **options) as server:
            try:
                yield server
            finally:
                pids |= set(pids_of(server).values())
    finally:  # of a test that fails, too
        for pid in pids:
            kill(pid, 9)


def pids_of(server: Daemon) -> dict[int, int]:
    """The workers that run now: their processes by their numbers."""
    before = None
    while before != (children := _children_of(server.process.pid)):  # they move to another thread as theirs ends
        before = children
    return {place: int(child) for child in children if (place := _place(child)) is not None}


def _children_of(pid: int) -> set[str]:
    """Those of each of its threads."""
    children: set[str] = set()
    for thread in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):  # it has ended
            children.update(thread.read_text().split())
    return children


def _place(pid: str) -> int | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    variables = dict(line.partition("=")[::2] for line in environment.decode("latin-1").split("\0"))
    text = variables.get(VARIABLE)
    return None if text is None else int(text.strip("[").partition(",")[0])


def kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


async def gone(pid: int) -> None:
    """Wait until a process that is nobody's child here has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with trio.fail_after(LIMIT_S):
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def place(folder: Path, index: int = 0, count: int = 2, listener: int = 0, lifeline: int = 0) -> Place:
    """A place whose descriptors are there, if of no use."""
    return Place(index, count, listener, lifeline, False, folder)


@define(eq=False)
class Process:
    """What a process is to a `Worker`, as a double: it ends as its test says, or when it is killed."""

    returncode: int | None = None
    signals: list[int] = field(factory=list)
    _over: trio.Event = field(init=False, factory=trio.Event)

    async def wait(self) -> int:
        await self._over.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.ends(-9)

    def ends(self, exit_code: int) -> None:
        self.returncode = exit_code
        self._over.set()


def supervisor_in(folder: Path, notifier: Notifier | None = None) -> Supervisor:
    """A supervisor with two workers, for which no process was started yet."""
    supervisor = Supervisor(Settings(), "x", notifier or Notifier(None, None), [], True, Settings)
    for index in (0, 1):
        supervisor._workers.append(Worker(place(folder, index), {}, 600.0, supervisor._look, supervisor._fail))
    return supervisor


def notify_paths(pids: Iterable[int]) -> list[str]:
    variables = [line for pid in pids for line in Path(f"/proc/{pid}/environ").read_text().split("\0")]
    found = [line.partition("=")[2] for line in variables if line.startswith("NOTIFY_SOCKET=")]
    assert found
    return found
