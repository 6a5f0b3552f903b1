"""The server in a process of its own, as an operator has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

LIMIT_S = 20.0
"""Nothing here takes this long; a process that hangs fails the test by it."""

LOG_CHARS = 20_000


@define
class Daemon:
    """A server in a process of its own; its standard error is collected."""

    process: trio.Process
    url: str
    http: str
    stderr: bytearray = field(factory=bytearray)
    _said_more: trio.Event = field(factory=trio.Event)
    _said_all: trio.Event = field(factory=trio.Event)

    async def is_ready(self) -> None:
        """Wait for its address."""
        assert self.process.stdout is not None
        printed = bytearray()
        with trio.fail_after(LIMIT_S):
            while not printed.endswith(b"\n"):
                data = await self.process.stdout.receive_some()
                assert data, self.log
                printed += data
        self.http = printed.decode().strip()
        self.url = self.http.replace("http", "ws") + "/ws"

    async def ends(self) -> int:
        """Wait for the exit code, and for all that it has said."""
        with trio.fail_after(LIMIT_S):
            code = await self.process.wait()
            await self._said_all.wait()
            return code

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until so many whole lines of its standard error have a text."""
        await self.says_all_of(text, times=times)

    async def says_all_of(self, *texts: str, times: int = 1) -> None:
        """Wait until so many whole lines of its standard error have each of these texts."""
        with trio.move_on_after(LIMIT_S) as scope:
            while sum(all(text in line for text in texts) for line in self.log.split("\n")[:-1]) < times:
                await self._said_more.wait()
        assert not scope.cancelled_caught, f"no {' '.join(texts)!r} in\n{self.log}"

    async def _collect(self) -> None:
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.stderr += data
            self._said_more.set()
            self._said_more = trio.Event()
        self._said_all.set()

    def memory_bytes(self, which: str = "VmRSS") -> int:
        """Its memory now, or with `VmHWM` the most that it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{which}:")[2].split()[0]) * 1024

    @property
    def log(self) -> str:
        return self.stderr.decode()


NGOS: Final = (sys.executable, "-m", "ngos")


@asynccontextmanager
async def daemon(
    database_url: str,
    *flags: str,
    ngos: Sequence[str] = NGOS,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    ready: bool = True,
) -> AsyncIterator[Daemon]:
    """Start `ngos serve`, and wait until it has printed its address; kills what is left of it at the end.

    `ngos`: the command, where it is not the plain one; `environment`: what it has beside ours. With `ready` false it is
    not waited for, and has no address yet.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("NGOS_")}
    variables = {**inherited, "NGOS_DATABASE_URL": database_url, **(environment or {})}
    command = [*ngos, "serve", "--port", "0", *flags]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables, pass_fds=pass_fds
        )
        assert process.stdout is not None
        started = Daemon(process, "", "")
        try:
            nursery.start_soon(started._collect)
            if ready:
                await started.is_ready()
            yield started
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()  # noqa: ASYNC102 - killed
            print(started.log[-LOG_CHARS:])  # for who has to find out why a test failed
        await process.stdout.aclose()
