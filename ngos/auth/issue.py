"""Tokens made, for development and tests; in production the identity provider makes them. Pure."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

from joserfc.jws import JWSRegistry

from ngos.auth.grants import Grant
from ngos.auth.keys import VerifyingKey


def issue(
    key: VerifyingKey,
    algorithm: str,
    subject: str,
    grant: Grant,
    lifetime_s: float,
    now_s: float,
    issuer: str | None,
    audience: str | None,
    claim: str,
    kid: str | None = None,
) -> str:
    """Return a token for `subject`, good from `now_s` (Unix seconds) for `lifetime_s`.

    `key` is the secret, or a private key that goes with `algorithm`; raises ValueError where it does not.
    """
    issued_s = int(now_s)
    claims: dict[str, Any] = {"sub": subject, "iat": issued_s, "exp": issued_s + lifetime_s, claim: grant.to_claim()}
    claims |= {name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None}
    header = {"alg": algorithm, "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    return sign(key, header, claims)


def sign(key: VerifyingKey, header: dict[str, Any], claims: Any) -> str:
    """Sign whatever is given, by the header's `alg`; raises ValueError where the key does not go with it."""
    algorithm = header["alg"]
    if not key.fits(algorithm) or not key.key.is_private:
        raise ValueError(f"the key can't sign by {algorithm}")
    signed = encoded(header) + b"." + encoded(claims)
    signature = JWSRegistry.algorithms[algorithm].sign(signed, key.key)
    return (signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode("ascii")


def encoded(value: Any) -> bytes:
    """Return JSON in base64url, as a segment of a token."""
    return urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")
