"""A Redis of a test's own, that may be stopped, killed, filled and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom

import trio
from attrs import define, field

from tests.programs import needed

LIMIT_S = 10.0
LOWEST_PORT = 15_000
HIGHEST_PORT = 65_535
GOSSIP = 10_000


def free_port() -> int:
    """A port that nothing listened on a moment ago, and with one for a Cluster's gossip, which is 10,000 further.

    Both are below those that the kernel gives to whoever asks for any: while the Redis is not there yet, or was killed,
    nobody is given them. Where the kernel gives nearly all, they are any.
    """
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(LOWEST_PORT, lowest_given - GOSSIP) or range(LOWEST_PORT, HIGHEST_PORT - GOSSIP)
    while True:
        port = SystemRandom().choice(ports)  # nobody's seed: two processes may have the same
        with socket.socket() as probe, socket.socket() as gossip:
            try:
                probe.bind(("127.0.0.1", port))
                gossip.bind(("127.0.0.1", port + GOSSIP))
            except OSError:
                continue
            return port


@define
class RedisServer:
    """A server that runs, or did. `url` is the same whenever it is started."""

    directory: Path
    flags: tuple[str, ...] = ()
    config: str = ""
    port: int = field(factory=free_port)
    process: trio.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        file = self.directory / "redis.conf"
        file.write_text(self.config)
        command = [needed("redis-server"), str(file), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.directory), "--enable-debug-command", "yes", *self.flags]
        self.process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL)
        with trio.fail_after(LIMIT_S):
            while True:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    assert self.process.returncode is None
                    await trio.sleep(0.01)
                else:
                    await stream.aclose()
                    return

    async def kill(self) -> None:
        """Kill it, as a crash does."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def stop(self) -> None:
        """Hold it up: it takes connections and commands, and answers nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


@asynccontextmanager
async def redis_server(*flags: str, config: str = "") -> AsyncIterator[RedisServer]:
    """A Redis for the length of the block, with flags and the lines of a configuration file."""
    with tempfile.TemporaryDirectory(prefix="ngos-redis-") as directory:
        server = RedisServer(Path(directory), flags, config)
        await server.start()
        try:
            yield server
        finally:
            with trio.CancelScope(shield=True):
                await server.kill()  # noqa: ASYNC102 - killed
