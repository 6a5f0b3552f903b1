"""The server under attack, and its numbers as the kernel and `/metrics` have them. Linux only. Runs on Trio."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.request import Request, urlopen

import attrs
import trio
from bench_servers import pinned
from chaos_parts.processes import NotRecovered, start, until
from chaos_parts.server import clean_environment

START_S = 40.0
ASK_S = 10.0
LOOK_EVERY_S = 0.5
SAME = ("descriptors", "tasks", "connections", "subscriptions")
"""What has to be, when all is over, as it was before."""
_NUMBER = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
_ADDRESS = re.compile(r"^http://\S+:(\d+)$", re.MULTILINE)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Numbers:
    """What the server has and holds at a moment.

    `descriptors` is without the connections to Postgres, which are the pool's to open and to keep, up to its size.
    None: it did not say, or has no such gauge.
    """

    memory_bytes: int
    descriptors: int | None
    tasks: int | None
    connections: int | None
    subscriptions: int | None
    topics: int | None
    cpu_s: float

    def is_back(self, before: Numbers) -> bool:
        """Whether all is as it was."""
        return all(getattr(before, name) == getattr(self, name) for name in SAME)


@attrs.frozen
class Server:
    """`ngos serve` as a process of ours. `token` is to be shown for `/metrics`, where it asks for one."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    token: str | None

    def memory_bytes(self) -> int:
        """What is resident now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def descriptors(self) -> int:
        """Open files, all of them."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def cpu_s(self) -> float:
        """Time on a core since its start."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def most_descriptors(self) -> int:
        """How many files it may open."""
        limits = Path(f"/proc/{self.process.pid}/limits").read_text()
        return int(limits.partition("Max open files")[2].split()[0])

    async def numbers(self) -> Numbers:
        """All of it. To ask is a connection too: tasks count it, always; descriptors are looked at before."""
        descriptors = self.descriptors()
        shown = await trio.to_thread.run_sync(_metrics, self.port, self.token)
        pool = sum(shown.get(f'ngos_pool_connections{{state="{state}"}}', 0) for state in ("used", "idle"))
        return Numbers(
            self.memory_bytes(),
            descriptors - pool if shown else None,
            shown.get("ngos_trio_tasks"),
            shown.get("ngos_connections"),
            shown.get("ngos_subscriptions"),
            shown.get("ngos_topics"),
            self.cpu_s(),
        )

    async def settled(self, connections: int, seconds: float) -> Numbers:
        """Its numbers with so many connections, and as they were half a second before; after so many seconds, any.

        It may have yet to notice that somebody has left. And the pool may open a connection between the look at the
        descriptors and what `/metrics` says of it. Raises OSError when it is gone.
        """
        deadline = trio.current_time() + seconds
        before = await self.numbers()
        while True:
            await trio.sleep(LOOK_EVERY_S)
            now = await self.numbers()
            if (now.connections == connections and now.is_back(before)) or trio.current_time() > deadline:
                return now
            before = now


def waited_s(pid: int) -> float:
    """How long a process's main thread could have run, and had to wait for a core: what the neighbours cost it."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


async def start_server(database_url: str, flags: Sequence[str], log: Path, token: str | None = None) -> Server:
    """Start it on core 0, on a port of its own choice. Raises NotRecovered when it does not get ready."""
    command = [sys.executable, "-m", "ngos", "serve", "--port", "0", "--log-format", "json", *flags]
    environment = clean_environment() | {"NGOS_DATABASE_URL": database_url}
    with log.open("wb") as file:
        process = start(pinned(0, command), environment, file)
    found: list[str] = []

    def is_ready() -> bool:
        found[:] = _ADDRESS.findall(log.read_text(errors="replace"))
        if process.poll() is not None:
            raise NotRecovered(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
        return bool(found)

    try:
        await until(is_ready, START_S, lambda: "the server did not say where it listens")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return Server(process, int(found[0]), log, token)


def _metrics(port: int, token: str | None) -> dict[str, int]:
    """Every number, by its name with its labels; none where it does not answer."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}/metrics", headers=headers), timeout=ASK_S) as response:
            text = response.read().decode()
    except OSError:
        return {}
    return {name: int(float(value)) for name, value in _NUMBER.findall(text)}
