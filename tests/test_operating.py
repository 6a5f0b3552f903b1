"""docs/operating.md: every example in it that can be run is run, as it is written but for addresses."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
import pytest
import trio
import trustme
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from trio_websocket import open_websocket_url

from ngos.client.trio import connect
from ngos.loading import load_settings
from tests.daemons import daemon
from tests.databases import TestServer
from tests.servers import Running, only_frames

TEXT: Final = (Path(__file__).parent.parent / "docs/operating.md").read_text("utf-8")
BLOCKS: Final = dict(re.findall(r"<!-- run: ([\w-]+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL))
TRIES_S: Final = 20.0
PATHS: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
PACKAGES: Final = {"nginx": "nginx-light", "caddy": "caddy"}


def test_all_are_run() -> None:
    """Tries to add an example, or a fenced block without a mark, that no test runs."""
    assert {
        *("toml", "environment", "nginx", "caddy", "sql-database", "sql-tables", "sql-sizes"),
        *("epochs", "backup", "restore", "embedded", "embedded-restore"),
    } == BLOCKS.keys()
    assert len(BLOCKS) == len(re.findall(r"^```\w+$", TEXT, re.MULTILINE))


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("NGOS_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_the_settings(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tries to have a setting in the examples that ngos does not know, or understands otherwise."""
    file = tmp_path / "ngos.toml"
    file.write_text(BLOCKS["toml"])
    variables = dict(line.split("=", 1) for line in BLOCKS["environment"].splitlines() if not line.startswith("#"))
    assert "/etc/ngos/ngos.toml" == variables["NGOS_CONFIG"]
    for name, value in (variables | {"NGOS_CONFIG": str(file)}).items():
        clean.setenv(name, value)
    settings = load_settings({}, None)
    assert ("jwt", ("127.0.0.1",), ("chat.*",)) == (settings.auth_mode, settings.proxies, settings.durable_topics)
    assert settings.database_url is not None
    assert "db.example.com" in str.__str__(settings.database_url)


def test_the_sql(postgres_server: TestServer, database_url: str) -> None:
    """Tries to have SQL in the examples that Postgres refuses, or that says nothing."""
    name = str(conninfo_to_dict(database_url)["dbname"]) + "_x"
    with psycopg.connect(database_url, autocommit=True) as db:
        try:
            for statement in re.sub(r"\bngos\b", name, BLOCKS["sql-database"]).strip().splitlines():
                db.execute(statement)
            make_conninfo(database_url, dbname=name, user=name)
        finally:
            db.execute(f"drop database if exists {name}")
            db.execute(f"drop role if exists {name}")
        db.execute(BLOCKS["sql-tables"])
        assert 5 == len(db.execute(BLOCKS["sql-sizes"]).fetchall())


async def sh(block: str, **variables: str) -> str:
    """Run a block as a shell does that ends at the first failure, with this `ngos`; returns what it printed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **variables, "PATH": path}
    done = await trio.run_process(
        ["sh", "-euc", block], check=False, capture_stdout=True, stderr=subprocess.STDOUT, env=environment
    )
    output = done.stdout.decode()
    if "server version mismatch" in output:
        pytest.skip("LOUD: the pg_dump of this machine is older than the Postgres that the tests use")
    assert 0 == done.returncode, output
    return output


async def test_backup_and_restore(postgres_server: TestServer, empty_database_url: str, tmp_path: Path) -> None:
    """Tries the commands for pg_dump: beside a server that runs, into a new database, with new epochs for it."""
    restored = postgres_server.create_database(migrated=False)
    variables = {
        "BACKUP": str(tmp_path / "ngos.dump"),
        "NGOS_DATABASE_URL": empty_database_url,
        "RESTORED_URL": restored,
    }
    try:
        async with daemon(empty_database_url) as server, connect(server.url) as client:
            await client.create_token(type="kept")
            await sh(BLOCKS["backup"], **variables)
        output = await sh(BLOCKS["restore"], **variables)
        assert "new epochs for 3 topics: " in output
        assert "nothing lost, nothing twice" in output
        assert "asked for" in await sh(BLOCKS["epochs"], **variables)
        async with daemon(restored) as server, connect(server.url) as client:
            assert "epochs_renewed" not in server.log  # once is enough
            assert ["kept"] == [token.type for token in (await client.list_tokens()).tokens]
    finally:
        postgres_server.drop_database(restored)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket, and that Postgres' user may enter."""
    with tempfile.TemporaryDirectory(prefix="ngos-op-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def test_the_embedded_one(short_path: Path) -> None:
    """Tries the commands for the embedded Postgres: a dump while it runs, and a restore with new epochs."""
    backup = str(short_path / "ngos.dump")
    first, second = short_path / "a", short_path / "b"
    async with daemon("", "--data-dir", str(first)) as server, connect(server.url) as client:
        await client.create_token(type="kept")
        before = (await client.list_tokens()).position
        await sh(BLOCKS["embedded"], BACKUP=backup, NGOS_DATA_DIR=str(first))
    async with daemon("", "--data-dir", str(second)):
        setting_bin = BLOCKS["embedded"].splitlines()[0]
        block = f"{setting_bin}\n{BLOCKS['embedded-restore']}"
        await sh(block, BACKUP=backup, NGOS_DATA_DIR=str(second))
    async with daemon("", "--data-dir", str(second)) as server, connect(server.url) as client:
        assert "log.epochs_renewed" in server.log
        listed = await client.list_tokens()
        assert ["kept"] == [token.type for token in listed.tokens]
        assert before.seq == listed.position.seq
        assert before.epoch != listed.position.epoch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str:
    """Where a proxy is; in CI Debian's is installed, as Chromium is. Without one its test is skipped."""
    found = shutil.which(name, path=PATHS)
    if found is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        script = 'apt-get -qq update && exec apt-get -qq install -y --no-install-recommends "$1"'
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["sh", "-c", script, "sh", PACKAGES[name]], check=True, env=environment)
        found = shutil.which(name, path=PATHS)
    if found is None:
        pytest.skip(f"LOUD: no {name} on this machine, so its configuration in docs/operating.md was not tried")
    return found


