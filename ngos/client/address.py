"""Where a server is, and why it could not be reached, in one line: the same for all shells. No I/O.

May import `ngos.client.errors`.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

from attrs import evolve, frozen

from ngos.client.errors import ConnectFailed, ConnectionLost

MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""The largest message from a server: a page of 1000 tokens with 16 KiB of metadata each, and some."""
HANDSHAKE_BYTES: Final = 256 * 1024
"""The most that a server may say instead of a handshake."""
CLOSE_S: Final = 1.0
"""How long a goodbye may take."""
NO_HANDSHAKE: Final = "what it answered is no handshake: not a WebSocket server?"
HUNG_UP: Final = "it hung up before it answered: not a WebSocket server?"


@frozen
class Address:
    """Where the server is, and who we are to it; `connect_s` bounds all until its greeting.

    `path` begins with a slash and `query` has no question mark; both are percent-encoded.
    """

    url: str
    secure: bool
    host: str
    port: int
    path: str
    query: str
    token: str | None
    connect_s: float

    @classmethod
    def of(cls, url: str, client_id: str | None, token: str | None, connect_s: float) -> Address:
        """Read a URL; `client_id` takes the place of one that it has. Without either, one is made.

        Raises ConnectFailed where it, or the token, can't be sent: the caller's fault.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").encode("idna").decode()
            host.encode("idna")  # as will be done to resolve it, and the one before may leave a lone dot
        except ValueError as exc:
            raise ConnectFailed(url, f"not a URL: {exc}") from exc
        if parts.scheme not in ("ws", "wss") or not host:
            raise ConnectFailed(url, "not a URL such as ws://127.0.0.1:8000/ws")
        secure = parts.scheme == "wss"
        asked = [part for part in parts.query.split("&") if part]
        named = [part for part in asked if part.partition("=")[0] == "client_id"]
        if client_id is not None or not named:
            # Only an id that the client chose makes its commands idempotent (section 6), so one is chosen.
            chosen = f"client_{secrets.token_hex(8)}" if client_id is None else client_id
            asked = [*(part for part in asked if part not in named), "client_id=" + quote(chosen, safe="")]
        query = "&".join(asked)
        path = parts.path or "/"
        resource = f"{path}?{query}"
        if not (resource.isascii() and resource.isprintable() and " " not in resource):
            raise ConnectFailed(url, "its path and query must be percent-encoded")
        port = port if port is not None else (443 if secure else 80)
        return cls(url, secure, host, port, path, query, None, connect_s).showing(token)

    def showing(self, token: object) -> Address:
        """The same with this token in the handshake; None: none. Raises ConnectFailed where that can't be."""
        if token is None:
            return evolve(self, token=None)
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise self.failed("the token has characters that a header can't carry")
        return evolve(self, token=token)

    @property
    def resource(self) -> str:
        """What is asked for."""
        return f"{self.path}?{self.query}"

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What the handshake carries beside its own."""
        return [] if self.token is None else [("Authorization", f"Bearer {self.token}")]

    def failed(self, reason: str, *, lost: ConnectionLost | None = None) -> ConnectFailed:
        """There is no connection, for this reason."""
        return ConnectFailed(self.url, reason, lost=lost)

    def too_slow(self) -> ConnectFailed:
        """There was no greeting within `connect_s`."""
        return self.failed(f"no answer within {self.connect_s:g} s")

    def unreachable(self, causes: Iterable[BaseException]) -> ConnectFailed:
        """No connection came to be, for these reasons, one for each of the host's addresses."""
        causes = list(causes)
        # asyncio makes a text of several.
        if any(
            isinstance(cause, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(cause)
            for cause in causes
        ):
            return self.failed("connection refused: is the server running?")
        first = causes[0]
        if isinstance(first, OSError) and first.errno and not isinstance(first, socket.gaierror):
            return self.failed(os.strerror(first.errno))  # its own text may name what the loop called
        return self.failed((first.strerror if isinstance(first, OSError) else None) or str(first))

    def refused(self, status: int, headers: Iterable[tuple[str, str]], body: bytes | None) -> ConnectFailed:
        """The server answered the handshake with another status than 101."""
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "refused"
        reason = f"{status} {phrase}"
        text = _said(body or b"")
        if text and len(text) <= 200 and text.isprintable() and text != phrase:
            reason += f": {text}"
        retry_after_s = None
        for name, value in headers:
            if name.lower() == "retry-after":
                reason += f"; retry after {value} s"
                # Seconds only: the other form, a date, is of use to those who trust two clocks.
                retry_after_s = float(value) if value.isascii() and value.isdigit() else None
        return ConnectFailed(self.url, reason, status=status, retry_after_s=retry_after_s)


def _said(body: bytes) -> str:
    """What a refusal says: its `message` where it is one of ours."""
    text = body.decode("utf-8", "replace").strip()
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return text
    message = told.get("message") if isinstance(told, dict) else None
    return message if isinstance(message, str) else text
