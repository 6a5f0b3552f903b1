"""The log: a rate that nobody can go over, a level that changes while it runs, and nothing secret in it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from psycopg.conninfo import make_conninfo

import ngos
from ngos.client.errors import CommandError
from ngos.client.trio import connect
from ngos.config import Settings
from ngos.logs import BURST, INCIDENTS, LINES, OTHER, PER_S, TRACEBACKS, Limiter, configure_logging, set_log_level
from tests.console import log_plainly
from tests.daemons import daemon
from tests.tokens import Mint
from tests.web.wire import knock, raw_socket, request

SOURCES = sorted(Path(ngos.__file__).parent.rglob("*.py"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def configured() -> Iterator[None]:
    """What a test configures is undone, for the loggers of the tests after it."""
    yield
    set_log_level("info")
    log_plainly()


def passes(limiter: Limiter, event: str, method: str = "info", **keys: Any) -> dict[str, Any] | None:
    try:
        return dict(limiter(None, method, {"event": event, **keys}))
    except structlog.DropEvent:
        return None


def test_a_flood_is_held_to_its_rate_and_told() -> None:
    """Tries to have more lines of one event written than may be, or some left out without a word."""
    clock = Clock()
    limiter = Limiter(clock=clock)
    with structlog.testing.capture_logs() as told:
        assert BURST == sum(passes(limiter, "connection.opened") is not None for _ in range(BURST + 50))
        assert passes(limiter, "connection.closed"), "another event has its own rate"
        clock.now = 2 / PER_S
        assert passes(limiter, "connection.opened")
        assert passes(limiter, "connection.opened")
        assert passes(limiter, "connection.opened") is None
    assert [{"event": "log.suppressed", "log_level": "warning", "of": "connection.opened", "lines": 50}] == told
    assert 51 == limiter.suppressed["connection.opened"]
    assert 51 == sum(limiter.suppressed.values())


def test_what_was_left_out_is_told_though_the_event_does_not_come_again() -> None:
    """Tries to have lines left out, and nobody told, because the flood has just stopped."""
    clock = Clock()
    limiter = Limiter(clock=clock)
    for _ in range(BURST + 1):
        passes(limiter, "http.connection_failed", "warning")
    clock.now = 60.0
    with structlog.testing.capture_logs() as told:
        passes(limiter, "server.draining")
        passes(limiter, "server.draining")
    assert [("http.connection_failed", 1)] == [(line["of"], line["lines"]) for line in told]


def test_what_was_left_out_of_two_events_is_told_once(configured: None) -> None:
    """Tries to have the line that tells of one event tell of the other, too, and the logger fail its caller by that."""
    clock = Clock()
    limiter = Limiter(clock=clock)
    told: list[tuple[str, int]] = []

    def note(_logger: object, _method: str, line: Any) -> Any:
        if line["event"] == "log.suppressed":
            told.append((line["of"], line["lines"]))
        raise structlog.DropEvent

    # The whole way, unlike capture_logs, in which the lines that tell don't come by the limiter.
    structlog.configure(processors=[limiter, note])
    log = structlog.get_logger("ngos")
    for _ in range(BURST + 3):
        log.info("connection.opened")
        log.info("connection.closed")
    clock.now = 60.0
    log.info("server.draining")
    assert [("connection.closed", 3), ("connection.opened", 3)] == told


@pytest.mark.parametrize("event", ["read.defect", "made.up"])
def test_an_incident_is_never_left_out(event: str) -> None:
    """Tries to have the line of an incident dropped, or its tracebacks fill the disk."""
    limiter = Limiter(clock=Clock())
    lines = [passes(limiter, event, "error", incident=str(n), exc_info=ValueError()) for n in range(TRACEBACKS + 5)]
    assert [str(n) for n in range(TRACEBACKS + 5)] == [line["incident"] for line in lines if line is not None]
    assert TRACEBACKS == sum("exc_info" in line for line in lines if line is not None)
    assert 5 == limiter.suppressed[event if event in INCIDENTS else OTHER]


def test_names_are_fixed() -> None:
    """Tries to have a bucket, or a count, for each name that somebody makes up."""
    limiter = Limiter(clock=Clock())
    before = set(limiter.suppressed)
    for number in range(1000):
        assert passes(limiter, f"x{number}", "warning")
        passes(limiter, f"y{number}", "error", incident="x")
    assert before == set(limiter.suppressed)


def test_the_names_are_those_of_the_program() -> None:
    """Tries to find a limited event that nothing logs, or an incident that has no rate of its own."""
    text = "".join(path.read_text() for path in SOURCES if path.name != "logs.py")
    logged = set(re.findall(r'_log\.\w+\(\s*"([\w.]+)"', text))
    assert set(LINES) <= logged
    assert set(INCIDENTS) == set(re.findall(r'(?:incident|report)\(\s*"([\w.]+)"', text))


def test_a_level_that_changes(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to have a logger that was used already go on at the level, or in the format, that it began with."""
    configure_logging(Settings(log_level="warning", log_format="console"))
    log = structlog.get_logger("test")
    log.info("a")
    set_log_level("debug")
    log.debug("b")
    set_log_level("error")
    log.warning("c")
    configure_logging(Settings(log_level="info", log_format="json"))
    log.info("d", n=1)
    log.log(logging.INFO, "e")
    shown = capsys.readouterr().err.splitlines()
    assert 3 == len(shown), shown
    assert "b" in shown[0]
    assert {"event": "d", "n": 1} == {key: json.loads(shown[1])[key] for key in ("event", "n")}
    assert "e" == json.loads(shown[2])["event"]


