"""`ngos token`: what it prints is a token that the server takes, and nothing else; what is wrong is one line."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from ngos.__main__ import main
from ngos.auth.grants import NOTHING, Identity, parse_grant
from ngos.auth.issue import issue
from ngos.auth.terms import AuthTerms
from ngos.auth.verifier import Verifier
from tests.auth.tokens import NOW_S, pem, private_key, token, write_keys, write_secret


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NGOS_")]:
        monkeypatch.delenv(name)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert "" == captured.out
    assert captured.err.startswith("ngos: ")
    assert 1 == captured.err.count("\n")
    return captured.err


def verified(text: str, **changes: Any) -> Identity:
    return trio.run(Verifier.open(AuthTerms(**changes), time.time).verify, text.removesuffix("\n"))


def test_a_secret_and_a_token_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to make a token that a server with the same settings refuses."""
    path = tmp_path / "secret"
    assert 0 == main(["token", "secret", str(path)])
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 65 == path.stat().st_size
    monkeypatch.setenv("NGOS_AUTH_SECRET_FILE", str(path))
    monkeypatch.setenv("NGOS_AUTH_ISSUER", "here")
    monkeypatch.setenv("NGOS_AUTH_AUDIENCE", "ngos")
    monkeypatch.setenv("NGOS_AUTH_CLAIM", "may")
    options = ["--read", "--admin", "--subscribe", "tokens", "--subscribe", "chat.*", "--publish", "chat.*"]
    assert 0 == main(["token", "issue", "alice", *options, "--lifetime-s", "60"])
    captured = capsys.readouterr()
    assert "" == captured.err
    identity = verified(captured.out, secret_file=path, issuer="here", audience="ngos", claim="may", leeway_s=0.0)
    assert "alice" == identity.subject
    claim = {"commands": ["read", "admin"], "subscribe": ["tokens", "chat.*"], "publish": ["chat.*"]}
    assert parse_grant(claim) == identity.grant
    assert 50 < identity.expires_at_s - time.time() <= 60


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RS256"), ("P-256", "ES256"), ("Ed25519", "EdDSA")])
def test_a_token_by_a_private_key(
    kind: str, algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to sign by a key and be refused by its public half; the secret in the environment is not in the way."""
    path = tmp_path / "private.pem"
    path.write_bytes(pem(private_key(kind), private=True))
    monkeypatch.setenv("NGOS_AUTH_SECRET_FILE", "/nowhere")
    assert 0 == main(["token", "issue", "bob", "--key-file", str(path), "--kid", "k"])
    text = capsys.readouterr().out
    identity = verified(text, keys_file=write_keys(tmp_path, kind))
    assert ("bob", NOTHING) == (identity.subject, identity.grant)
    assert 0 == main(["token", "show", text.strip()])
    captured = capsys.readouterr()
    shown = json.loads(captured.out)
    assert {"alg": algorithm, "typ": "JWT", "kid": "k"} == shown["header"]
    assert "bob" == shown["claims"]["sub"]
    assert "not verified" in captured.err


def test_show_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to need the token as an argument, where others can see it."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(token(which="attacker") + "\n"))
    assert 0 == main(["token", "show"])
    assert "alice" == json.loads(capsys.readouterr().out)["claims"]["sub"]


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "..", token().rpartition(".")[0], "é.é.é"])
def test_show_of_what_is_no_token(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to get a traceback out of garbage."""
    assert 1 == main(["token", "show", text])
    assert "not a token" in one_line(capsys)


def test_show_can_not_be_made_to_write_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to send escapes to the terminal of who looks at a token."""
    assert 0 == main(["token", "show", token(sub="\x1b[2J\x9b", which="attacker")])
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_a_secret_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to make all tokens invalid by a second `ngos token secret`."""
    path = write_secret(tmp_path)
    before = path.read_bytes()
    assert 1 == main(["token", "secret", str(path)])
    assert "is there already" in one_line(capsys)
    assert before == path.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    assert 1 == main(["token", "secret", str(link)])
    one_line(capsys)
    assert 1 == main(["token", "secret", str(tmp_path / "no" / "folder")])
    one_line(capsys)


def test_what_is_asked_for_wrongly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to get a traceback, or a token with fewer permissions than asked for, out of a wrong command line."""
    secret, public = str(write_secret(tmp_path)), str(write_keys(tmp_path, "RSA"))
    for arguments, code, why in (
        (["alice"], 2, "--secret-file"),
        (["alice", "--secret-file", str(tmp_path / "none")], 1, f"ngos token secret {tmp_path / 'none'}"),
        (["alice", "--secret-file", public], 2, "chmod 600"),
        (["alice", "--key-file", public], 2, "not a private key"),
        (["alice", "--key-file", str(tmp_path / "none")], 2, "--key-file"),
        (["alice", "--secret-file", secret, "--key-file", public], 2, "exclude"),
        (["alice", "--secret-file", secret, "--subscribe", "[a]"], 2, "pattern"),
        (["", "--secret-file", secret], 2, "subject"),
        (["a\nb", "--secret-file", secret], 2, "subject"),
        (["alice", "--secret-file", secret, "--lifetime-s", "0"], 2, "lifetime"),
    ):
        assert code == main(["token", "issue", *arguments])
        assert why in one_line(capsys)


@pytest.mark.parametrize("command", ["issue", "secret", "show"])
def test_help_says_what_for_and_how(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries to leave somebody without an example, or without knowing that this is for development."""
    assert 0 == main(["token", command, "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "Example: ngos token" in out
    assert "For development." in out


def test_the_command_line_does_without_the_server() -> None:
    """Tries to need joserfc for a client's command."""
    server = ("joserfc", "structlog", "httpx", "cryptography")
    code = f"import sys, ngos.cli; print([n for n in {server} if n in sys.modules])"
    assert b"[]\n" == subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout


def test_a_key_signs_only_by_its_own_algorithm() -> None:
    """Tries to sign by a key of another kind, or by a public one."""
    for kind, algorithm in (("RSA", "HS256"), ("oct", "RS256"), ("P-256", "ES384"), ("oct", "none")):
        with pytest.raises(ValueError):
            issue(private_key(kind), algorithm, "alice", NOTHING, 60, NOW_S, None, None, "ngos")
