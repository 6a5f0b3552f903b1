"""Keys from a URL: fetched when the server starts, at half of their age, and when a token names one that is unknown.

One task fetches, so there is never more than one request, and nobody who waits for it can cancel it. When fetching
fails, the keys that are there are used until they are too old, and then none are: it fails closed.
"""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from math import inf
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpx  # noqa: ASYNC127 - the one that the lock has; its successor is a change of the dependency
import structlog
import trio
from attrs import define, field

from ngos.auth.keys import UnusableKey, VerifyingKey, entries, public_key
from ngos.errors import SetupError

JWKS_URL: Final = "NGOS_AUTH_JWKS_URL"
BODY_BYTES: Final = 256 * 1024
REASON_CHARS: Final = 200

_log = structlog.get_logger("ngos.auth")


class _Unfit(Exception):
    """What came is not what was asked for; the text says what came."""


@define(eq=False)
class RemoteKeys:
    """The keys behind one URL. All times are on Trio's clock."""

    _url: str
    _age_s: float
    _timeout_s: float
    _pause_s: float
    _tls: ssl.SSLContext | bool
    _keys: tuple[VerifyingKey, ...] = field(init=False, default=())
    _fetched_at_s: float = field(init=False, default=-inf)
    _fetching: bool = field(init=False, default=False)
    _fetched: trio.Event = field(init=False, factory=trio.Event)
    _wanted: trio.Event = field(init=False, factory=trio.Event)

    @classmethod
    def at(cls, url: str, *, age_s: float, timeout_s: float, pause_s: float) -> RemoteKeys:
        """Make one for `url`; raises SetupError where keys from there could be anybody's."""
        parts = _checked(url)
        tls: ssl.SSLContext | bool = False
        if parts.scheme == "https":
            # With httpx's own look at the environment off, SSL_CERT_FILE would be off too: private authorities.
            tls = httpx.create_ssl_context(trust_env=False)
            tls.load_default_certs()
        return cls(url, age_s, timeout_s, min(pause_s, age_s / 2), tls)

    def keys(self) -> tuple[VerifyingKey, ...]:
        """Return the keys that may be used now: none when they are too old."""
        return self._keys if trio.current_time() < self._fetched_at_s + self._age_s else ()

    def unready(self) -> str | None:
        """Say why there are none, or return None."""
        if self.keys():
            return None
        return "the keys of tokens are too old" if self._keys else "the keys of tokens have not come yet"

    def refetch(self) -> None:
        """Have them fetched soon, whatever their age."""
        self._wanted.set()

    async def refresh(self) -> None:
        """Wait for the end of the next fetch, or of the one that is under way; it may have failed.

        Cancelled, it only stops waiting.
        """
        if not self._fetching:
            self._wanted.set()
        await self._fetched.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch again and again, until cancelled. Nothing that the other end does raises."""
        task_status.started()
        failures = 0
        while True:
            self._wanted = trio.Event()
            failures = 0 if await self._fetch() else failures + 1
            # A provider that is late at our start should not cost a pause each time.
            pause_s = min(self._pause_s, 2.0 ** min(failures - 1, 30)) if failures else self._pause_s
            await trio.sleep(pause_s)
            if not failures:
                with trio.move_on_at(self._fetched_at_s + self._age_s / 2):
                    await self._wanted.wait()

    async def _fetch(self) -> bool:
        self._fetching = True
        try:
            with trio.fail_after(self._timeout_s):
                keys, skipped = _usable(await self._get())
        except trio.TooSlowError:
            self._say_failed(f"no answer within {self._timeout_s:g} s")
        except (_Unfit, UnusableKey) as exc:
            self._say_failed(str(exc))
        except Exception as exc:  # httpx's, anyio's, ssl's: all of them are the other end's or the network's
            self._say_failed(f"{type(exc).__name__}: {exc}")
        else:
            self._keys, self._fetched_at_s = keys, trio.current_time()
            _log.info("auth.keys_fetched", keys=len(keys), skipped=skipped)
            return True
        finally:
            self._fetching = False
            self._fetched.set()
            self._fetched = trio.Event()
        return False

    async def _get(self) -> bytes:
        # Not compressed, and read as it comes: what unfolds could be of any size.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ngos"}
        async with (
            httpx.AsyncClient(
                verify=self._tls, follow_redirects=False, trust_env=False, timeout=self._timeout_s, headers=headers
            ) as client,
            client.stream("GET", self._url) as response,
        ):
            if response.status_code != 200:
                raise _Unfit(f"answered with status {response.status_code}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise _Unfit("answered in a content encoding")
            body = bytearray()
            with trio.CancelScope() as scope:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > BODY_BYTES:
                        scope.cancel()  # by leaving the loop httpx's generators would stay behind, open
            if len(body) > BODY_BYTES:
                raise _Unfit(f"answered with more than {BODY_BYTES // 1024} KiB")
            return bytes(body)

    def _say_failed(self, reason: str) -> None:
        left_s = self._fetched_at_s + self._age_s - trio.current_time()
        _log.warning("auth.keys_failed", reason=reason[:REASON_CHARS], usable_s=round(max(0.0, left_s)))


def _usable(body: bytes) -> tuple[tuple[VerifyingKey, ...], int]:
    """Return the keys that can be used, and how many can't: providers publish other kinds beside them."""
    found: list[Any] = entries(body)
    keys = []
    for entry in found:
        try:
            keys.append(public_key(entry))
        except UnusableKey:
            continue
    if not keys:
        raise UnusableKey(f"none of the {len(found)} keys can be used")
    return tuple(keys), len(found) - len(keys)


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise SetupError(f"{JWKS_URL}: is not a URL", exit_code=2) from None
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise SetupError(f"{JWKS_URL}: must be without a user, a password and a fragment", exit_code=2)
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        raise SetupError(
            f"{JWKS_URL}: must begin with https://; http:// is taken only to this machine, as http://127.0.0.1/…",
            exit_code=2,
        )
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
