"""`ngos status` against what lies to it: half an answer, markup, escapes, certificates; and on odd terminals."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trustme

from ngos.client.errors import ConnectFailed
from ngos.status import look
from tests.daemons import LIMIT_S, NGOS, daemon

SECONDS: Final = {"bounds": [0.1], "counts": [0, 0], "total": 0.0}
COUNTS: Final = ("commands", "errors", "commits", "events", "deliveries", "accepted", "slow_consumers")
ANSWER: Final[dict[str, Any]] = {
    "server": {"version": "1", "protocol": 1},
    "node": {"id": "1", "nodes": 1, "backplane": "none"},
    "at_s": 1.0,
    "uptime_s": 1.0,
    "reasons": [],
    "connections": 0,
    "sockets": 0,
    "subscriptions": 0,
    "mailbox_bytes": 0,
    "pool": {"used": 0, "idle": 0, "max": 1, "waiting": 0},
    "counts": dict.fromkeys(COUNTS, 0),
    "seconds": {"commit": SECONDS},
    "heads": {},
    "topic_count": 0,
    "topics": [],
    "talkers": [],
    "waited_for": [],
}
"""What a server answers that has done nothing yet."""
NEEDED: Final = tuple(name for name in ANSWER if name != "sockets")
STEERS: Final = "a\x1b[2J\x9bb[/red]\u202e"
TALKER: Final = {
    "connection_id": STEERS,
    "client_id": STEERS,
    "connected_at": STEERS,
    "commands": 1,
    "subscriptions": 1,
    "waiting_bytes": 4242,
}
TOPIC: Final = {"topic": STEERS, "epoch": STEERS, "seq": 1, "subscribers": 1, "events": 1}


async def answering(nursery: trio.Nursery, answer: Any, tls: ssl.SSLContext | None = None) -> int:
    """A port where each request gets this answer."""
    body = json.dumps(answer).encode()

    async def serve(stream: trio.abc.Stream) -> None:
        if tls is not None:
            stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        try:
            async with stream:
                await stream.receive_some()
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it did not like our certificate

    (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    port: int = listener.socket.getsockname()[1]
    return port


async def status(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """What an operator gets who types it."""
    command = [*NGOS, "status", "--over-s", "0.1", *arguments]
    with trio.fail_after(LIMIT_S):
        return await trio.run_process(
            ["env", *(f"{name}={value}" for name, value in (environment or {}).items()), *command],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


def line_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line that it failed with."""
    assert (1, b"", 1) == (done.returncode, done.stdout, done.stderr.count(b"\n")), done
    return done.stderr.decode()


@pytest.mark.parametrize("missing", NEEDED)
async def test_a_server_of_another_version(nursery: trio.Nursery, missing: str) -> None:
    """Tries a status that lacks one thing: a line, never a traceback, and nothing printed that is half of it."""
    port = await answering(nursery, {name: value for name, value in ANSWER.items() if name != missing})
    with pytest.raises(ConnectFailed, match="is it another version"):
        await look(f"http://127.0.0.1:{port}", None, 0.0)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("option", [(), ("--json",)], ids=["table", "json"])
async def test_half_a_status_in_one_line(nursery: trio.Nursery, option: tuple[str, ...]) -> None:
    """Tries to end the command itself in a traceback by half a status, whichever way it is to be shown."""
    port = await answering(nursery, {name: ANSWER[name] for name in ("at_s", "counts", "seconds", "topics", "talkers")})
    assert "is it another version" in line_of(await status("--url", f"http://127.0.0.1:{port}", *option))
    nursery.cancel_scope.cancel()


async def test_what_others_said_steers_no_terminal(nursery: trio.Nursery) -> None:
    """Tries to clear the operator's screen, or to end the table, by the name of a topic, a client or a version."""
    answer = {**ANSWER, "topics": [TOPIC], "talkers": [TALKER], "waited_for": [TALKER]}
    answer |= {"server": {"version": STEERS, "protocol": 1}, "heads": {STEERS + "/": 1}, "reasons": [STEERS]}
    answer |= {"node": {"id": STEERS, "nodes": 1, "backplane": STEERS}}
    done = await status("--url", f"http://127.0.0.1:{await answering(nursery, answer)}")
    shown = done.stdout.decode()
    assert (1, b"") == (done.returncode, done.stderr)
    assert all(line.isprintable() for line in shown.splitlines())
    assert "[/red]" in shown
    assert 2 == shown.count("4,242")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["http://[bad", "http://h:99999", "https://127.0.0.1:1"])
async def test_the_url_is_told_as_it_was_given(url: str) -> None:
    """Tries a URL that leads nowhere: the line has it as it was typed, not as what we made of it."""
    assert f"can't connect to {url}: " in line_of(await status("--url", url))


async def test_certificates(nursery: trio.Nursery, tmp_path: Path) -> None:
    """Tries a certificate that is not trusted, one that is, and no TLS at all: each is told as what it is."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    url = f"https://127.0.0.1:{await answering(nursery, ANSWER, tls)}"
    assert "its certificate is not trusted here" in line_of(await status("--url", url))
    trusting = await status("--url", url, environment={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    assert (0, b"") == (trusting.returncode, trusting.stderr)
    plain = await answering(nursery, ANSWER)
    assert "is it http://" in line_of(await status("--url", f"https://127.0.0.1:{plain}"))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("columns", ["1", "20", "500"])
async def test_odd_terminals(nursery: trio.Nursery, columns: str) -> None:
    """Tries a terminal that is a character wide, or that can do nothing: it shows what fits, and ends well."""
    answer = {**ANSWER, "topics": [TOPIC], "talkers": [TALKER]}
    url = f"http://127.0.0.1:{await answering(nursery, answer)}"
    environment = {"COLUMNS": columns, "TERM": "dumb", "FORCE_COLOR": "1"}
    done = await status("--url", url, environment=environment)
    assert (0, b"") == (done.returncode, done.stderr)
    assert done.stdout
    nursery.cancel_scope.cancel()


async def test_watching_through_a_pipe(database_url: str) -> None:
    """Tries to have --watch keep what it saw until it is stopped, where its output is no terminal; Ctrl-C ends it."""
    async with daemon(database_url) as server:
        command = [*NGOS, "status", "--watch", "--over-s", "0.1", "--url", server.url]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        seen = b""
        with trio.fail_after(LIMIT_S):
            while len(re.findall(rb"ngos \S+ at ", seen)) < 3:
                seen += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            async for more in process.stdout:
                seen += more
            assert 130 == await process.wait()
        assert b"\x1b" not in seen
        assert b"" == (await process.stderr.receive_some()).strip()  # click's own end of the line that ^C is on
        await process.stdout.aclose()
        await process.stderr.aclose()


async def test_watching_a_server_that_ends(database_url: str) -> None:
    """Tries to have --watch hang, or end well, when the server is stopped under it."""
    async with daemon(database_url) as server, trio.open_nursery() as nursery:
        command = [*NGOS, "status", "--watch", "--over-s", "0.1", "--url", server.http]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        said = bytearray()

        async def listen() -> None:
            async for data in process.stderr:
                said.extend(data)

        nursery.start_soon(listen)
        with trio.fail_after(LIMIT_S):
            assert await process.stdout.receive_some()
            server.process.terminate()
            async for _ in process.stdout:
                pass
            assert 1 == await process.wait()
        await process.stdout.aclose()
    line = said.decode()
    assert line.startswith(f"ngos: can't connect to {server.http}: ")
    assert 1 == line.count("\n")
