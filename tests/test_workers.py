"""Several workers on one port: one that ends or hangs is replaced, the others don't notice, and none outlives."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectionLost
from ngos.client.trio import connect
from ngos.config import MIB, Settings
from ngos.daemon import Daemon
from ngos.errors import SetupError
from ngos.listening import listen, listen_together
from ngos.place import VARIABLE, Place, share
from ngos.status import look
from ngos.steering import steer
from ngos.systemd import Notifier
from ngos.worker import STABLE_S, START_S, Worker
from ngos.workers import RELOAD_S, Supervisor
from tests.daemons import LIMIT_S, daemon
from tests.servers import settings_for
from tests.systemd import ACTIVATED, notify_socket
from tests.web.wire import RawSocket, origin_of, raw_socket, request
from tests.workers import Process, gone, pids_of, place, server_of

_CONNECTIONS = re.compile(r'^ngos_connections{worker="."} (\S+)', re.MULTILINE)
CLIENTS = 20
"""So many that no worker is without, but once in half a million times."""


async def test_a_worker_is_killed_under_traffic(database_url: str) -> None:
    """Tries to have clients of another worker notice, an event lost or repeated, or the port not answer meanwhile."""
    breaks, seen = Counter[int](), [list[int]() for _ in range(CLIENTS)]
    writes = 0
    replaced, heard = trio.Event(), trio.lowlevel.ParkingLot()
    answers: list[float] = []
    cut: list[str] = []

    async def watch(number: int, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114 - started here only
        def broken(_lost: Exception, _next_s: float | None) -> None:
            breaks[number] += 1

        async with (
            connect(server.url, callbacks=Callbacks(disconnected=broken)) as client,
            client.subscribe("tokens") as events,
        ):
            task_status.started()
            async for event in events:
                assert event.seq is not None
                seen[number].append(event.seq)
                heard.unpark_all()

    async def ask() -> None:
        while not replaced.is_set():
            began = trio.current_time()
            try:
                assert 200 == (await request(server.http, "GET", "/livez")).status
            except (trio.BrokenResourceError, AssertionError) as exc:
                cut.append(repr(exc))  # the one that the killed worker had under way
            answers.append(trio.current_time() - began)

    flags = ("--arrivals-at-once", "1000000")  # that nobody is refused for asking as fast as he can
    async with server_of(database_url, 2, *flags) as server, trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            await nursery.start(watch, number)
        async with connect(server.url, client_id="writer") as writer:
            for _ in range(20):
                await writer.create_token()
                writes += 1
            nursery.start_soon(ask)
            killed = pids_of(server)[0]
            began = trio.current_time()
            os.kill(killed, signal.SIGKILL)
            while server.log.count("server.ready") < 3:
                with trio.fail_after(LIMIT_S):
                    await writer.create_token()
                writes += 1
            took_s = trio.current_time() - began
            replaced.set()
            await writer.create_token()
            writes += 1
            with trio.fail_after(LIMIT_S):
                while any((numbers or [0])[-1] < writes for numbers in seen):
                    await heard.park()
        assert 0 < len(breaks) < CLIENTS
        assert {1} == set(breaks.values())
        assert all(numbers == list(range(1, writes + 1)) for numbers in seen)
        assert len(cut) <= 1, cut
        assert killed not in pids_of(server).values()
        nursery.cancel_scope.cancel()
    assert "SIGKILL" in server.log
    print(f"replaced in {took_s:.2f} s; {len(answers)} answers, the slowest {max(answers):.2f} s; {len(breaks)} broke")


async def test_a_stop_is_said_when_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to read in the log that all are told to drain while one is not."""
    seen: list[tuple[str, list[list[int]]]] = []

    def say(event: str, **_more: object) -> None:
        seen.append((event, [list(process.signals) for process in processes]))

    monkeypatch.setattr("ngos.workers._log", SimpleNamespace(info=say))
    supervisor, processes = _supervisor(tmp_path), [Process(), Process()]
    for worker, process in zip(supervisor._workers, processes, strict=True):
        worker._process = cast("trio.Process", process)
    supervisor._end("x")
    assert [("workers.stopping", [[signal.SIGTERM], [signal.SIGTERM]])] == seen


