"""Tokens for tests, signed with a secret of their own, and the settings of a server that takes them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from attrs import define, field

from ngos.auth.grants import EVERYTHING, Family, Grant
from ngos.auth.issue import issue
from ngos.auth.keys import VerifyingKey, read_secret


def grant(*families: str, subscribe: tuple[str, ...] = (), publish: tuple[str, ...] = ()) -> Grant:
    return Grant(frozenset(map(Family, families)), subscribe, publish)


@define
class Mint:
    """Makes tokens. `settings` are those of a server that takes them, to the second."""

    folder: Path
    settings: dict[str, Any] = field(init=False)
    _key: VerifyingKey = field(init=False)

    def __attrs_post_init__(self) -> None:
        secret = self.folder / "secret"
        secret.touch(0o600)
        secret.write_text("s" * 48)
        self.settings = {"auth_mode": "jwt", "auth_secret_file": secret, "auth_leeway_s": 0.0}
        self._key = read_secret(secret)

    def token(self, subject: str = "alice", allowed: Grant = EVERYTHING, lifetime_s: float = 3600) -> str:
        return issue(self._key, "HS256", subject, allowed, lifetime_s, time.time(), None, None, "ngos")

    def bearer(self, subject: str = "alice", allowed: Grant = EVERYTHING, lifetime_s: float = 3600) -> dict[str, str]:
        """The header that shows one."""
        return {"Authorization": f"Bearer {self.token(subject, allowed, lifetime_s)}"}
