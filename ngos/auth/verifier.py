"""Tokens in, identities out. What is refused is refused after the same time, whatever the reason.

So nobody learns from the time which part of a forged token was right. The reason goes to `refusals`, for a metric, and
into the exception, for the log.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from ngos.auth.grants import Identity
from ngos.auth.jwks import JWKS_URL, RemoteKeys
from ngos.auth.keys import (
    KEYS_FILE,
    KINDS,
    SECRET_FILE,
    VerifyingKey,
    candidates,
    fitting,
    read_keys,
    read_secret,
)
from ngos.auth.refusals import Fault, Refusal, Refused
from ngos.auth.terms import REGISTERED_CLAIMS, AuthTerms
from ngos.auth.tokens import Rules, judge, take_apart
from ngos.errors import SetupError
from ngos.incidents import incident

ALGORITHMS: Final = "NGOS_AUTH_ALGORITHMS"
ISSUER: Final = "NGOS_AUTH_ISSUER"
AUDIENCE: Final = "NGOS_AUTH_AUDIENCE"
CLAIM: Final = "NGOS_AUTH_CLAIM"

_SECRET_ALGORITHMS: Final = ("HS256",)
_KEY_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")

__all__ = ["AuthTerms", "Refusal", "Refused", "Verifier"]


@define(eq=False)
class Verifier:
    """Verifies tokens by one set of terms. `Verifier.open` makes one."""

    _keys: tuple[VerifyingKey, ...]
    _remote: RemoteKeys | None
    _algorithms: frozenset[str]
    _rules: Rules
    _refusal_s: float
    _clock_s: Callable[[], float]
    refusals: dict[Refusal, int] = field(init=False, factory=lambda: dict.fromkeys(Refusal, 0))
    _defects: set[str] = field(init=False, factory=set)

    @classmethod
    def open(cls, terms: AuthTerms, clock_s: Callable[[], float]) -> Verifier:
        """Read the files that the terms name. `clock_s` tells Unix seconds.

        Raises SetupError, the operator's fault: one line that names the setting.
        """
        if terms.secret_file is None and terms.keys_file is None and terms.jwks_url is None:
            raise SetupError(
                f"no keys to verify tokens with: set {SECRET_FILE}, {KEYS_FILE} or {JWKS_URL}", exit_code=2
            )
        if terms.jwks_url is not None and (terms.issuer is None or terms.audience is None):
            missing = ISSUER if terms.issuer is None else AUDIENCE
            raise SetupError(
                f"{missing} must be set with {JWKS_URL}: else tokens made for other programs would be taken",
                exit_code=2,
            )
        if not terms.claim or terms.claim in REGISTERED_CLAIMS:
            raise SetupError(f"{CLAIM}: {terms.claim!r} can't be the claim that has the permissions", exit_code=2)
        algorithms = _algorithms(terms)
        keys: tuple[VerifyingKey, ...] = ()
        if terms.secret_file is not None:
            keys += (read_secret(terms.secret_file),)
        if terms.keys_file is not None:
            public = read_keys(terms.keys_file)
            if not fitting(algorithms, public):
                raise SetupError(
                    f"{ALGORITHMS}: {', '.join(algorithms)}: none goes with a key in {terms.keys_file}", exit_code=2
                )
            keys += public
        remote = None
        if terms.jwks_url is not None:
            remote = RemoteKeys.at(
                terms.jwks_url,
                age_s=terms.jwks_age_s,
                timeout_s=terms.jwks_timeout_s,
                pause_s=terms.jwks_pause_s,
            )
        rules = Rules(terms.issuer, terms.audience, terms.leeway_s, terms.claim)
        return cls(keys, remote, frozenset(algorithms), rules, terms.refusal_s, clock_s)

    def renew(self, terms: AuthTerms) -> None:
        """Go on by other terms, with the files read anew and the keys of the URL, which must be the same, fetched anew.

        Raises SetupError, the operator's fault: then all stays as it was.
        """
        self._become(Verifier.open(terms, self._clock_s))
        if self._remote is not None:
            self._remote.refetch()

    def _become(self, other: Verifier) -> None:
        self._keys, self._algorithms, self._rules = other._keys, other._algorithms, other._rules

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the keys of the URL fresh, until cancelled; without a URL, return. Started before any have come."""
        if self._remote is None:
            task_status.started()
            return
        await self._remote.run(task_status=task_status)

    def unready(self) -> str | None:
        """Say why no token at all can be verified now, or return None."""
        if self._keys or self._remote is None:
            return None
        return self._remote.unready()

    async def verify(self, token: str) -> Identity:
        """Return whom a token names, at once.

        Raises Refused, the holder's fault, `refusal_s` after its beginning. A key that is unknown is waited for within
        that time, if there is a URL to fetch it from. Cancelled, it just ends; the fetch goes on.
        """
        until_s = trio.current_time() + self._refusal_s
        found = self._attempt(token)
        if found is Refusal.KEY and self._remote is not None:
            with trio.move_on_at(until_s):
                await self._remote.refresh()
                found = self._attempt(token)
        if isinstance(found, Identity):
            await trio.lowlevel.checkpoint()
            return found
        self.refusals[found] += 1
        await trio.sleep_until(until_s)
        raise Refused(found)

    def _attempt(self, token: str) -> Identity | Refusal:
        try:
            return self._verified(token)
        except Fault as fault:
            return fault.reason
        except Exception as exc:
            self._tell(exc)
            return Refusal.MALFORMED

    def _verified(self, text: str) -> Identity:
        token = take_apart(text)
        if token.algorithm not in self._algorithms:
            raise Fault(Refusal.ALGORITHM)
        remote = self._remote.keys() if self._remote is not None else ()
        keys, known = candidates((*self._keys, *remote), token)
        if not any(key.verifies(token) for key in keys):
            if not known:
                raise Fault(Refusal.KEY)
            raise Fault(Refusal.SIGNATURE if keys else Refusal.KEY if token.kid is None else Refusal.ALGORITHM)
        return judge(token.claims, self._rules, self._clock_s())

    def _tell(self, exc: Exception) -> None:
        """Log a defect, once for each place: a peer decides how often it happens.

        Without the exception's text, which may hold parts of a token.
        """
        last = traceback.extract_tb(exc.__traceback__)[-1]
        place = f"{type(exc).__name__} at {last.filename}:{last.lineno}"
        if place not in self._defects:
            self._defects.add(place)
            incident("auth.defect", RuntimeError(place).with_traceback(exc.__traceback__))


def _algorithms(terms: AuthTerms) -> tuple[str, ...]:
    has_keys = terms.keys_file is not None or terms.jwks_url is not None
    if not terms.algorithms:
        return (_SECRET_ALGORITHMS if terms.secret_file is not None else ()) + (_KEY_ALGORITHMS if has_keys else ())
    for name in terms.algorithms:
        if name not in KINDS:
            raise SetupError(f"{ALGORITHMS}: {name!r} is unknown; there are {', '.join(KINDS)}", exit_code=2)
        if KINDS[name] == "oct" and terms.secret_file is None:
            raise SetupError(f"{ALGORITHMS}: {name} needs {SECRET_FILE}", exit_code=2)
        if KINDS[name] != "oct" and not has_keys:
            raise SetupError(f"{ALGORITHMS}: {name} needs {KEYS_FILE} or {JWKS_URL}", exit_code=2)
    return terms.algorithms
