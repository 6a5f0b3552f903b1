"""The server in a process of its own, as an operator has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import define, field

LIMIT_S = 20.0
"""Nothing here takes this long; a process that hangs fails the test by it."""


@define
class Daemon:
    """A server in a process of its own; its standard error is collected."""

    process: trio.Process
    url: str
    http: str
    stderr: bytearray = field(factory=bytearray)

    async def ends(self) -> int:
        """Wait for the exit code."""
        with trio.fail_after(LIMIT_S):
            return await self.process.wait()

    def memory_bytes(self, which: str = "VmRSS") -> int:
        """Its memory now, or with `VmHWM` the most that it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{which}:")[2].split()[0]) * 1024

    @property
    def log(self) -> str:
        return self.stderr.decode()


@asynccontextmanager
async def daemon(database_url: str, *flags: str) -> AsyncIterator[Daemon]:
    """Start `ngos serve`, and wait until it has printed its address; kills what is left of it at the end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NGOS_")}
    environment["NGOS_DATABASE_URL"] = database_url
    command = [sys.executable, "-m", "ngos", "serve", "--port", "0", *flags]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        try:
            started = Daemon(process, "", "")
            nursery.start_soon(_collect, process, started.stderr)
            printed = bytearray()
            with trio.fail_after(LIMIT_S):
                while not printed.endswith(b"\n"):
                    data = await process.stdout.receive_some()
                    assert data, started.log
                    printed += data
            started.http = printed.decode().strip()
            started.url = started.http.replace("http", "ws") + "/ws"
            yield started
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()  # noqa: ASYNC102 - killed
        await process.stdout.aclose()


async def _collect(process: trio.Process, into: bytearray) -> None:
    assert process.stderr is not None
    async for data in process.stderr:
        into += data
