"""The client commands of the command line, to a server that asks who somebody is: one line each, and never a loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ngos.auth.grants import Family, Grant
from tests.asking import Asking, asking_server, make_secret
from tests.test_cli import one_line, run

READ = Grant(frozenset({Family.READ}), ("graph",), ())
COMMANDS = [["send", "token.list"], ["watch", "tokens"], ["demo"]]


@pytest.fixture
async def asking(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    for name in ("NGOS_URL", "NGOS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    async with asking_server(database_url, make_secret(tmp_path)) as asking:
        yield asking


@pytest.mark.parametrize("command", COMMANDS[:2])
async def test_no_token(asking: Asking, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """Tries to leave somebody without a token alone with that."""
    assert 1 == await run(*command, "--url", asking.url)
    line = one_line(capsys)
    assert line.startswith("unauthenticated: ")
    assert line.endswith("(here: by --token, or by NGOS_TOKEN)")


@pytest.mark.parametrize("command", COMMANDS)
async def test_refused(asking: Asking, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """Tries to knock again, or to say it in JSON."""
    assert 1 == await run(*command, "--url", asking.url, "--token", "not.a.token")
    expected = f"can't connect to {asking.url}: 401 Unauthorized: the token is not valid: get a new one"
    assert expected == one_line(capsys)


async def test_forbidden(asking: Asking, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to hide what a token does not allow; it comes by the variable too."""
    monkeypatch.setenv("NGOS_TOKEN", asking.token(grant=READ))
    assert 0 == await run("send", "token.list", "--url", asking.url)
    capsys.readouterr()
    assert 1 == await run("watch", "tokens", "--url", asking.url)
    assert "forbidden: the token does not allow to subscribe to tokens" == one_line(capsys)
    assert 1 == await run("demo", "--url", asking.url)
    assert "forbidden: the token does not allow to use commands that write" in capsys.readouterr().err


async def test_expired(asking: Asking, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to go on watching, or to come back for ever, after the token has expired."""
    assert 1 == await run("watch", "tokens", "--url", asking.url, "--token", asking.token(3))
    assert "connection lost: not, or no longer, authenticated (4401)" == one_line(capsys)