@pytest.mark.parametrize("event", ["worker.hangs", "worker.killed"])
async def test_an_end_is_said_when_it_is_done(
    event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Tries to read in the log that a worker was killed while it was not."""
    process = Process()
    seen: list[tuple[str, int | None]] = []

    async def open_process(*_arguments: object, **_options: object) -> Process:
        return process

    def say(event: str, **_more: object) -> None:
        seen.append((event, process.returncode))

    monkeypatch.setattr(trio.lowlevel, "open_process", open_process)
    monkeypatch.setattr("ngos.worker._log", SimpleNamespace(warning=say, error=say))
    worker = Worker(place(tmp_path), {}, 600.0, lambda: None, lambda _exit_code: None)
    with trio.move_on_after(1.0 if event == "worker.killed" else 2 * START_S):
        await worker._live()
    assert [(event, -9)] == seen


async def test_a_supervisor_that_is_gone_is_said_when_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to read in the log that the supervisor is gone while its folder is not."""
    folder = tmp_path / "folder"
    folder.mkdir()
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr("ngos.daemon._log", SimpleNamespace(error=lambda event: seen.append((event, folder.exists()))))
    lifeline, supervisors = os.pipe()
    os.close(supervisors)
    try:
        with socket.socket() as listener, trio.CancelScope() as everything, trio.fail_after(LIMIT_S):
            server = Daemon(listener, Notifier(None, None), is_inherited=False, reread=None)
            await server.heed_supervisor(place(folder, lifeline=lifeline), everything)
    finally:
        os.close(lifeline)
    assert [("supervisor.gone", False)] == seen
    assert everything.cancel_called


async def test_the_supervisor_is_killed(database_url: str) -> None:
    """Tries to leave workers behind that nobody watches, or the port taken, or clients unheard."""
    async with server_of(database_url, 2) as server, AsyncExitStack() as stack:
        pids = pids_of(server)
        assert {0, 1} == set(pids)
        clients = [await stack.enter_async_context(connect(server.url, reconnect=False)) for _ in range(10)]
        folders = [Path(path).parent for path in _notify_paths(pids.values())]
        server.process.kill()
        for pid in pids.values():
            await gone(pid)
        for client in clients:
            with pytest.raises(ConnectionLost) as caught:
                await client.create_token()
            assert 1012 == caught.value.code
        with listen(settings_for(database_url, port=origin_of(server.http)[1])):
            pass
        assert not any(folder.exists() for folder in folders)


def _notify_paths(pids: Iterable[int]) -> list[str]:
    variables = [line for pid in pids for line in Path(f"/proc/{pid}/environ").read_text().split("\0")]
    found = [line.partition("=")[2] for line in variables if line.startswith("NOTIFY_SOCKET=")]
    assert found
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_gentle_end(database_url: str, number: signal.Signals) -> None:
    """Tries to have a client of any worker cut without its 1012, or a traceback, or another exit code than 0."""
    async with server_of(database_url, 2, "--log-format", "json") as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_socket(server.http)) for _ in range(CLIENTS)]
        for client in clients:
            await client.message()
        server.process.send_signal(number)
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(_leave, client)
        assert 0 == await server.ends(), server.log
    assert "Traceback" not in server.log
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {"info"} == {line["level"] for line in lines}
    for worker in (0, 1):
        events = [line["event"] for line in lines if line.get("worker") == worker]
        told = [event for event in events if event.startswith(("server.", "worker."))]
        assert ["server.ready", "server.draining", "server.stopped", "worker.stopped"] == told
    assert lines[-1]["event"] == "server.stopped"


async def _leave(client: RawSocket) -> None:
    assert 1012 == await client.closed()
    await client.frame(8, b"\x03\xf4")


