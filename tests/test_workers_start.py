"""Several workers: how they begin, and with what."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ngos.client.trio import connect
from ngos.config import MIB
from ngos.errors import SetupError
from ngos.place import VARIABLE, Place, share
from ngos.worker import Worker
from tests.daemons import daemon
from tests.servers import settings_for
from tests.web.wire import origin_of, request
from tests.workers import gone, notify_paths, pids_of, place, server_of, supervisor_in


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


async def test_a_worker_that_cannot_be_started(database_url: str) -> None:
    """Tries to end all workers by what keeps one of them from being started, or to have it never started again."""
    async with server_of(database_url, 2) as server:
        before = pids_of(server)
        folder = Path(notify_paths(before.values())[0]).parent
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
    supervisor, began = supervisor_in(tmp_path), trio.current_time()
    if when == "before the first begins":
        supervisor._end("x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor._keep_all)
        await wait_all_tasks_blocked()
        if when != "before the first begins":
            supervisor._end("x")
    assert 0.0 == trio.current_time() - began


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
