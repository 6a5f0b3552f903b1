"""Ctrl-C at the worst moment: a process is there, and nobody has it in hand yet."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attack_cli
import chaos_cli
import click
import pytest
from bench_loads.beside import Beside
from bench_loads.common import Run

from tests.databases import TestServer

Popen = subprocess.Popen[bytes]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A script sets what its own process does on a signal."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@contextmanager
def interrupted_at(word: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Popen]]:
    """All processes that are started; Ctrl-C comes before the start of one with this word in its command returns."""
    started: list[Popen] = []

    class Interrupted(Popen):
        def __init__(self, command: Any, *args: Any, **options: Any) -> None:
            super().__init__(command, *args, **options)
            started.append(self)
            if any(word in str(part) for part in command):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    try:
        yield started
    finally:
        left = [process for process in started if process.returncode is None]
        for process in left:
            process.kill()
            process.wait()
    assert [] == [process.args for process in left]


@pytest.mark.parametrize(
    ("cli", "word", "arguments"),
    [
        (attack_cli.cli, "attack_parts.honest", ("--honest", "2", "--seconds", "1")),
        (
            chaos_cli.cli,
            "chaos_parts.writer",
            ("--faults", "kill-writer", "--backplane", "none", "--writers", "1", "--watchers", "0"),
        ),
    ],
    ids=("attack", "chaos"),
)
def test_what_is_being_started_is_ended(
    cli: click.Command,
    word: str,
    arguments: tuple[str, ...],
    postgres_server: TestServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tries to leave behind the process that a script is just starting, by a Ctrl-C that comes before it has it."""
    monkeypatch.setenv("NGOS_TEST_DATABASE_URL", postgres_server.conninfo)
    with interrupted_at(word, monkeypatch) as started, pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert 130 == ended.value.code
    assert any(word in str(part) for part in started[-1].args)


def test_what_a_load_is_starting_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to leave behind the process that a load starts beside itself, by ending the load before it has it."""
    start = asyncio.create_subprocess_exec
    started: list[asyncio.subprocess.Process] = []

    async def load() -> None:
        is_there, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(*_command: str, **pipes: int) -> asyncio.subprocess.Process:
            started.append(await start("sleep", "60", **pipes))
            is_there.set()
            await go_on.wait()
            return started[0]

        async def use() -> None:
            async with Beside.running(Run(), "ws://127.0.0.1:1"):
                raise AssertionError("it was ended before")

        monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
        task = asyncio.create_task(use())
        await is_there.wait()
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        try:
            with pytest.raises(asyncio.CancelledError):
                await task
            assert -signal.SIGKILL == started[0].returncode
        finally:
            if started[0].returncode is None:
                started[0].kill()
                await started[0].wait()

    asyncio.run(load())
