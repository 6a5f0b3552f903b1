"""SIGHUP: what may change live does, what may not is said, and what is wrong changes nothing."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from attrs import define

from ngos import daemon as daemon_module
from ngos.client.callbacks import Callbacks
from ngos.client.errors import CommandError, ConnectFailed
from ngos.client.trio import connect
from ngos.config import FIELDS, RESTART, Settings
from ngos.listening import listen
from ngos.reload import change_of
from ngos.systemd import Notifier
from tests.daemons import Daemon, daemon
from tests.tokens import Mint
from tests.web.test_access import knock
from tests.web.wire import request


@define
class Reloading:
    """A daemon that reads its settings from a file."""

    server: Daemon
    file: Path
    reloads: int = 0

    async def change(self, **values: Any) -> dict[str, Any]:
        """Write other settings, send SIGHUP, and return what the log says of it."""
        self.write(self.file, values)
        return await self.sighup()

    async def sighup(self) -> dict[str, Any]:
        self.reloads += 1
        self.server.process.send_signal(signal.SIGHUP)
        await self.server.says('"event": "settings.', self.reloads)
        lines = [line for line in self.server.log.splitlines() if '"event": "settings.' in line]
        line: dict[str, Any] = json.loads(lines[-1])
        return line

    @staticmethod
    def write(file: Path, values: dict[str, Any]) -> None:
        file.write_text("[ngos]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))


@asynccontextmanager
async def reloading(database_url: str, folder: Path, **values: Any) -> AsyncIterator[Reloading]:
    file = folder / "ngos.toml"
    Reloading.write(file, values)
    async with daemon(database_url, "--config", str(file), "--log-format", "json") as server:
        yield Reloading(server, file)


async def test_limits(database_url: str, tmp_path: Path) -> None:
    """Tries to go on by an old limit: one of the door, one of commands, one that a greeting tells."""
    async with reloading(database_url, tmp_path, log_level="error") as running:
        async with connect(running.server.url) as client:
            assert 128 == client.established.limits.subscriptions
            told = await running.change(commands_per_s=1, burst_s=1, subscriptions=1, connections_per_address=1)
            assert "settings.reloaded" == told["event"]
            assert {"commands_per_s", "burst_s", "subscriptions", "connections_per_address", "log_level"} == {
                text.partition(":")[0] for text in told["changed"]
            }
            assert "log_level: error -> info" in told["changed"]
            with pytest.raises(CommandError, match="rate") as caught:
                for _ in range(10):
                    await client.ping()
            assert "rate_limited" == caught.value.code
            with pytest.raises(ConnectFailed) as refused:
                async with connect(running.server.url):
                    pass
            assert 429 == refused.value.status
        told = await running.change(subscriptions=1, message_bytes=2000)
        big = {"type": "t", "payload": {"x": "x" * 2000}}
        assert 413 == (await request(running.server.http, "POST", "/ws/publish/mine", body=big)).status
        async with connect(running.server.url) as client:
            limits = client.established.limits
            assert (1, 2000) == (limits.subscriptions, limits.message_bytes)
            for _ in range(20):
                await client.ping()


async def test_origins(database_url: str, tmp_path: Path) -> None:
    """Tries to be let in from a page that was taken off the list, and kept out from one that was put on it."""
    async with reloading(database_url, tmp_path, allowed_origins=["https://old.example"]) as running:
        await running.change(allowed_origins=["https://new.example"])
        statuses = {
            name: (await knock(running.server.http, headers={"Origin": f"https://{name}.example"})).status
            for name in ("old", "new")
        }
        assert {"old": 403, "new": 101} == statuses


async def test_keys(database_url: str, tmp_path: Path) -> None:
    """Tries a token of a secret that was replaced; and to lose the one that works by a file that can't be read."""
    mint = Mint(tmp_path)
    values = {**mint.settings, "auth_secret_file": str(mint.settings["auth_secret_file"])}
    async with reloading(database_url, tmp_path, **values) as running:
        old = mint.bearer()
        assert 101 == (await knock(running.server.http, headers=old)).status
        secret: Path = mint.settings["auth_secret_file"]
        secret.write_text("short")
        told = await running.sighup()
        assert ("settings.rejected", "error") == (told["event"], told["level"])
        assert "short" not in told["reason"].replace("too short", "")
        assert 101 == (await knock(running.server.http, headers=old)).status
        secret.write_text("n" * 48)
        assert "settings.reloaded" == (await running.sighup())["event"]
        assert 401 == (await knock(running.server.http, headers=old)).status


