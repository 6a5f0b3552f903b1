"""Several workers on one port: `ngos serve --workers N`. The process that starts, watches and ends them. Floor 9.

Promises: a worker that ends is replaced, and one that hangs is ended; the others don't notice. Who waits to be accepted
by it waits for its successor; who comes meanwhile is sent to the others. When this process is killed, the workers drain
and end. It serves nobody itself, so that nothing a client does reaches it.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Final

import structlog
import trio
from attrs import define, field

from ngos.config import Settings
from ngos.errors import SetupError
from ngos.listening import listen_together, take_over
from ngos.loading import variable
from ngos.logs import configure_logging
from ngos.place import Place
from ngos.steering import steer
from ngos.systemd import Notifier, inherited_listener
from ngos.worker import START_S, Worker

WATCHDOG_S: Final = 15.0
"""By when a worker must say that it goes on, where systemd does not say by when we must."""
EMBEDDED_START_S: Final = 60.0
EMBEDDED_CONNECTIONS: Final = 95
"""What the embedded Postgres has for workers, of its 100; the rest is for who looks after it."""
BESIDE_POOL: Final = 3
"""Connections of a worker beside its pool: the claim, the backplane, and another while it starts."""
STATUS_S: Final = 5.0
RELOAD_S: Final = 5.0
"""How long systemd is kept waiting for workers that read their settings anew."""
OVER_S: Final = 1.0
"""What a worker may take beyond `drain_s`, and to end when it is cut."""
TEMPORARY_CHARS: Final = 60
"""A longer path of the folder of temporary files leaves too little for the name of a socket, of 103 characters."""

_log = structlog.get_logger("ngos")


async def supervise(
    settings: Settings,
    *,
    backplane_by: str,
    reread: Callable[[], Settings],
    on_ready: Callable[[str], None] = lambda _address: None,
) -> int:
    """Keep `settings.workers` workers until SIGTERM or SIGINT, have them drain, and return the exit code.

    `backplane_by`: the flag, variable or key that has set the backplane, which is not always the operator's choice.
    `on_ready` is told the address, as `http://host:port`, when all are ready for the first time. The exit code is not 0
    where one ended by itself before it was ready, which has said why. Raises SetupError for what the operator can mend.
    """
    configure_logging(settings)
    connections = settings.workers * (settings.database_pool_size + BESIDE_POOL)
    if settings.database_url is None and connections > EMBEDDED_CONNECTIONS:
        raise SetupError(
            f"--workers {settings.workers} with --database-pool-size {settings.database_pool_size} take {connections} "
            f"connections, and the embedded Postgres has {EMBEDDED_CONNECTIONS}: lower one, or set --database-url",
            exit_code=2,
        )
    notifier = Notifier.of(os.environ)
    with _listeners(settings) as (listeners, stays):
        supervisor = Supervisor(settings, backplane_by, notifier, listeners, stays, reread)
        async with trio.open_nursery() as nursery:
            # First of all: a signal during the start ends it in good order, too.
            await nursery.start(supervisor.heed_signals, nursery.cancel_scope)
            async with AsyncExitStack() as stack:
                environment = {}
                if settings.database_url is None:
                    from ngos.postgres.embedded import embedded_postgres

                    postgres = embedded_postgres(settings.data_dir, start_s=EMBEDDED_START_S)
                    environment[variable("database_url")] = await stack.enter_async_context(postgres)
                await supervisor.run(environment, on_ready)
            nursery.cancel_scope.cancel()
    _log.info("server.stopped")
    return supervisor.exit_code


@contextmanager
def _listeners(settings: Settings) -> Iterator[tuple[list[socket.socket], bool]]:
    """A socket for each worker, or the one of systemd for all, and whether that one it is."""
    inherited = inherited_listener(os.environ)
    with ExitStack() as stack:
        if inherited is not None:
            yield [stack.enter_context(take_over(inherited, settings))], True
        else:
            yield [stack.enter_context(one) for one in listen_together(settings, settings.workers)], False


@define(eq=False)
class Supervisor:
    """All workers, their sockets, and what is said to systemd.

    `exit_code`: 0, or that of the worker that ended the server.
    """

    _settings: Settings
    _backplane_by: str
    _notifier: Notifier
    _listeners: list[socket.socket]
    _stays: bool
    _reread: Callable[[], Settings]
    exit_code: int = field(init=False, default=0)
    _workers: list[Worker] = field(init=False, factory=list)
    _lives: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    _ready: trio.Event = field(init=False, factory=trio.Event)
    _reload_asked: trio.Event = field(init=False, factory=trio.Event)
    _reloaded: trio.Event = field(init=False, factory=trio.Event)
    _is_ending: bool = field(init=False, default=False)
    _steered: list[int] = field(init=False, factory=list)

    async def run(self, environment: dict[str, str], on_ready: Callable[[str], None]) -> None:
        """Keep the workers until they were stopped; `environment` is what they have beside ours."""
        lifeline, ours = os.pipe()
        try:
            # The path of a socket has to be short.
            parent = None if len(tempfile.gettempdir()) <= TEMPORARY_CHARS else "/tmp"  # noqa: S108 - as above
            with tempfile.TemporaryDirectory(prefix="ngos-", dir=parent) as folder:
                self._make_workers(Path(folder), lifeline, environment)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._tell_systemd)
                    nursery.start_soon(self._greet, on_ready)
                    await self._keep_all()
                    nursery.cancel_scope.cancel()
        finally:
            os.close(ours)
            os.close(lifeline)

    def _make_workers(self, folder: Path, lifeline: int, environment: dict[str, str]) -> None:
        count, watchdog_s = self._settings.workers, self._notifier.watchdog_s or WATCHDOG_S
        for index in range(count):
            listener = self._listeners[index % len(self._listeners)].fileno()
            place = Place(index, count, listener, lifeline, self._stays, folder)
            self._workers.append(Worker(place, environment, watchdog_s, self._look, self._fail))
        line = {"backplane": self._settings.backplane, "backplane_by": self._backplane_by}
        _log.info("workers.starting", pid=os.getpid(), workers=count, **line)

    async def _keep_all(self) -> None:
        """The first alone until it has spoken: what the settings or the database have against us is said once."""
        first, *others = self._workers
        spoke = first.spoke
        with self._lives:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.run)
                with trio.move_on_after(START_S):
                    await spoke.wait()
                for worker in others:
                    nursery.start_soon(worker.run)

    def _look(self) -> None:
        """A worker has changed: see what that means for all."""
        if all(worker.ready for worker in self._workers):
            self._ready.set()
        if not any(worker.reloading for worker in self._workers):
            self._reloaded.set()
        if not self._stays and (serving := [w.place.index for w in self._workers if w.serves]) != self._steered:
            self._steered = serving
            if not steer(self._listeners[0], serving):
                _log.debug("workers.not_steered")

    def _fail(self, exit_code: int) -> None:
        if not self._is_ending:
            self.exit_code = exit_code
            self._end("a worker could not start")

    async def _greet(self, on_ready: Callable[[str], None]) -> None:
        await self._ready.wait()
        if self._is_ending:
            return
        host, port = self._listeners[0].getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("workers.ready", pid=os.getpid(), address=address)
        self._notifier.ready(self._status())
        on_ready(address)

    async def heed_signals(  # noqa: ASYNC114 - started in `supervise` only
        self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Have all drain, cut or reload as signals say, until cancelled; `everything` is cancelled to end at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reload_when_asked)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                task_status.started()
                async for number in signals:
                    name = signal.Signals(number).name
                    if number == signal.SIGHUP:
                        self._reload_asked.set()
                    elif not self._workers:
                        _log.warning("server.cut", signal=name)
                        everything.cancel()
                    elif self._is_ending:
                        _log.warning("server.cut", signal=name)
                        self._stop(OVER_S)
                    else:
                        self._end(f"draining on {name}")

    def _end(self, why: str) -> None:
        self._is_ending = True
        self._stop(self._settings.drain_s + OVER_S)  # before it is said: who has read it may count on it
        _log.info("workers.stopping", reason=why, seconds=self._settings.drain_s)
        self._notifier.stopping("draining: clients are told to come back")

    def _stop(self, within_s: float) -> None:
        """Who has not ended by then is killed."""
        self._lives.deadline = min(self._lives.deadline, trio.current_time() + within_s)
        for worker in self._workers:
            worker.stop()

    async def _reload_when_asked(self) -> None:
        """One reload after the other, until cancelled: an answer to one must not be taken for an answer to the next."""
        while True:
            await self._reload_asked.wait()
            self._reload_asked = trio.Event()
            if not self._is_ending:
                await self._reload()

    async def _reload(self) -> None:
        """Have all read their settings anew, where they can be read; systemd is told when they have."""
        self._notifier.reloading()
        try:
            self._settings = self._reread()
        except SetupError as exc:
            _log.error("settings.rejected", reason=str(exc))
        else:
            configure_logging(self._settings)
            self._reloaded = trio.Event()
            for worker in self._workers:
                worker.reload()
            self._look()
            with trio.move_on_after(RELOAD_S):
                await self._reloaded.wait()
        if self._ready.is_set() and not self._is_ending:
            self._notifier.ready(self._status())

    async def _tell_systemd(self) -> None:
        """Say how the workers are, and feed the watchdog; until cancelled."""
        interval_s = min(STATUS_S, (self._notifier.watchdog_s or math.inf) / 3)
        while True:
            self._notifier.alive()
            if self._is_ending:
                pass
            elif self._ready.is_set():
                self._notifier.status(self._status())
            else:
                self._notifier.starting(self._status(), 3 * STATUS_S)
            await trio.sleep(interval_s)

    def _status(self) -> str:
        """How they are, in words for systemd."""
        ready = sum(worker.ready for worker in self._workers)
        others = [f"; {w.place.index}: {w.status}" for w in self._workers if not w.ready or w.status.startswith("not")]
        return f"{ready} of {len(self._workers)} workers ready" + "".join(others)
