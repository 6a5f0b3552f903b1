"""A real server that asks for tokens, and who makes them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define

from ngos.auth.grants import Family, Grant
from ngos.auth.issue import issue
from ngos.auth.keys import read_secret
from tests.servers import Running, running_server

ALL = Grant(frozenset({Family.READ, Family.WRITE}), ("*",), ("*",))
LONG_S = 3600.0


@define
class Asking:
    """A server that asks for tokens, and how they are made."""

    running: Running
    token: Callable[..., str]

    @property
    def url(self) -> str:
        return self.running.url


def make_secret(folder: Path) -> Path:
    """A new secret, in a file that only its owner may read."""
    path = folder / "secret"
    path.touch(0o600)
    path.write_text(secrets.token_urlsafe(48))
    return path


@asynccontextmanager
async def asking_server(database_url: str, secret_file: Path, **overrides: Any) -> AsyncIterator[Asking]:
    """The real server, which asks for tokens and ends with them at once."""
    key = read_secret(secret_file)

    def token(lifetime_s: float = LONG_S, grant: Grant = ALL, subject: str = "me") -> str:
        # `issue` counts from the full second before: as much more as is gone of that.
        now_s = time.time()
        return issue(key, "HS256", subject, grant, lifetime_s + now_s % 1, now_s, None, None, "ngos")

    settings = {"auth_mode": "jwt", "auth_secret_file": secret_file, "auth_leeway_s": 0.0, **overrides}
    async with running_server(database_url, **settings) as running:
        yield Asking(running, token)