async def test_durable_topics(database_url: str, tmp_path: Path, nursery: trio.Nursery) -> None:
    """Tries to go on with a subscription to what was said to be ephemeral, when it is durable now."""
    lost: list[int | None] = []
    async with reloading(database_url, tmp_path) as running:
        callbacks = Callbacks(disconnected=lambda failure, _next_s: lost.append(getattr(failure, "code", None)))
        async with (
            connect(running.server.url, callbacks=callbacks) as follower,
            connect(running.server.url) as other,
            follower.subscribe("chat.1") as events,
        ):
            assert (await other.publish("chat.1", "said")).seq is None
            assert (await anext(events)).seq is None
            async with other.subscribe("other"):
                await running.change(durable_topics=["chat.*"])
                assert 1 == (await other.publish("chat.1", "said", {"n": 1})).seq
                while not lost:
                    await trio.testing.wait_all_tasks_blocked(0.01)
        assert [1012] == lost
        async with connect(running.server.url) as client, client.subscribe("chat.1", since=0) as events:
            assert 1 == (await anext(events)).seq


async def test_what_needs_a_restart(database_url: str, tmp_path: Path) -> None:
    """Tries to change a port, or a secret's value, live: it is told, without the secret, and not done."""
    async with reloading(database_url, tmp_path) as running:
        told = await running.change(port=1, database_pool_size=3, drain_s=3.0)
        # The port is a flag's and the database a variable's, which go before the file.
        assert ["database_pool_size: 8 -> 3"] == told["needs_restart"]
        assert ["drain_s: 10.0 -> 3.0"] == told["changed"]
        assert 200 == (await request(running.server.http, "GET", "/readyz")).status


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ngos]\nclose_s = 'x'\ndrain_s = 1\n", "close_s: must be"),
        ("[ngos]\nauth_keys_file = '~nobody-here/x'\ndrain_s = 1\n", "auth_keys_file: must be"),
        ("[ngos]\nretention_age_s = 1e15\ndrain_s = 1\n", "retention_age_s: must be"),
        ("[ngos\n", "not TOML"),
        ("[ngos]\ndrein_s = 1\n", "did you mean"),
    ],
    ids=["value", "home", "forever", "syntax", "name"],
)
async def test_what_is_wrong(database_url: str, tmp_path: Path, text: str, said: str) -> None:
    """Tries to have half of a wrong file take effect: one line says what is wrong, and all stays as it was."""
    async with reloading(database_url, tmp_path) as running:
        running.file.write_text(text)
        told = await running.sighup()
        assert "settings.rejected" == told["event"]
        assert said in told["reason"]
        assert ["drain_s: 10.0 -> 3.0"] == (await running.change(drain_s=3.0))["changed"]


def test_the_kernel_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have the kernel give up connections by the age that bytes might have before the reload."""
    monkeypatch.setattr("ngos.daemon.configure_logging", lambda *_: None)
    settings = Settings(port=0, mailbox_age_s=10.0)
    with listen(settings) as listener:
        server = daemon_module.Daemon(
            listener,
            Notifier(None, None),
            is_inherited=False,
            reread=lambda: attrs.evolve(settings, mailbox_age_s=60.0),
        )
        applied: list[Settings] = []
        readiness = SimpleNamespace(ready=trio.Event())
        app: Any = SimpleNamespace(settings=settings, apply=applied.append, readiness=readiness)
        server._reload(app)
        assert [60.0] == [one.mailbox_age_s for one in applied]
        assert 60_000 == listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_every_setting_is_live_or_not() -> None:
    """Tries to have a name among those that need a restart that is no setting."""
    assert RESTART < FIELDS.keys()


def test_a_change_masks_what_is_secret() -> None:
    """Tries to find a password in what is told of a change."""
    import typed_settings as ts

    change = change_of(Settings(), Settings(database_url=ts.SecretStr("postgresql://me:geheim@x/y"), drain_s=1.0))
    assert ("database_url: none -> *****",) == change.needs_restart
    assert ("drain_s: 10.0 -> 1.0",) == change.changed
    assert change.settings.database_url is None
