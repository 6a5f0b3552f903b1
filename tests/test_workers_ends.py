"""Several workers: how they end, of themselves, by signals, and with their supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import structlog
import trio
from trio.testing import MockClock

from ngos.client.errors import ConnectionLost
from ngos.client.trio import connect
from ngos.daemon import Daemon
from ngos.listening import listen
from ngos.place import VARIABLE
from ngos.systemd import Notifier
from ngos.worker import STABLE_S, START_S, Worker
from tests.daemons import LIMIT_S
from tests.servers import settings_for
from tests.web.wire import RawSocket, origin_of, raw_socket, request
from tests.workers import Process, gone, notify_paths, pids_of, place, server_of, supervisor_in

CLIENTS = 20
"""So many that no worker is without, but once in half a million times."""


async def test_a_stop_is_said_when_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to read in the log that all are told to drain while one is not."""
    seen: list[tuple[str, list[list[int]]]] = []

    def say(event: str, **_more: object) -> None:
        seen.append((event, [list(process.signals) for process in processes]))

    monkeypatch.setattr("ngos.workers._log", SimpleNamespace(info=say))
    supervisor, processes = supervisor_in(tmp_path), [Process(), Process()]
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
        folders = [Path(path).parent for path in notify_paths(pids.values())]
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