@asynccontextmanager
async def proxy(command: list[str], port: int, **variables: str) -> AsyncIterator[None]:
    """A proxy in a process of its own, once it accepts connections; killed at the end."""
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, env={**os.environ, **variables})
        try:
            with trio.fail_after(TRIES_S):
                await _accepts(process, port)
            yield
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()  # noqa: ASYNC102 - it was told to
        nursery.cancel_scope.cancel()


async def _accepts(process: trio.Process, port: int) -> None:
    while True:
        assert process.returncode is None, "it ended"
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.lowlevel.checkpoint()
        else:
            await stream.aclose()
            return


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Who signs the proxy's certificate, which is in `proxy.pem` and `proxy.key`."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    with (tmp_path / "proxy.pem").open("wb") as chain:
        chain.writelines(blob.bytes() for blob in certificate.cert_chain_pems)
    certificate.private_key_pem.write_to_path(str(tmp_path / "proxy.key"))
    return authority


async def talk_through(port: int, authority: trustme.CA) -> None:
    """A command, its event, of 15 kB each, through the proxy; and a plain request."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    metadata = {"long": "x" * 15_000}
    with trio.fail_after(TRIES_S):
        async with open_websocket_url(f"wss://localhost:{port}/ws?client_id=me", ssl_context=context) as ws:
            commands: list[dict[str, Any]] = [
                {"id": "1", "type": "subscribe", "payload": {"topic": "tokens"}},
                {"id": "2", "type": "token.create", "payload": {"metadata": metadata}},
            ]
            for command in commands:
                await ws.send_message(orjson.dumps(command).decode())
            seen = [orjson.loads(await ws.get_message()) for _ in range(4)]
            kinds = ["connection.established", "subscribed", "token.created", "token.created"]
            assert kinds == [message["type"] for message in seen]
            assert metadata == seen[-1]["payload"]["metadata"]
        stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=context)
        await stream.send_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 " in (await stream.receive_some()).splitlines()[0]
        await trio.aclose_forcefully(stream)


@only_frames
@pytest.mark.settings(proxies=("127.0.0.1",))
async def test_nginx(server: Running, tmp_path: Path, authority: trustme.CA) -> None:
    """Tries the configuration for nginx, with a real WebSocket over TLS through it."""
    nginx, port = program("nginx"), free_port()
    text = BLOCKS["nginx"].replace("127.0.0.1:8000", server.http.removeprefix("http://"))
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace("/etc/ssl/ngos", f"{tmp_path}/proxy")
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr warn; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{text}}}"
    )
    async with proxy([nginx, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], port):
        await talk_through(port, authority)


@only_frames
@pytest.mark.settings(proxies=("127.0.0.1",))
async def test_caddy(server: Running, tmp_path: Path, authority: trustme.CA) -> None:
    """Tries the configuration for Caddy, with a real WebSocket over TLS through it."""
    caddy, port = program("caddy"), free_port()
    text = BLOCKS["caddy"].replace("127.0.0.1:8000", server.http.removeprefix("http://"))
    own = f"{{\n    tls {tmp_path}/proxy.pem {tmp_path}/proxy.key"
    text = text.replace("ngos.example.com", f"https://localhost:{port}").replace("{", own, 1)
    file = tmp_path / "Caddyfile"
    file.write_text(f"{{\n    admin off\n    auto_https disable_redirects\n}}\n{text}")
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    async with proxy([caddy, "run", "--config", str(file), "--adapter", "caddyfile"], port, **home):
        await talk_through(port, authority)
