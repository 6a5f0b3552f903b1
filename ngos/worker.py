"""One worker, as its supervisor has it: a process that is started, listened to, and replaced when it ends. Floor 9.

It tells how it is by the protocol of systemd (sd_notify(3)), on a socket that is this life's alone: what a predecessor
said last is never taken for its successor's.

Imports `ngos.place`.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Final

import structlog
import trio
from attrs import define, field

from ngos.place import ALIVE_S, Place

START_S: Final = 60.0
"""Until a worker has said something for the first time: the interpreter, what it loads, and its first try of the
database."""
SILENT_S: Final = 3 * ALIVE_S
"""Who has not said for so long that it goes on is given nobody new until it does: that costs nobody anything where it
is only slow, and so comes much sooner than its end by the watchdog."""
HEAR_S: Final = 0.5
"""What it takes to hear what a worker has said already."""
KILLED_S: Final = 5.0
"""What the kernel may take to end a process that was killed."""
STABLE_S: Final = 10.0
"""Who has been ready for so long is replaced at once; of others, the second in a row and the next wait for PAUSE_S,
then twice that, up to LONGEST_PAUSE_S."""
PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0
NOTE_BYTES: Final = 4096
_IN_VAIN: Final = (1, 2)
"""The exit codes of SetupError, which has said why (`ngos.__main__`)."""

_log = structlog.get_logger("ngos")


@define(eq=False)
class Worker:
    """A place, and who holds it. `run` is its one task.

    `environment`: what it has beside ours. `changed` is called when anything of this is: `serves`: it accepts
    connections; `ready`: commands can be answered; `reloading`: it has not said yet that it has read its settings anew;
    `status`: in its words. `failed` is called with its exit code when the
    first that held the place ended, by itself, before it was ready.
    """

    place: Place
    _environment: Mapping[str, str]
    _watchdog_s: float
    _changed: Callable[[], None]
    _failed: Callable[[int], None]
    spoke: trio.Event = field(init=False, factory=trio.Event)
    serves: bool = field(init=False, default=False)
    ready: bool = field(init=False, default=False)
    reloading: bool = field(init=False, default=False)
    status: str = field(init=False, default="starting")
    _was_ready: bool = field(init=False, default=False)
    _ready_at: float = field(init=False, default=math.inf)
    _pending_reload: bool = field(init=False, default=False)
    _leaves: bool = field(init=False, default=False)
    _is_silent: bool = field(init=False, default=False)
    _stopped: trio.Event = field(init=False, factory=trio.Event)
    _process: trio.Process | None = field(init=False, default=None)
    _fed: trio.Event = field(init=False, factory=trio.Event)

    async def run(self) -> None:
        """Keep somebody in the place until `stop`. Cancelled, it kills him."""
        try:
            await self._keep()
        finally:
            self.spoke.set()  # who waits for a word waits for nobody: there may never have been anybody to say it

    async def _keep(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            since = trio.current_time()
            try:
                exit_code = await self._live()
            except OSError as exc:
                # No memory or process left, or an upgrade at the interpreter: the other workers still serve.
                _log.error("worker.not_started", worker=self.place.index, reason=str(exc), again_in_s=LONGEST_PAUSE_S)
                self.status = f"can't be started: {exc}"
                self._changed()
                with trio.move_on_after(LONGEST_PAUSE_S):
                    await self._stopped.wait()
                continue
            if self._stopped.is_set():
                _log.info("worker.stopped", worker=self.place.index, exit=_told(exit_code))
                return
            if exit_code in _IN_VAIN and not self._was_ready:
                self._failed(exit_code)
                return
            now = trio.current_time()
            # Not since it was started: where that takes long, a crash loop would have no pauses.
            failures = 0 if now - self._ready_at > STABLE_S else failures + 1
            pause_s = min(PAUSE_S * 2 ** (failures - 2), LONGEST_PAUSE_S) if failures > 1 else 0.0
            line = {"worker": self.place.index, "exit": _told(exit_code), "after_s": round(now - since, 1)}
            _log.error("worker.ended", **line, said=self.status, again_in_s=pause_s)
            self.status = f"ended by {_told(exit_code)}"
            self._changed()
            with trio.move_on_after(pause_s):
                await self._stopped.wait()
                return

    def stop(self) -> None:
        """Have it drain; called again, have it cut."""
        self._stopped.set()
        self._signal(signal.SIGTERM)

    def reload(self) -> None:
        """Have it read its settings anew: at once, or, where it has only just begun, when it knows what that is."""
        self.reloading = self.ready
        if self.spoke.is_set():
            self._signal(signal.SIGHUP)
        else:
            self._pending_reload = True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _live(self) -> int:
        """One process from its start to its end; returns its exit code, or, negative, the signal that ended it."""
        path = self.place.folder / f"notify-{self.place.index}"
        path.unlink(missing_ok=True)
        self._fed, self._ready_at = trio.Event(), math.inf
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notes:
            notes.bind(str(path))
            notes.setblocking(False)
            variables = {
                **os.environ,
                **self._environment,
                **self.place.variables(),
                "NOTIFY_SOCKET": str(path),
                "WATCHDOG_USEC": str(round(self._watchdog_s * 1e6)),
            }
            process = await trio.lowlevel.open_process(
                # As we were started ourselves: the same interpreter, its options, and the program's arguments.
                [sys.executable, *sys.orig_argv[1:]],
                env=variables,
                pass_fds=(self.place.listener, self.place.lifeline),
                start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor, which passes it on
            )
            self._process = process
            try:
                if self._stopped.is_set():  # meanwhile
                    self._signal(signal.SIGTERM)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, notes)
                    nursery.start_soon(self._watch, process)
                    await process.wait()
                    nursery.cancel_scope.cancel()
                self._hear_last(notes)
            finally:
                if process.returncode is None:
                    process.kill()
                    _log.warning("worker.killed", worker=self.place.index, said=self.status)
                    with trio.move_on_after(KILLED_S, shield=True):
                        await process.wait()
                self._process = None
                self.serves = self.ready = self.reloading = self._pending_reload = False
                self._leaves = self._is_silent = False
                self.spoke.set()  # who waits for the first word waits for a life that is over
                self.spoke = trio.Event()
                self._changed()
        assert process.returncode is not None
        return process.returncode

    async def _watch(self, process: trio.Process) -> None:
        """Kill who has not fed the watchdog in time: nothing gentler ends a process that is stopped, or hangs."""
        within_s, silent_s = START_S, 0.0
        while silent_s < within_s:
            asked_s = min(SILENT_S, within_s - silent_s)
            # Asked twice: it may be us who stood still, and what was said meanwhile has not been heard yet.
            if await self._is_fed(asked_s) or await self._is_fed(HEAR_S):
                within_s, silent_s = self._watchdog_s, 0.0
                continue
            silent_s += asked_s + HEAR_S
            if self.serves:
                self.serves, self._is_silent = False, True
                self._changed()  # before it is said: who has read it may count on it
                _log.warning("worker.silent", worker=self.place.index, silent_s=silent_s, said=self.status)
        process.kill()
        _log.error("worker.hangs", worker=self.place.index, silent_s=self._watchdog_s, said=self.status)

    async def _is_fed(self, within_s: float) -> bool:
        with trio.move_on_after(within_s):
            await self._fed.wait()
        is_fed, self._fed = self._fed.is_set(), trio.Event()
        return is_fed

    async def _heed(self, notes: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(notes)
            self._hear(notes.recv(NOTE_BYTES))
            self.spoke.set()
            if self._pending_reload:
                self._pending_reload = False
                self._signal(signal.SIGHUP)
            self._changed()

    def _hear_last(self, notes: socket.socket) -> None:
        """Take what it had said when it ended: whether it was ready decides what its end means for the others."""
        self._leaves, self._is_silent = True, False  # nobody is sent to it any more, whatever it says
        try:
            while True:
                self._hear(notes.recv(NOTE_BYTES))
        except BlockingIOError:
            pass  # that was all

    def _hear(self, note: bytes) -> None:
        for line in note.decode("ascii", "replace").splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        name, _, value = line.partition("=")
        match name:
            case "WATCHDOG":
                self.serves = not (self._leaves or self._stopped.is_set())
                if self._is_silent:
                    self._is_silent = False
                    self._changed()
                    _log.info("worker.heard_again", worker=self.place.index)
                self._fed.set()
            case "READY":
                self.ready = self._was_ready = True
                self.reloading = False
                self._ready_at = min(self._ready_at, trio.current_time())  # it is said after a reload, too
            case "STOPPING":
                self.serves = self.ready = False
                self._leaves = True
            case "STATUS":
                self.status = value
            case _:
                pass  # what only systemd has to know


def _told(exit_code: int) -> str:
    return f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name
