"""What tokens are verified by, as the operator sets it. Pure. Imports `ngos.config`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import field, frozen
from attrs.validators import ge, gt, le

from ngos.config import Settings

REGISTERED_CLAIMS: Final = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})


def _none_if_empty(text: str | None) -> str | None:
    # An empty variable is how service files say "none".
    return text or None


@frozen(kw_only=True)
class AuthTerms:
    """The settings NGOS_AUTH_…: where keys come from, and what a token must say."""

    secret_file: Path | None = None
    keys_file: Path | None = None
    jwks_url: str | None = field(default=None, converter=_none_if_empty)
    algorithms: tuple[str, ...] = ()
    """Empty: HS256 where there is a secret, RS256, ES256 and EdDSA where there are keys."""
    issuer: str | None = field(default=None, converter=_none_if_empty)
    audience: str | None = field(default=None, converter=_none_if_empty)
    leeway_s: float = field(default=30.0, validator=[ge(0), le(300)])
    """By which the clocks of who makes tokens and of this machine may differ."""
    claim: str = "ngos"
    """The name of the claim that has the grant."""
    jwks_age_s: float = field(default=3600.0, validator=gt(0))
    """For which fetched keys are used; they are fetched anew at half of it."""
    jwks_timeout_s: float = field(default=5.0, validator=gt(0))
    refusal_s: float = field(default=0.5, validator=ge(0))
    """What each refusal takes, whatever its reason."""
    jwks_pause_s: float = field(default=30.0, validator=ge(0))
    """Between two fetches at least, however many tokens name unknown keys; never more than half of `jwks_age_s`."""


def terms_of(settings: Settings) -> AuthTerms:
    """What the settings say of tokens."""
    return AuthTerms(
        secret_file=settings.auth_secret_file,
        keys_file=settings.auth_keys_file,
        jwks_url=settings.auth_jwks_url,
        algorithms=settings.auth_algorithms,
        issuer=settings.auth_issuer,
        audience=settings.auth_audience,
        leeway_s=settings.auth_leeway_s,
        claim=settings.auth_claim,
        jwks_age_s=settings.auth_jwks_age_s,
        jwks_timeout_s=settings.auth_jwks_timeout_s,
    )
