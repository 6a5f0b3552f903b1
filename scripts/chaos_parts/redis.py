"""Redis to be hurt: one of its own, which keeps nothing on disk, so that who kills it has it forget everything.

Promises: it listens on the loopback alone, and takes `debug`. Needs the machine's `redis-server`, 7 or later. Runs on
Trio; speaks to Redis in its own words, a line for a line.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import trio

from chaos_parts.processes import ChaosError, NotRecovered, Tended
from chaos_parts.server import clean_environment, quiet_port

START_S = 10.0
ASK_S = 5.0
AGAIN_S = 0.05
ANSWER_BYTES = 4096
POPULATION = 20_000
FULL_BYTES = 1_000_000


@attrs.frozen
class Redis:
    """A Redis that runs, or is about to again."""

    process: Tended
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def ask(self, command: str, within_s: float = ASK_S) -> str:
        """Its answer, which is one line. Raises ChaosError where it gives none, or refuses."""
        answer = b""
        try:
            with trio.fail_after(within_s):
                async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                    await stream.send_all(f"{command}\r\n".encode())
                    while chunk := await stream.receive_some(ANSWER_BYTES):
                        answer += chunk
                        if answer.endswith(b"\n"):
                            break
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
            raise ChaosError(f"no answer from Redis to {command!r}: {exc!r}") from exc
        if answer[:1] not in (b"+", b":"):
            raise ChaosError(f"Redis refuses {command!r}: {answer!r}")
        return answer.decode().strip()

    async def answering(self) -> None:
        """Wait until it answers. Raises NotRecovered."""
        with trio.move_on_after(START_S):
            while True:
                try:
                    await self.ask("ping")
                except ChaosError:
                    await trio.sleep(AGAIN_S)
                else:
                    return
        raise NotRecovered(f"Redis did not answer within {START_S:g} s: {self.process.last_words()}")

    async def fill(self, policy: str) -> None:
        """Have it hold more than it may."""
        await self.ask(f"debug populate {POPULATION} chaos 100")
        await self.ask(f"config set maxmemory-policy {policy}")
        await self.ask(f"config set maxmemory {FULL_BYTES}")

    async def empty(self) -> None:
        """Let it have all the memory again, and nothing in it."""
        await self.ask("config set maxmemory 0")
        await self.ask("flushall")


def make_redis(directory: Path) -> Redis:
    """A Redis, not yet running. Raises ChaosError where there is none to be had."""
    program = shutil.which("redis-server")
    if program is None:
        raise ChaosError("--backplane redis needs redis-server, version 7 or later, and it is not here")
    port = quiet_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    command += ["--enable-debug-command", "yes"]
    return Redis(Tended("redis", command, clean_environment(), directory / "redis.log"), port)
