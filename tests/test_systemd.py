"""The daemon under systemd: what it tells, when it is silent, and the socket that it is handed."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from ngos.client.callbacks import Callbacks
from ngos.client.trio import connect
from tests.daemons import LIMIT_S, NGOS, Daemon, daemon
from tests.postgres.way import Way
from tests.programs import needed
from tests.systemd import ACTIVATED, notify_socket
from tests.web.wire import request


async def test_ready_only_when_serving(database_url: str, tmp_path: Path, nursery: trio.Nursery) -> None:
    """Tries to have READY told before commands can be answered, or the start be given up while it goes on."""
    way = Way(database_url, tmp_path)
    with notify_socket(tmp_path) as told:
        async with daemon(way.url, environment={"NOTIFY_SOCKET": told.path}, ready=False) as server:
            await server.says("database.waiting")
            await told.until("STATUS=not ready: the database is not there yet")
            assert any(message.startswith("EXTEND_TIMEOUT_USEC=") for message in told.messages)
            assert "READY=1" not in told.all_so_far()
            await way.open(nursery)
            await told.until("READY=1")
            await server.is_ready()
            async with connect(server.url) as client:
                await client.create_token()
            server.process.send_signal(signal.SIGHUP)
            await told.until("RELOADING=1\nMONOTONIC_USEC=")
            await told.until("READY=1")
            server.process.terminate()
            await told.until("STOPPING=1")
            assert 0 == await server.ends()
    way.close()


async def test_the_watchdog_of_a_process_that_stands_still(database_url: str, tmp_path: Path) -> None:
    """Tries to feed the watchdog while the event loop does not run, stopped as by a debugger."""
    limit_s = 0.6
    environment = {"WATCHDOG_USEC": str(int(limit_s * 1e6))}
    with notify_socket(tmp_path) as told:
        environment["NOTIFY_SOCKET"] = told.path
        async with daemon(database_url, environment=environment) as server:
            for _ in range(3):
                await told.until("WATCHDOG=1")
            server.process.send_signal(signal.SIGSTOP)
            await trio.to_thread.run_sync(os.waitid, os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)
            told.all_so_far()
            told.messages.clear()
            with trio.move_on_after(limit_s):
                await told.until("WATCHDOG=1")
            assert [] == told.messages
            server.process.send_signal(signal.SIGCONT)
            await told.until("WATCHDOG=1")


async def test_the_watchdog_of_a_committer_that_is_stuck(database_url: str, tmp_path: Path) -> None:
    """Tries to feed the watchdog while the event loop runs, but nothing is committed any more."""
    program = """
import sys, trio, ngos.app
from ngos.log.committer import Committer
from ngos.__main__ import main
async def hang(*_):
    await trio.sleep_forever()
Committer._transact = hang
ngos.app.STUCK_S = 0.1
sys.exit(main())
"""
    with notify_socket(tmp_path) as told:
        environment = {"WATCHDOG_USEC": "600000", "NOTIFY_SOCKET": told.path}
        command = (sys.executable, "-c", program)
        flags = ("--database-query-s", "0.2")
        async with daemon(database_url, *flags, ngos=command, environment=environment) as server:  # noqa: SIM117
            async with connect(server.url) as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.create_token)
                await server.says_all_of("watchdog.starved", "committer")
                told.all_so_far()
                told.messages.clear()
                with trio.move_on_after(0.6):
                    await told.until("WATCHDOG=1")
                assert [] == [message for message in told.messages if message == "WATCHDOG=1"]
                assert (await request(server.http, "GET", "/livez")).status == 200
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["unix", "udp", "not-listening", "two"])
async def test_a_socket_that_is_of_no_use(database_url: str, kind: str, tmp_path: Path) -> None:
    """Tries to hand over what clients can't be accepted from: one line that says what is right, exit code 2."""
    with socket.socket(
        socket.AF_UNIX if kind == "unix" else socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    ) as handed_over:
        handed_over.bind(str(tmp_path / "socket") if kind == "unix" else ("127.0.0.1", 0))
        if kind == "unix":
            handed_over.listen()
        fd = handed_over.fileno()
        command = [part.replace("LISTEN_FDS=1", "LISTEN_FDS=2") if kind == "two" else part for part in ACTIVATED]
        environment = {"HANDED_OVER": str(fd)}
        async with daemon(database_url, ngos=command, environment=environment, pass_fds=[fd], ready=False) as server:
            assert 2 == await server.ends()
    assert server.log.startswith("ngos: systemd hands over ")
    assert 1 == server.log.count("\n")


