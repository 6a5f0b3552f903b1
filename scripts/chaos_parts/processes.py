"""Processes that are killed and come back: started, watched, started again, as systemd would.

Promises: what is started here dies with us, however we die; a death that nobody here caused is written down; what
is stopped (SIGSTOP) can still be ended. What they say goes to a file each. Linux only. Runs on Trio.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import trio

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"

# Between the lives of a process that ends by itself.
RESTART_S = 0.3
END_S = 15.0
LAST_WORDS_BYTES = 2000
IF_WE_LIVE = '[ "$PPID" = "$0" ] && exec "$@"'
LOOK_EVERY_S = 0.02


class ChaosError(Exception):
    """The run can't go on; the text says why."""


class NotRecovered(ChaosError):
    """Something did not happen within its deadline. This is a finding, not a mishap."""


@attrs.define(eq=False)
class Tended:
    """A process by a name. `run` keeps it alive until `finish`, or until cancelled: then it is killed."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    lives: int = 0
    deaths: list[str] = attrs.field(factory=list)
    """The ends that nobody here caused."""
    _process: subprocess.Popen[bytes] | None = None
    _killed: bool = False
    _down_s: float = 0.0
    _finishing: signal.Signals | None = None
    _ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be this process, life after life. Started means forked."""
        try:
            while True:
                with self.log.open("ab") as log:
                    self._process = start(self.command, self.environment, log)
                self._killed, self._down_s = False, 0.0
                self.lives += 1
                if self.lives == 1:
                    task_status.started()
                code = await ended(self._process)
                if self._finishing is not None:
                    if not self._killed and code not in (0, -self._finishing):
                        self._note(code)
                    return
                if self._killed:
                    await trio.sleep(self._down_s)
                else:
                    self._note(code)
                    await trio.sleep(RESTART_S)
        finally:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()  # killed: at once, also where it was stopped
            self._ended.set()

    def kill(self, down_s: float = 0.0) -> None:
        """SIGKILL; the next life begins at once, or after so long."""
        self._killed, self._down_s = True, down_s
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; to a process that has just ended, it means nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    async def finish(self, number: signal.Signals, patience_s: float) -> None:
        """Ask it to end, for good, and wait until it has. Raises NotRecovered, and kills it."""
        self._finishing = number
        self.send(number)
        with trio.move_on_after(patience_s):
            await self._ended.wait()
            return
        self.kill()
        await self._ended.wait()
        raise NotRecovered(f"{self.name} did not end within {patience_s:g} s: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it wrote."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LAST_WORDS_BYTES))
            return log.read().decode(errors="replace").strip()

    def _note(self, code: int) -> None:
        lines = self.last_words().splitlines()
        self.deaths.append(f"{self.name} ended by itself with {code}: {lines[-1] if lines else 'it said nothing'}")


def start(command: Sequence[str], environment: Mapping[str, str], log: object) -> subprocess.Popen[bytes]:
    """Start a process that the kernel kills when we die.

    The kernel ties that to the thread that forks, so it is ours, the main one, and never one of Trio's. In a session
    of its own: a Ctrl-C in the terminal is for us.
    """
    setpriv = shutil.which("setpriv")
    # We may have died before it asked for the signal: then it has another parent.
    dying = [setpriv, "--pdeathsig", "KILL", "--", "sh", "-c", IF_WE_LIVE, str(os.getpid())] if setpriv else []
    return subprocess.Popen(
        [*dying, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=SCRIPTS,
        start_new_session=True,
    )


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the exit code."""
    fd = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)
    code = process.poll()
    assert code is not None
    return code


async def until(condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Wait for a condition, looking often. Raises NotRecovered when it does not come."""
    with trio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 - files and processes have no event
            await trio.sleep(LOOK_EVERY_S)
        return
    raise NotRecovered(f"{why()} within {seconds:g} s")