async def test_a_client_floods_the_log(database_url: str) -> None:
    """Tries to fill the log by connecting and leaving again, over and over."""
    count = BURST + 60
    flags = ("--log-format", "json", "--arrivals-at-once", "100000")
    async with daemon(database_url, *flags) as server:
        began = trio.current_time()
        for _ in range(count):
            async with raw_socket(server.http) as client:
                await client.message()
        took_s = trio.current_time() - began
        shown = (await request(server.http, "GET", "/metrics")).body.decode()
        server.process.terminate()
        assert 0 == await server.ends()
    lines = [json.loads(line) for line in server.log.splitlines()]
    opened = sum(line["event"] == "connection.opened" for line in lines)
    told = sum(
        line["lines"] for line in lines if line["event"] == "log.suppressed" and line["of"] == "connection.opened"
    )
    assert BURST <= opened <= BURST + 1 + PER_S * took_s
    assert told <= count - opened
    found = re.search(r'ngos_log_lines_suppressed_total{event="connection.opened"} (\S+)', shown)
    assert found is not None
    assert count - opened == float(found[1])


async def test_no_secrets_and_no_payloads(database_url: str, tmp_path: Path) -> None:
    """Tries to find a token, a password, or what a client sent, in the log of a server that met all kinds of faults."""
    mint, marker = Mint(tmp_path), "s3cretmarker"
    good = mint.token("alice")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in mint.settings.items()]
    url = make_conninfo(database_url, password=marker)
    async with daemon(url, "--log-level", "debug", *flags) as server:
        async with connect(server.url, token=good) as client:
            await client.create_token(metadata={"k": marker})
            await client.publish("room", marker, {"x": marker})
            with pytest.raises(CommandError):
                await client.publish("tokens", marker, {"x": marker})
        async with raw_socket(server.http, headers={"Authorization": f"Bearer {good}"}) as client:
            for text in (marker, json.dumps({"id": marker, "type": marker}), json.dumps({"type": "ping", marker: 1})):
                await client.text(text)
            await client.command("authenticate", {"token": marker, "more": marker})
            await client.frame(2, marker.encode())
            await client.closed()
        assert 401 == (await knock(server.http, headers={"Authorization": f"Bearer {marker}"})).status
        assert 400 == (await knock(server.http, target=f"/ws?client_id=%00{marker}")).status
        await request(server.http, "POST", f"/ws/publish/{marker}", content=marker.encode())
        server.process.terminate()
        assert 0 == await server.ends()
    assert "connection.closed" in server.log
    for secret in (marker, good, good.rpartition(".")[2], "s" * 48):
        assert secret not in server.log
