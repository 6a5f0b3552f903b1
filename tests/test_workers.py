"""Several workers on one port: what clients see of them, and who is watched by whom."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ngos.client.callbacks import Callbacks
from ngos.client.trio import connect
from ngos.listening import listen_together
from ngos.status import look
from ngos.steering import steer
from ngos.systemd import Notifier
from ngos.worker import Worker
from ngos.workers import RELOAD_S
from tests.daemons import LIMIT_S
from tests.servers import settings_for
from tests.systemd import ACTIVATED, notify_socket
from tests.web.wire import raw_socket, request
from tests.workers import pids_of, place, server_of, supervisor_in

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
    supervisor = supervisor_in(tmp_path, Recorder(None, None))
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
