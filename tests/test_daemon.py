"""The daemon from outside: what an operator can mend is one line, and every signal ends it in good order."""

from __future__ import annotations

import json
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from ngos.client.errors import ConnectionLost
from ngos.client.trio import connect
from ngos.config import Settings
from ngos.daemon import Daemon
from ngos.errors import SetupError
from ngos.listening import listen
from ngos.systemd import Notifier
from tests.daemons import LIMIT_S, daemon
from tests.tokens import Mint
from tests.web.wire import RawSocket, origin_of, raw_socket, request


async def first_event(socket: RawSocket) -> tuple[str, dict[str, object]]:
    message = await socket.message()
    return message["type"], message["payload"]


async def test_all_come_at_once(database_url: str) -> None:
    """Tries to have some of 500 clients that come at once sent away, to try again seconds later, before they are heard.

    The server is stopped meanwhile, so that the kernel has to keep them all.
    """
    async with daemon(database_url) as server, AsyncExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)
        host, port = server.http.removeprefix("http://").split(":")
        with trio.fail_after(LIMIT_S):
            clients = [await stack.enter_async_context(await trio.open_tcp_stream(host, int(port))) for _ in range(500)]
            await clients[-1].send_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            server.process.send_signal(signal.SIGCONT)
            assert (await clients[-1].receive_some()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_gentle_end(database_url: str, number: signal.Signals) -> None:
    """On a signal every client hears `system.draining` if it follows `system`, then 1012; exit code 0, no traceback."""
    async with daemon(database_url, "--log-format", "json", "--status-interval-s", "60") as server:  # noqa: SIM117
        async with (
            raw_socket(server.http) as watcher,
            raw_socket(server.http) as busy,
            raw_socket(server.http) as idle,
        ):
            for client in (watcher, busy, idle):
                await client.message()
            await watcher.command("subscribe", {"topic": "system"})
            await busy.command("subscribe", {"topic": "tokens"})
            assert "subscribed" == (await watcher.message())["type"]
            assert "subscribed" == (await busy.message())["type"]
            server.process.send_signal(number)
            type_, payload = await first_event(watcher)
            assert "system.draining" == type_
            after_ms = payload["reconnect_after_ms"]
            assert isinstance(after_ms, int)
            assert after_ms >= 0
            for client in (watcher, busy, idle):
                assert 1012 == await client.closed()
                await client.frame(8, b"\x03\xf4")
            assert 0 == await server.ends()
    assert "Traceback" not in server.log
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {"event", "level", "timestamp"} <= set.intersection(*(set(line) for line in lines))
    assert {"info"} == {line["level"] for line in lines}
    events = [line["event"] for line in lines]
    assert ["server.ready", "server.draining", "server.stopped"] == [e for e in events if e.startswith("server.")]
    assert 3 == events.count("connection.closed")


async def test_every_watcher_hears_of_the_end(database_url: str) -> None:
    """No order of tasks lets a connection be closed before it got `system.draining`."""
    async with daemon(database_url) as server, trio.open_nursery() as nursery:
        missed: list[str] = []
        subscribed = trio.Semaphore(0)

        async def watch() -> None:
            async with connect(server.url, reconnect=False) as client, client.subscribe("system") as events:
                subscribed.release()
                heard: list[str] = []
                with pytest.raises(ConnectionLost) as caught:
                    while True:
                        heard.append((await anext(events)).type)
                assert 1012 == caught.value.code
                if "system.draining" not in heard:
                    missed.append("one")

        for _ in range(50):
            nursery.start_soon(watch)
        for _ in range(50):
            await subscribed.acquire()
        server.process.terminate()
        assert 0 == await server.ends()
    assert [] == missed


async def test_a_drain_with_readers_and_others(database_url: str) -> None:
    """Tries to have a reader cut without its 1012, all of them sent off at once, or the end held up by who never reads.

    200 read; of 20 that don't, the kernel's buffers are full and events wait.
    """
    drain_s, readers, deaf = 3.0, 200, 20
    codes: list[int] = []
    times: list[float] = []
    flags = ("--drain-s", str(drain_s), "--close-s", "0.5", "--status-interval-s", "60")
    async with daemon(database_url, *flags) as server, trio.open_nursery() as nursery, AsyncExitStack() as stack:

        async def read(client: RawSocket) -> None:
            codes.append(await client.closed())
            times.append(trio.current_time())
            with suppress(trio.BrokenResourceError):  # it may have waited for this for as long as it waits
                await client.frame(8, b"\x03\xf4")

        for number in range(readers + deaf):
            client = await stack.enter_async_context(raw_socket(server.http))
            await client.message()
            if number < readers:
                nursery.start_soon(read, client)
            else:
                await client.command("subscribe", {"topic": "flood"})
                await client.message()
        publisher = await stack.enter_async_context(raw_socket(server.http))
        payload = {"topic": "flood", "type": "t", "payload": {"x": "x" * 50_000}}
        for _ in range(16):
            await publisher.command("publish", payload)
        for _ in range(17):
            await publisher.message()
        nursery.start_soon(read, publisher)
        assert b"ngos_mailbox_bytes 0.0" not in (await request(server.http, "GET", "/metrics")).body
        started = trio.current_time()
        server.process.terminate()
        with trio.fail_after(drain_s + 1):
            assert 0 == await server.process.wait()
    assert [1012] * (readers + 1) == codes
    assert max(times) - started < drain_s
    assert max(times) - min(times) > drain_s / 4, "spread"
    assert "Traceback" not in server.log


async def test_an_answer_over_http_that_is_not_read(database_url: str) -> None:
    """Tries to hold up the end by asking for many documents over HTTP and reading none of them."""
    async with daemon(database_url, "--drain-s", "0.5", "--close-s", "0.5") as server:
        host, port = origin_of(server.http)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((host, port))
            deaf.setblocking(False)
            asked = b"GET /asyncapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
            with pytest.raises(BlockingIOError):  # the server has stopped reading, because it can't answer
                while True:
                    deaf.send(asked * 200)
                    await request(server.http, "GET", "/livez")
            server.process.terminate()
            with trio.fail_after(1.5):
                assert 0 == await server.process.wait()
    assert "Traceback" not in server.log


async def test_a_client_that_does_not_close_holds_nobody_up(database_url: str) -> None:
    """The end comes within the drain time and a second, with clients that read nothing and close nothing."""
    async with daemon(database_url, "--drain-s", "0.5", "--close-s", "0.5") as server:  # noqa: SIM117
        async with raw_socket(server.http), raw_socket(server.http) as half:
            await half.stream.send_all(b"\x81")
            await request(server.http, "GET", "/livez")
            server.process.terminate()
            with trio.fail_after(2.0):
                assert 0 == await server.process.wait()
    assert "Traceback" not in server.log


async def test_a_second_signal_ends_at_once(database_url: str) -> None:
    """Who is in a hurry signals twice, and the drain time, which a silent client would use up, is over."""
    async with daemon(database_url, "--drain-s", "60", "--close-s", "60") as server:  # noqa: SIM117
        async with raw_socket(server.http) as socket:
            await socket.message()
            server.process.terminate()
            assert 1012 == await socket.closed()  # and does not answer
            server.process.terminate()
            with trio.fail_after(3.0):
                await server.process.wait()
    assert "Traceback" not in server.log
    assert "server.cut" in server.log


async def test_two_signals_at_once() -> None:
    """Tries to have the second signal begin another drain, because it is here before the first one has begun."""

    async def drain(_drain_s: float, *, at_once: bool) -> None:
        drains.append(at_once)
        await trio.sleep_forever()

    # Which task is first in a turn is up to chance.
    for _ in range(20):
        drains: list[bool] = []
        connections = SimpleNamespace(draining=False, drain=drain, cut=lambda: None)
        app: Any = SimpleNamespace(connections=connections, settings=Settings())
        with socket.socket() as listener, trio.fail_after(LIMIT_S):
            server = Daemon(listener, Notifier(None, None), is_inherited=False, reread=None)
            server._app = app
            async with trio.open_nursery() as nursery:
                await nursery.start(server.heed_signals, nursery.cancel_scope)
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
        assert len(drains) < 2


async def test_a_drain_is_said_when_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to read in the log that the server drains while who comes is let in as if it did not."""

    async def drain(_drain_s: float, *, at_once: bool) -> None:
        assert not at_once

    def say(event: str, **_more: object) -> None:
        seen.append((event, connections.draining))
        nursery.cancel_scope.cancel()

    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr("ngos.daemon._log", SimpleNamespace(info=say))
    connections = SimpleNamespace(draining=False, drain=drain)
    app: Any = SimpleNamespace(connections=connections, settings=Settings())
    with socket.socket() as listener, trio.fail_after(LIMIT_S):
        server = Daemon(listener, Notifier(None, None), is_inherited=False, reread=None)
        server._app = app
        async with trio.open_nursery() as nursery:
            await nursery.start(server.heed_signals, nursery.cancel_scope)
            signal.raise_signal(signal.SIGTERM)
    assert [("server.draining", True)] == seen


async def test_a_restart_loses_nothing(database_url: str) -> None:
    """What was answered before a gentle end is there after it, and seq goes on."""
    async with daemon(database_url) as server:
        async with connect(server.url) as client:
            token = await client.create_token(type="kept")
        server.process.terminate()
        assert 0 == await server.ends()
    async with daemon(database_url) as server, connect(server.url) as client:
        assert token == await client.get_token(token.token_id)
        async with client.subscribe("tokens") as events:
            await client.create_token()
            assert 2 == (await anext(aiter(events))).seq


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--database-url", "postgresql://127.0.0.1/none?nonsense=1"), "postgresql://user:password@host/name"),
        (("--host", "no.such.host.invalid"), "can't listen on no.such.host.invalid"),
        (("--host", "x" * 80 + ".invalid"), "can't listen on"),
        (("--host", "192.0.2.1", "--allow-anonymous", "true"), "can't listen on 192.0.2.1"),
    ],
)
async def test_what_the_operator_can_mend(database_url: str, flags: tuple[str, ...], said: str) -> None:
    """A setting that can't work ends the start with one line and exit code 1."""
    command = [sys.executable, "-m", "ngos", "serve", "--port", "0", "--database-url", database_url, *flags]
    with trio.fail_after(LIMIT_S):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert (1, b"") == (done.returncode, done.stdout)
    assert done.stderr.startswith(b"ngos: ")
    assert 1 == done.stderr.count(b"\n")
    assert said in done.stderr.decode()


def test_a_port_that_is_taken() -> None:
    """A port that somebody else listens on is SetupError in one line that says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match="--port") as caught:
            listen(Settings(port=port))
    assert "\n" not in str(caught.value)
    assert str(port) in str(caught.value)


def test_listening_again_at_once() -> None:
    """A restart gets its port back, though connections of the last run linger in the kernel."""
    with listen(Settings(port=0)) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            first.setblocking(True)
            accepted, _ = first.accept()
            accepted.close()
    with listen(Settings(port=port)) as second:
        assert port == second.getsockname()[1]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", "192.0.2.1"])
async def test_listening_to_the_world_without_authentication(database_url: str, host: str) -> None:
    """Tries to be open to everybody by mistake: one line names the two settings, each of which allows it."""
    command = [sys.executable, "-m", "ngos", "serve", "--port", "0", "--database-url", database_url, "--host", host]
    with trio.fail_after(LIMIT_S):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert (2, b"", 1) == (done.returncode, done.stdout, done.stderr.count(b"\n"))
    assert f"ngos: refusing to listen on {host}".encode() in done.stderr
    assert b"NGOS_AUTH_MODE=jwt" in done.stderr
    assert b"NGOS_ALLOW_ANONYMOUS=true" in done.stderr


@pytest.mark.parametrize("allows", ["anonymous", "jwt"])
async def test_listening_to_the_world_on_purpose(database_url: str, tmp_path: Path, allows: str) -> None:
    """Either of the two settings is enough to listen on all addresses."""
    flags = ["--allow-anonymous", "true"] if allows == "anonymous" else jwt_flags(tmp_path)
    async with daemon(database_url, "--host", "0.0.0.0", *flags) as server:
        answer = await request(server.http, "GET", "/readyz")
        assert 200 == answer.status


def jwt_flags(folder: Path) -> list[str]:
    return ["--auth-mode", "jwt", "--auth-secret-file", str(Mint(folder).settings["auth_secret_file"])]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--auth-mode", "jwt"], "NGOS_AUTH_SECRET_FILE"),
        (["--auth-mode", "jwt", "--auth-secret-file", "/nowhere"], "/nowhere"),
        (["--auth-mode", "jwt", "--auth-jwks-url", "https://a.example/keys"], "NGOS_AUTH_ISSUER"),
        (["--auth-mode", "basic"], "--auth-mode: must be one of none, jwt"),
        (["--proxies", "proxy.example"], "--proxies: must be addresses"),
        (["--auth-leeway-s", "301"], "from 0 to 300"),
    ],
)
async def test_authentication_that_can_t_work(database_url: str, flags: list[str], said: str) -> None:
    """Tries to start with half of an authentication: one line says what is missing, and nothing listens."""
    command = [sys.executable, "-m", "ngos", "serve", "--port", "0", "--database-url", database_url, *flags]
    with trio.fail_after(LIMIT_S):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert (2, b"", 1) == (done.returncode, done.stdout, done.stderr.count(b"\n"))
    assert said in done.stderr.decode()