async def test_a_socket_of_the_world_without_authentication(database_url: str) -> None:
    """Tries to be open to everybody by way of a socket that somebody else has made."""
    with socket.create_server(("0.0.0.0", 0)) as handed_over:
        fd = handed_over.fileno()
        environment = {"HANDED_OVER": str(fd)}
        async with daemon(database_url, ngos=ACTIVATED, environment=environment, pass_fds=[fd], ready=False) as server:
            assert 2 == await server.ends()
    assert "refusing to listen on 0.0.0.0 without authentication" in server.log


async def test_activated_by_its_first_client(database_url: str) -> None:
    """Tries to lose the very connection that starts the server, or what it says, by systemd's own tool."""
    activate = needed("systemd-socket-activate")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (activate, "-l", f"127.0.0.1:{port}", "-E", "NGOS_DATABASE_URL", *NGOS)
    async with daemon(database_url, ngos=command, ready=False) as server:
        await server.says("Listening on ")
        ready = await request(f"http://127.0.0.1:{port}", "GET", "/livez")
        assert 200 == ready.status
        await server.is_ready()
        assert f"http://127.0.0.1:{port}" == server.http
        server.process.terminate()
        assert 0 == await server.ends()


CLIENTS = 500


async def test_a_restart_that_nobody_loses_by(database_url: str) -> None:
    """Tries to have a client refused, or an event lost or repeated, by a restart under traffic, on systemd's socket."""
    refused: list[str] = []
    breaks, greetings = Counter[int](), Counter[int]()
    back = trio.Event()
    seen: list[list[int]] = [[] for _ in range(CLIENTS)]
    finished = trio.Event()
    last = trio.Event()
    writes = 0
    restarted_s = back_s = 0.0

    def disconnected(number: int, failure: Exception) -> None:
        breaks[number] += 1
        if breaks[number] > 1:
            refused.append(repr(failure))

    def connected(number: int) -> None:
        nonlocal back_s
        greetings[number] += 1
        if greetings[number] == 2 and sum(greetings.values()) == 2 * (CLIENTS + 1):
            back_s = trio.current_time()
            back.set()

    def look_whether_all_is_seen() -> None:
        if finished.is_set() and all(numbers and numbers[-1] == writes for numbers in seen):
            last.set()

    with socket.create_server(("127.0.0.1", 0), backlog=4096) as handed_over:
        fd = handed_over.fileno()
        url = f"ws://127.0.0.1:{handed_over.getsockname()[1]}/ws"
        environment = {"HANDED_OVER": str(fd)}

        def start() -> AbstractAsyncContextManager[Daemon]:
            # 500 clients in one process may be late on a busy machine, which is not what this is about.
            flags = ("--heartbeat-timeout-s", "60", "--mailbox-age-s", "60")
            return daemon(database_url, *flags, ngos=ACTIVATED, environment=environment, pass_fds=[fd])

        async with trio.open_nursery() as nursery:
            callbacks = [
                Callbacks(
                    connected=lambda _greeting, number=number: connected(number),
                    disconnected=lambda lost, _next_s, number=number: disconnected(number, lost),
                )
                for number in range(CLIENTS + 1)
            ]

            async def watch(  # noqa: ASYNC114 - started here only
                number: int, *, task_status: trio.TaskStatus[None]
            ) -> None:
                async with (
                    connect(url, connect_s=60, callbacks=callbacks[number]) as client,
                    client.subscribe("tokens") as events,
                ):
                    task_status.started()
                    async for event in events:
                        assert event.seq is not None
                        seen[number].append(event.seq)
                        look_whether_all_is_seen()

            async def write() -> None:
                nonlocal writes
                async with connect(url, client_id="writer", connect_s=60, callbacks=callbacks[CLIENTS]) as client:
                    while not back.is_set():
                        await client.create_token()
                        writes += 1
                    await client.create_token()
                    writes += 1
                    finished.set()
                    look_whether_all_is_seen()
                    await trio.sleep_forever()

            async with start() as first:
                for number in range(CLIENTS):
                    await nursery.start(watch, number)
                nursery.start_soon(write)
                while writes < 20:
                    await trio.testing.wait_all_tasks_blocked()
                restarted_s = trio.current_time()
                first.process.terminate()
                assert 0 == await first.ends()
            async with start() as second:
                with trio.fail_after(3 * LIMIT_S):
                    await back.wait()
                    await last.wait()
                # Here: when this is over the server is killed, while clients may still be saying goodbye to it.
                assert [] == refused, f"{Counter(refused)}\n{first.log[-2000:]}\n{second.log[-4000:]}"
                nursery.cancel_scope.cancel()
    assert all(numbers == list(range(1, writes + 1)) for numbers in seen)
    print(
        f"{CLIENTS} clients, {writes} writes: all back {back_s - restarted_s:.1f} s after the signal"
    )  # pytest -s shows it