async def test_a_second_signal_cuts(database_url: str) -> None:
    """Tries to hold up the end beyond the second signal, by clients that don't say goodbye."""
    async with server_of(database_url, 2, "--drain-s", "60") as server, AsyncExitStack() as stack:
        for _ in range(CLIENTS):
            await (await stack.enter_async_context(raw_socket(server.http))).message()
        server.process.terminate()
        await server.says("server.draining", 2)
        server.process.terminate()
        with trio.fail_after(3):
            await server.process.wait()
    assert "server.cut" in server.log


async def test_who_does_not_drain_is_killed(database_url: str) -> None:
    """Tries to hold up the end beyond `drain_s` and a second, by a worker that is stopped."""
    async with server_of(database_url, 2, "--drain-s", "1") as server:
        os.kill(pids_of(server)[1], signal.SIGSTOP)
        server.process.terminate()
        with trio.fail_after(3):
            assert 0 == await server.process.wait()
    assert 1 == server.log.count("worker.killed")
    assert 1 == server.log.count("worker.stopped")


async def test_a_worker_that_stands_still(database_url: str, tmp_path: Path) -> None:
    """Tries to have a worker that is stopped stay, the other's clients notice, or systemd's watchdog go unfed."""
    with notify_socket(tmp_path) as told:
        environment = {"WATCHDOG_USEC": "1500000", "NOTIFY_SOCKET": told.path}
        async with server_of(database_url, 2, environment=environment, ready=False) as server:
            await told.until("READY=1")  # read as it comes: the queue of such a socket is short
            stopped = pids_of(server)[1]
            os.kill(stopped, signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(told.until, "STATUS=1 of 2")
                await server.says("worker.hangs")
            await told.until("STATUS=2 of 2")
            assert stopped not in pids_of(server).values()
            assert told.messages.count("WATCHDOG=1") > 2
            assert "STOPPING=1" not in told.messages
            server.process.terminate()
            await told.until("STOPPING=1")
            assert 0 == await server.ends(), server.log


async def test_who_is_silent_gets_nobody_new(database_url: str) -> None:
    """Tries to have those who come wait for a worker that stands still, or have it end, or get nobody any more."""
    async with server_of(database_url, 2, environment={"WATCHDOG_USEC": "600000000"}) as server:
        before = pids_of(server)
        os.kill(before[1], signal.SIGSTOP)
        await server.says_all_of("worker.silent", "worker=1")
        for _ in range(CLIENTS):
            with trio.fail_after(LIMIT_S):
                assert 200 == (await request(server.http, "GET", "/livez")).status
        os.kill(before[1], signal.SIGCONT)
        await server.says_all_of("worker.heard_again", "worker=1")
        os.kill(before[0], signal.SIGSTOP)  # so that the other one has to take all
        await server.says_all_of("worker.silent", "worker=0")
        for _ in range(CLIENTS):
            with trio.fail_after(LIMIT_S):
                assert 200 == (await request(server.http, "GET", "/livez")).status
        os.kill(before[0], signal.SIGCONT)
        assert before == pids_of(server)
        server.process.terminate()
        assert 0 == await server.ends(), server.log


def test_who_drains_gets_nobody_new(tmp_path: Path) -> None:
    """Tries to have connections sent to a worker that an operator has told to drain, since it still goes on."""
    worker = Worker(place(tmp_path), {}, 1.0, lambda: None, lambda _exit_code: None)
    served = []
    for line in ("WATCHDOG=1", "STOPPING=1", "WATCHDOG=1"):
        worker._take(line)
        served.append(worker.serves)
    assert [True, False, False] == served


async def test_a_supervisor_that_stands_still(database_url: str) -> None:
    """Tries to have workers killed that could not be heard, because it was the supervisor that was stopped."""
    environment = {"WATCHDOG_USEC": "2000000"}
    async with server_of(database_url, 2, environment=environment) as server:
        before = pids_of(server)
        server.process.send_signal(signal.SIGSTOP)
        await server.says("systemd.not_told")  # they have filled the queue, which takes longer than the watchdog's time
        server.process.send_signal(signal.SIGCONT)
        server.process.send_signal(signal.SIGHUP)
        await server.says("settings.reloaded", 2)
        assert before == pids_of(server)
        server.process.terminate()
        assert 0 == await server.ends(), server.log
    assert "worker.hangs" not in server.log


async def test_reload(database_url: str, tmp_path: Path) -> None:
    """Tries to have one worker go on with the old settings, systemd told too early, or wrong settings heeded."""
    file = tmp_path / "ngos.toml"
    file.write_text("[ngos]\nsubscriptions = 5\n")
    with notify_socket(tmp_path) as told:
        environment = {"NGOS_CONFIG": str(file), "NOTIFY_SOCKET": told.path}
        async with server_of(database_url, 2, environment=environment) as server:
            await told.until("READY=1")
            file.write_text("[ngos]\nsubscriptions = 7\n")
            server.process.send_signal(signal.SIGHUP)
            await told.until("RELOADING=1\n")
            await told.until("READY=1")
            await server.says("subscriptions: 5 -> 7", 2)
            greeted = set()
            for _ in range(CLIENTS):
                async with raw_socket(server.http) as client:
                    greeted.add((await client.message())["payload"]["limits"]["subscriptions"])
            assert {7} == greeted
            file.write_text("[ngos]\nsubscriptions = 0\n")
            server.process.send_signal(signal.SIGHUP)
            await told.until("RELOADING=1\n")
            await told.until("READY=1")
            await server.says("settings.rejected")
            assert 1 == server.log.count("settings.rejected")
            # What has only just begun would end by the signal.
            file.write_text("[ngos]\nsubscriptions = 9\n")
            os.kill(pids_of(server)[0], signal.SIGKILL)
            await server.says("worker.ended")
            server.process.send_signal(signal.SIGHUP)
            await server.says("server.ready", 3)
            await server.says("settings.reloaded", 4)
            assert 1 == server.log.count("worker.ended")
            server.process.terminate()
            assert 0 == await server.ends(), server.log


async def test_a_reload_while_another_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Tries to have systemd told that a reload is done before the workers have answered it, or again long after."""
    told: list[str] = []

    class Recorder(Notifier):
        def _send(self, message: str) -> None:
            told.append(message.partition("=")[0])

    def answer(*indices: int) -> None:
        for index in indices:
            supervisor._workers[index]._take("READY=1")
            supervisor._look()

    monkeypatch.setattr("ngos.workers.configure_logging", lambda _settings: None)
    supervisor = _supervisor(tmp_path, Recorder(None, None))
    answer(0, 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.heed_signals, nursery.cancel_scope)
        for _ in range(2):
            signal.raise_signal(signal.SIGHUP)
            await wait_all_tasks_blocked()
        answer(0, 1)  # the first
        await wait_all_tasks_blocked()
        answer(1)
        await wait_all_tasks_blocked()
        assert ["RELOADING", "READY", "RELOADING"] == [name for name in told if name != "STATUS"]
        answer(0)
        await wait_all_tasks_blocked()
        assert 0.0 == trio.current_time()
        await trio.sleep(2 * RELOAD_S)
        assert ["RELOADING", "READY", "RELOADING", "READY"] == [name for name in told if name != "STATUS"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--backplane", "none"), "backplane=postgres backplane_by=--workers"),
        (("--backplane", "postgres"), "backplane=postgres backplane_by=--backplane"),
    ],
    ids=["implied", "chosen"],
)
async def test_whose_choice_the_backplane_is(flags: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Tries to have another backplane than the one that was asked for, and nobody told."""
    async with server_of(f"host={tmp_path} dbname=x", 2, *flags, ready=False) as server:
        await server.says(said)
        server.process.terminate()
        assert 0 == await server.ends(), server.log


@pytest.mark.parametrize("by", ["another", "workers"])
async def test_a_port_that_is_taken(database_url: str, by: str) -> None:
    """Tries to share a port with who has it already: one line and exit code 1, also where that is ngos with workers."""
    count = 2 if by == "workers" else 1
    async with server_of(database_url, count) as first:
        port = str(origin_of(first.http)[1])
        async with daemon(database_url, "--workers", "2", "--port", port, ready=False) as second:
            assert 1 == await second.ends()
        assert f"ngos: 127.0.0.1 port {port} is taken: stop what listens there, or choose another with --port\n" in (
            second.log
        )
        assert 1 == second.log.count("\n")
        assert 200 == (await request(first.http, "GET", "/livez")).status


@pytest.mark.parametrize(
    ("flags", "exit_code", "line"),
    [
        (("--database-url", "postgresql://postgres@127.0.0.1/no_such_database"), 1, "no_such_database"),
        (("--auth-mode", "jwt"), 2, "no keys"),
        (("--database-pool-size", "46", "--data-dir", "/nonexistent"), 2, "take 98 "),
        (("--data-dir", "/proc/nowhere"), 1, "/proc/nowhere"),
    ],
    ids=["no such database", "no keys", "too many for the embedded", "embedded does not start"],
)
async def test_a_start_in_vain(database_url: str, flags: tuple[str, ...], exit_code: int, line: str) -> None:
    """Tries to have workers started again and again with what the operator has to mend, or tell it more than once."""
    if "--data-dir" in flags:
        database_url = ""
    async with daemon(database_url, "--workers", "2", *flags, ready=False) as server:
        assert exit_code == await server.ends(), server.log
    (told,) = [told for told in server.log.splitlines() if told.startswith("ngos: ")]
    assert line in told
    assert "Traceback" not in server.log


async def test_who_keeps_dying(database_url: str) -> None:
    """Tries to have a crash loop be silent or without pauses, or the other worker suffer from it."""
    program = f"""
import os, sys, trio, ngos.daemon
from ngos.__main__ import main
if os.environ.get({VARIABLE!r}, "").startswith("[1"):
    greet = ngos.daemon.Daemon._greet
    async def dies(self, app, on_ready):
        await greet(self, app, on_ready)
        os._exit(3)
    ngos.daemon.Daemon._greet = dies
sys.exit(main())
"""
    async with server_of(database_url, 2, ngos=(sys.executable, "-c", program)) as server:
        before = pids_of(server)[0]
        await server.says("worker.ended", 4)
        lines = [line for line in server.log.splitlines() if "worker.ended" in line][:4]
        assert all("exit code 3" in line for line in lines)
        assert all(f"again_in_s={pause_s}" in line for pause_s, line in zip((0.0, 0.25, 0.5, 1.0), lines, strict=True))
        assert before == pids_of(server)[0]
        for _ in range(5):
            assert 200 == (await request(server.http, "GET", "/livez")).status
        server.process.terminate()
        assert 0 == await server.ends(), server.log


async def test_who_ends_before_it_was_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have all end because of a worker that had been ready, or its last words lost, by its ending at once."""

    async def heed(_self: Worker, _notes: socket.socket) -> None:
        await trio.sleep_forever()  # as where it has not had its turn before the end is noticed

    def changed() -> None:
        if worker.status.startswith("ended"):
            worker.stop()

    program = """
import os, socket, sys
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for note in (b"STATUS=starting", b"READY=1", b"WATCHDOG=1", b"STATUS=no room left"):
    told.sendto(note, os.environ["NOTIFY_SOCKET"])
sys.exit(2)
"""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", program])
    monkeypatch.setattr(Worker, "_heed", heed)
    failed: list[int] = []
    worker = Worker(place(tmp_path), {}, 600.0, changed, failed.append)
    with structlog.testing.capture_logs() as lines, trio.fail_after(LIMIT_S):
        await worker.run()
    assert [] == failed
    (ended,) = lines
    assert ("worker.ended", "exit code 2", "no room left") == (ended["event"], ended["exit"], ended["said"])


@pytest.mark.parametrize(
    ("served_s", "pauses"),
    [(0.0, [0.0, 0.25, 0.5, 1.0]), (STABLE_S + 1, [0.0, 0.0, 0.0, 0.0])],
    ids=["dies when it is ready", "has served"],
)
async def test_who_starts_slowly_and_dies(
    served_s: float, pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Tries to have a crash loop without pauses where the start takes long, or pauses after each long life."""

    async def live(worker: Process) -> None:
        await trio.sleep(2 * STABLE_S)
        said("READY=1")
        await trio.sleep(served_s)
        said("READY=1")  # as after a reload
        worker.ends(3)

    def said(note: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(note.encode(), str(tmp_path / "notify-0"))

    async def open_process(*_arguments: object, **_options: object) -> Process:
        process = Process()
        nursery.start_soon(live, process)
        return process

    monkeypatch.setattr(trio.lowlevel, "open_process", open_process)
    worker = Worker(place(tmp_path), {}, 600.0, lambda: None, lambda _exit_code: None)
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            await trio.sleep(5 * (2 * STABLE_S + served_s) - 1)
            nursery.cancel_scope.cancel()
    assert pauses == [line["again_in_s"] for line in lines if line["event"] == "worker.ended"]


async def test_a_worker_that_cannot_be_started(database_url: str) -> None:
    """Tries to end all workers by what keeps one of them from being started, or to have it never started again."""
    async with server_of(database_url, 2) as server:
        before = pids_of(server)
        folder = Path(_notify_paths(before.values())[0]).parent
        away = folder.rename(folder.with_name(f"{folder.name}-away"))
        os.kill(before[1], signal.SIGKILL)
        await server.says("worker.not_started")
        assert 200 == (await request(server.http, "GET", "/livez")).status
        assert {0: before[0]} == pids_of(server)
        away.rename(folder)
        await server.says("server.ready", 3)
        assert {0, 1} == set(pids_of(server))
        server.process.terminate()
        assert 0 == await server.ends(), server.log


@pytest.mark.parametrize("when", ["before the first begins", "while it can't be started"])
async def test_a_stop_without_a_first_worker(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Tries to have the end wait for the first word of a worker that has never lived, and never will."""

    async def live(_self: Worker) -> int:
        await trio.lowlevel.checkpoint()
        raise FileNotFoundError

    monkeypatch.setattr(Worker, "_live", live)
    supervisor, began = _supervisor(tmp_path), trio.current_time()
    if when == "before the first begins":
        supervisor._end("x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor._keep_all)
        await wait_all_tasks_blocked()
        if when != "before the first begins":
            supervisor._end("x")
    assert 0.0 == trio.current_time() - began


def _supervisor(folder: Path, notifier: Notifier | None = None) -> Supervisor:
    """A supervisor with two workers, for which no process was started yet."""
    supervisor = Supervisor(Settings(), "x", notifier or Notifier(None, None), [], True, Settings)
    for index in (0, 1):
        supervisor._workers.append(Worker(place(folder, index), {}, 600.0, supervisor._look, supervisor._fail))
    return supervisor


async def test_a_socket_of_systemd(database_url: str) -> None:
    """Tries to have a worker that can't accept from a socket that all share, or somebody refused by a restart."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as handed_over:
        fd = handed_over.fileno()
        options = {"ngos": ACTIVATED, "environment": {"HANDED_OVER": str(fd)}, "pass_fds": [fd]}
        async with server_of(database_url, 2, **options) as first:
            assert f"http://127.0.0.1:{handed_over.getsockname()[1]}" == first.http
            shares = await _spread(first.http, 200)
            print(f"200 connections, one after the other, on a socket that all share: {shares}")
            assert 200 == sum(shares)
            assert all(shares)
            first.process.terminate()
            await first.says("server.draining", 2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(request, first.http, "GET", "/readyz")  # it waits in the socket
                assert 0 == await first.ends()
                async with server_of(database_url, 2, **options):
                    pass


async def test_where_connections_go(database_url: str) -> None:
    """Tries to have connections that are made one after the other all go to one worker."""
    async with server_of(database_url, 2) as server:
        shares = await _spread(server.http, 200)
    print(f"200 connections, one after the other, on a socket each: {shares}")
    assert 200 == sum(shares)
    assert min(shares) > 50


async def _spread(http: str, count: int) -> list[int]:
    """Open so many WebSockets, and ask how many each of the two workers has."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await (await stack.enter_async_context(raw_socket(http))).message()
        shares: list[int] = []
        with trio.fail_after(LIMIT_S):
            while sum(shares) < count:  # what another worker has told may be a second old
                shown = (await request(http, "GET", "/metrics")).body.decode()
                shares = [int(float(found)) for found in _CONNECTIONS.findall(shown)]
    assert 2 == len(shares)
    return shares


async def test_an_embedded_postgres(tmp_path: Path) -> None:
    """Tries to have two workers on the Postgres of their own not see the same, or that one outlive the supervisor."""
    flags = ("--data-dir", str(tmp_path / "data"))
    async with server_of("", 2, *flags, environment={"NGOS_DATABASE_URL": ""}) as server:
        async with connect(server.url) as client:
            token = await client.create_token()
        for _ in range(10):
            async with connect(server.url) as client:
                assert token == await client.get_token(token.token_id)
        pids = pids_of(server)
        server.process.kill()
        for pid in pids.values():
            await gone(pid)
    async with server_of("", 2, *flags, environment={"NGOS_DATABASE_URL": ""}) as server:
        async with connect(server.url) as client:
            assert token == await client.get_token(token.token_id)
        server.process.terminate()
        assert 0 == await server.ends(), server.log


@pytest.mark.parametrize("text", ["", "x", "[]", '[0,2,998,999,false,"/tmp"]', "[0,2,3]"])
def test_a_place_that_no_supervisor_gave(text: str) -> None:
    """Tries to be a worker by a variable that somebody has set: one line and exit code 2."""
    with pytest.raises(SetupError) as caught:
        Place.of({VARIABLE: text})
    assert 2 == caught.value.exit_code


def test_a_place_goes_there_and_back(tmp_path: Path) -> None:
    """Tries to lose a part of what a worker is told, or to leave it for a child to find."""
    with Path(os.devnull).open() as file, Path(os.devnull).open() as other:
        given = place(tmp_path, 1, 3, file.fileno(), other.fileno())
        variables = given.variables()
        assert given == Place.of(variables)
    assert {} == variables
    assert Place.of(variables) is None


def test_what_a_worker_may_take(tmp_path: Path) -> None:
    """Tries to let so many workers take more together than one server may, or set one what no setting may be."""
    settings = settings_for("", connections=10, mailbox_total_bytes=100 * MIB, cache_bytes=9)
    shared = share(settings, place(tmp_path, count=4))
    assert (3, 25 * MIB, 2) == (shared.connections, shared.mailbox_total_bytes, shared.cache_bytes)
    assert MIB == share(settings, place(tmp_path, count=256)).mailbox_total_bytes
    assert settings == share(settings, None)


def test_steering() -> None:
    """Tries to have a connection go to a socket from which nobody accepts, while there is another."""
    listeners = listen_together(settings_for(""), 3)
    try:
        for open_, expected in (([1], {1}), ([0, 2], {0, 2}), ([], {0, 2}), ([0, 1, 2], {0, 1, 2})):
            assert steer(listeners[0], open_)
            assert expected == _reached(listeners, 60)
    finally:
        for listener in listeners:
            listener.close()


def _reached(listeners: list[socket.socket], count: int) -> set[int]:
    """Connect so often; the sockets that were connected to."""
    reached = set()
    for _ in range(count):
        with socket.create_connection(listeners[0].getsockname()):
            (listener,), _, _ = select.select(listeners, (), (), LIMIT_S)  # it may be there later than we are connected
            listener.accept()[0].close()
            reached.add(listeners.index(listener))
    return reached


async def test_status_is_of_one_worker(database_url: str) -> None:
    """Tries to be told rates that are of two workers, of which each answers one of the two questions."""
    async with server_of(database_url, 2) as server:
        before: dict[str, float] = {}
        for _ in range(CLIENTS):  # of so many, both workers have some
            now = (await look(server.http, None, 0.01)).now
            node = now["node"]
            assert 2 >= node["nodes"] > 0
            assert before.get(node["id"], 0.0) < now["at_s"]
            before[node["id"]] = now["at_s"]
        report = await look(server.http, None, 0.01)
        assert 0 < report.over_s < LIMIT_S
        assert 2 == len(before)
