"""`ngos status`: what it tells of a server, and what it makes of answers that are none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from ngos.client.errors import ConnectFailed
from ngos.client.fetch import ANSWER_BYTES, get_json
from ngos.client.trio import connect
from ngos.status import look
from tests.daemons import LIMIT_S, NGOS, daemon
from tests.servers import Running, only_frames, running_server
from tests.tokens import Mint, grant


async def ngos(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(LIMIT_S):
        return await trio.run_process([*NGOS, *arguments], capture_stdout=True, capture_stderr=True, check=False)


@only_frames
async def test_what_it_tells(server: Running, nursery: trio.Nursery) -> None:
    """Tries to find a topic, a position, a rate or a talker missing, or a rate that is of another time."""
    async with (
        connect(server.url, client_id="talker") as talker,
        connect(server.url, client_id="quiet") as quiet,
        quiet.subscribe("tokens") as events,
        quiet.subscribe("chat"),
    ):
        await talker.create_token()
        before = await get_json(server.http, "/status", None, 5.0)
        for _ in range(20):
            await talker.create_token()
            await anext(events)
        from ngos.status import Report

        report = Report.between(before, await get_json(server.url, "/status", None, 5.0))
    told = json.loads(report.to_json())
    assert [] == told["reasons"]
    assert (2, 2, 2) == (told["connections"], told["subscriptions"], told["topic_count"])
    (tokens,) = [topic for topic in told["topics"] if topic["topic"] == "tokens"]
    assert (21, 1) == (tokens["seq"], tokens["subscribers"])
    rate = 20 / report.over_s
    assert rate == pytest.approx(tokens["events_per_s"], rel=0.01, abs=0.1)
    assert rate == pytest.approx(told["rates"]["commands_per_s"], rel=0.01, abs=0.1)
    assert ["talker", "quiet"] == [talker["client_id"] for talker in told["talkers"]]
    assert 21 == told["talkers"][0]["commands"]
    assert 20 == told["latencies"]["commit"]["count"]
    assert told["latencies"]["delivery"]["p99_s"] >= told["latencies"]["delivery"]["p50_s"] > 0
    assert {"used", "idle", "max", "waiting"} == told["pool"].keys()
    assert 21 == told["heads"]["tokens"]


async def test_the_command(database_url: str) -> None:
    """Tries to have it say that a server is well that is not, or print what no program can read."""
    async with daemon(database_url) as server, connect(server.url, client_id="me"):
        shown = await ngos("status", "--url", server.http, "--over-s", "0.1")
        assert 0 == shown.returncode, shown.stderr
        assert b"ready" in shown.stdout
        assert b"me " in shown.stdout
        told = await ngos("status", "--url", server.url, "--over-s", "0.1", "--json")
        assert 1 == json.loads(told.stdout)["connections"]


async def test_a_server_that_is_not_ready(database_url: str, tmp_path: Path, nursery: trio.Nursery) -> None:
    """Tries to have exit code 0 of a server whose database is away."""
    from tests.postgres.way import Way

    way = Way(database_url, tmp_path)
    await way.open(nursery)
    async with daemon(way.url) as server:
        way.close()
        await server.says("server.unready")
        told = await ngos("status", "--url", server.http, "--over-s", "0.1")
        assert 1 == told.returncode
        assert b"NOT READY: the database" in told.stdout


async def test_who_may_ask(database_url: str, tmp_path: Path) -> None:
    """Tries to be told without a token, or with one that may only read: one line says what is missing."""
    mint = Mint(tmp_path)
    async with running_server(database_url, **mint.settings) as server:
        for token, said in ((None, "a token is needed"), (mint.token("a", grant("read")), "not an administrator's")):
            with pytest.raises(ConnectFailed, match=said):
                await look(server.http, token, 0.1)
        assert 0 == (await look(server.http, mint.token("a", grant("admin")), 0.1)).now["connections"]


@asynccontextmanager
async def answering(nursery: trio.Nursery, answer: bytes | None) -> AsyncIterator[str]:
    """Something that answers each connection with these bytes, and hangs up; None: it never answers."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            if answer is None:
                await trio.sleep_forever()
            else:
                try:
                    await stream.send_all(answer)
                except trio.BrokenResourceError:
                    pass  # it has heard enough

    (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    nursery.cancel_scope.cancel()


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "not HTTP"),
        (b"\x00\xff" * 1000, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "not HTTP"),
        (http(b"<html>"), "not JSON"),
        (http(b"[]"), "not JSON"),
        (http(b"{}"), "no status of ngos"),
        (http(b'{"at_s": 1, "counts": 3, "topics": [], "talkers": [], "seconds": {}}'), "no status of ngos"),
        (http(b"x" * (ANSWER_BYTES + 100_000)), "more than 4 MiB"),
        (http(b'{"message": "no"}', b"404 Not Found"), "404 Not Found: no"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, "not HTTP"),
        (None, "no answer within 0.3 s"),
    ],
    ids=["nothing", "noise", "half", "html", "list", "empty", "wrong", "huge", "404", "headers", "silence"],
)
async def test_answers_that_are_none(
    nursery: trio.Nursery, answer: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to end it in a traceback, a hang, or with more memory than its limit, by what is no ngos server."""
    if answer is None:
        monkeypatch.setattr("ngos.status.ANSWER_S", 0.3)
    async with answering(nursery, answer) as url:
        with pytest.raises(ConnectFailed, match=said):
            await look(url, None, 0.1)


@pytest.mark.parametrize(
    ("url", "said"),
    [("ftp://x/", "not a URL"), ("http://127.0.0.1:1", "connection refused"), ("http://", "not a URL")],
    ids=["scheme", "nobody", "no-host"],
)
async def test_urls(url: str, said: str) -> None:
    """Tries a URL that leads nowhere: one line says so, exit code 1."""
    done = await ngos("status", "--url", url)
    assert (1, b"", 1) == (done.returncode, done.stdout, done.stderr.count(b"\n"))
    assert said in done.stderr.decode()
