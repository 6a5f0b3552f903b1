"""Tokens for a server that asks who somebody is."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from ngos.auth.grants import Family, Grant
from ngos.auth.issue import issue
from ngos.auth.keys import read_secret

LIFETIME_S = 3600
MAY = Grant(frozenset({Family.READ, Family.WRITE}), ("*",), ("*",))


@attrs.frozen
class Tokens:
    """The server's flags, a file with the honest ones' tokens, a line each, and one with the attackers' single one."""

    flags: Sequence[str]
    honest: Path
    attackers: Path


def make_tokens(directory: Path, honest: int) -> Tokens:
    """A secret, and a token for each honest client and one for all attackers."""
    secret = directory / "secret"
    secret.touch(0o600)
    secret.write_text(secrets.token_urlsafe(48))
    key = read_secret(secret)

    def token(subject: str) -> str:
        return issue(key, "HS256", subject, MAY, LIFETIME_S, time.time(), None, None, "ngos")

    flags = ("--auth-mode", "jwt", "--auth-secret-file", str(secret))
    tokens = Tokens(flags, directory / "honest.tokens", directory / "token")
    tokens.honest.write_text("\n".join(token(f"honest-{number}") for number in range(honest)))
    tokens.attackers.write_text(token("attacker"))
    return tokens
