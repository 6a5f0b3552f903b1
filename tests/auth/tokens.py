"""Keys, terms and tokens of these tests, good ones and forged ones."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from functools import cache
from pathlib import Path
from typing import Any

from attrs import evolve
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from ngos.auth.issue import encoded, sign
from ngos.auth.keys import KINDS, VerifyingKey
from ngos.auth.terms import AuthTerms
from ngos.auth.verifier import Verifier

NOW_S = 1_800_000_000.0
ISSUER = "https://issuer.example"
AUDIENCE = "ngos-tests"
SECRET = b"0123456789abcdef0123456789abcdef"
GRANT = {"commands": ["read", "write"], "subscribe": ["tokens", "chat.*"], "publish": ["chat.*"]}


def private_key(kind: str, which: str = "ours") -> VerifyingKey:
    """A key to sign with; `which` tells ours from an attacker's."""
    return _made_key(kind, which)


@cache
def _made_key(kind: str, which: str) -> VerifyingKey:
    key: Key
    match kind:
        case "oct":
            key = OctKey.import_key(SECRET if which == "ours" else which.encode() * 32)
        case "RSA":
            key = RSAKey.generate_key(2048)
        case "Ed25519":
            key = OKPKey.generate_key("Ed25519")
        case _:
            key = ECKey.generate_key(kind)
    return VerifyingKey(kind, key)


def pem(key: VerifyingKey, *, private: bool = False) -> bytes:
    return key.key.as_pem(private=private)  # type: ignore[union-attr]


def jwk(key: VerifyingKey, kid: str | None = None, **fields: Any) -> dict[str, Any]:
    """A public key as an entry of a JWK set."""
    return {**key.key.as_dict(private=False), **({} if kid is None else {"kid": kid}), **fields}


def jwks(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims; what is changed to `...` is left out."""
    good = {
        "sub": "alice",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": int(NOW_S),
        "exp": int(NOW_S) + 600,
        "ngos": GRANT,
        **changes,
    }
    return {name: value for name, value in good.items() if value is not ...}


def token(algorithm: str = "HS256", header: dict[str, Any] | None = None, which: str = "ours", **changes: Any) -> str:
    """A token that is good but for what is changed."""
    key = private_key(KINDS[algorithm], which)
    return sign(key, {"alg": algorithm, "typ": "JWT", **(header or {})}, claims(**changes))


def raw_token(header: bytes | dict[str, Any], payload: bytes | dict[str, Any], secret: bytes = SECRET) -> str:
    """A token by HS256 whose header and payload are any bytes."""
    signed = b".".join(segment(part) for part in (header, payload))
    return (signed + b"." + b64(hmac.digest(secret, signed, hashlib.sha256))).decode()


def segment(part: bytes | dict[str, Any]) -> bytes:
    return encoded(part) if isinstance(part, dict) else b64(part)


def b64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def write_secret(folder: Path, secret: bytes = SECRET) -> Path:
    path = folder / "secret"
    path.write_bytes(secret)
    path.chmod(0o600)
    return path


def write_keys(folder: Path, *kinds: str) -> Path:
    path = folder / "keys.pem"
    path.write_bytes(b"".join(pem(private_key(kind)) for kind in kinds))
    return path


def terms(**changes: Any) -> AuthTerms:
    return evolve(AuthTerms(issuer=ISSUER, audience=AUDIENCE, leeway_s=0.0), **changes)


def every_kind(folder: Path, **changes: Any) -> Verifier:
    """A verifier with a secret and one key of each kind, by all algorithms, at NOW_S."""
    kinds = dict.fromkeys(kind for kind in KINDS.values() if kind != "oct")
    files = {"secret_file": write_secret(folder), "keys_file": write_keys(folder, *kinds)}
    return Verifier.open(terms(algorithms=tuple(KINDS), **files, **changes), lambda: NOW_S)
