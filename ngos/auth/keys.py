"""Keys that verify tokens, out of files and JWK sets; and what each algorithm asks of its key.

The one place that knows joserfc's classes. Its `jwt.decode` is not used: it reads the header a second time, limits it
to 512 characters, and picks keys in its own way. What is used are its models of the algorithms; the one of HMAC
compares in constant time.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ngos.auth.tokens import Token, read_object
from ngos.errors import SetupError

SECRET_FILE: Final = "NGOS_AUTH_SECRET_FILE"  # noqa: S105 - the setting's name
KEYS_FILE: Final = "NGOS_AUTH_KEYS_FILE"

SECRET_BYTES: Final = 32
RSA_BITS: Final = range(2048, 8193)
"""Under it keys can be broken; over it each signature costs the server milliseconds."""
KEYS: Final = 64
TRIED: Final = 8
"""Keys that are tried on one token, where its `kid` does not say which."""
FILE_BYTES: Final = 256 * 1024

KINDS: Final[dict[str, str]] = {
    "HS256": "oct",
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
    "Ed25519": "Ed25519",
}
"""Each algorithm there is (RFC 7518, 8037, 9864), and the one kind of key that it goes with."""

_PARTS: Final[dict[str, tuple[type[RSAKey | ECKey | OKPKey], tuple[str, ...]]]] = {
    "RSA": (RSAKey, ("n", "e")),
    "EC": (ECKey, ("crv", "x", "y")),
    "OKP": (OKPKey, ("crv", "x")),
}
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class UnusableKey(Exception):
    """A key can't be used; the text says why, and nothing of the key."""


@frozen
class VerifyingKey:
    """A key, and which tokens it is for."""

    kind: str
    key: Key = field(repr=False)
    kid: str | None = None
    algorithm: str | None = None

    def fits(self, algorithm: str) -> bool:
        """Whether this key is of the kind that the algorithm takes, and not kept for another."""
        return KINDS.get(algorithm) == self.kind and self.algorithm in (None, algorithm)

    def verifies(self, token: Token) -> bool:
        """Whether the token was signed with this key, or the private half of it."""
        model = JWSRegistry.algorithms[token.algorithm]
        return self.fits(token.algorithm) and model.verify(token.signed, token.signature, self.key)


def candidates(keys: Iterable[VerifyingKey], token: Token) -> tuple[list[VerifyingKey], bool]:
    """Return the keys to try on a token, and whether its `kid` is known. Keys without a `kid` are tried on any."""
    named = [key for key in keys if token.kid is None or key.kid in (None, token.kid)]
    named.sort(key=lambda key: key.kid != token.kid)
    known = token.kid is None or any(key.kid == token.kid for key in named)
    return [key for key in named if key.fits(token.algorithm)][:TRIED], known


def read_secret(path: Path, setting: str = SECRET_FILE) -> VerifyingKey:
    """Read the secret of HS256: the file's bytes, but for one newline at their end.

    Raises SetupError where it can't be read, is short, is a public key, or is for others to read.
    """
    secret, mode = _read(path, setting)
    if mode & 0o077:
        raise SetupError(f"{setting}: {path}: others than its owner may open it: chmod 600 {path}", exit_code=2)
    secret = secret.removesuffix(b"\n")
    if len(secret) < SECRET_BYTES:
        raise SetupError(
            f"{setting}: {path}: a secret has at least {SECRET_BYTES} bytes, this one {len(secret)}; "
            f"`ngos token secret FILE` makes one",
            exit_code=2,
        )
    if b"-----BEGIN " in secret:
        raise SetupError(
            f"{setting}: {path}: is a key in PEM, not a secret; public ones go in {KEYS_FILE}", exit_code=2
        )
    try:
        return VerifyingKey("oct", OctKey.import_key(secret))
    except ValueError as exc:  # joserfc looks for public keys, which everybody has
        raise SetupError(f"{setting}: {path}: is a public key, not a secret", exit_code=2) from exc


def read_keys(path: Path, setting: str = KEYS_FILE) -> tuple[VerifyingKey, ...]:
    """Read public keys: PEM, one after the other, or a JWK set (RFC 7517).

    Raises SetupError where there are none, or one is private, unusable or weak: the operator meant each of them.
    """
    data, _ = _read(path, setting)
    try:
        if data.lstrip().startswith(b"{"):
            keys = tuple(public_key(entry) for entry in entries(data))
        else:
            keys = tuple(_from_pem(match[0], match[1]) for match in _PEM.finditer(data))
    except UnusableKey as exc:
        raise SetupError(f"{setting}: {path}: {exc}", exit_code=2) from exc
    if not keys:
        raise SetupError(f"{setting}: {path}: has no public key, as PEM or as a JWK set", exit_code=2)
    if len(keys) > KEYS:
        raise SetupError(f"{setting}: {path}: has {len(keys)} keys; {KEYS} at most", exit_code=2)
    if sum(key.kid is None for key in keys) > TRIED:
        raise SetupError(f"{setting}: {path}: at most {TRIED} keys may be without a kid", exit_code=2)
    return keys


def entries(data: bytes) -> list[Any]:
    """Return the entries of a JWK set; raises UnusableKey where it is none or too large."""
    try:
        values = read_object(data)
    except (ValueError, RecursionError) as exc:
        raise UnusableKey("is not JSON, or has something twice") from exc
    found = values.get("keys")
    if type(found) is not list:
        raise UnusableKey("is not a JWK set: it has no list of keys")
    if len(found) > KEYS:
        raise UnusableKey(f"has {len(found)} keys; {KEYS} at most")
    return found


def public_key(entry: Any) -> VerifyingKey:
    """Make a key of one entry of a JWK set; raises UnusableKey."""
    if type(entry) is not dict:
        raise UnusableKey("a key is not an object")
    kty, kid, algorithm = entry.get("kty"), entry.get("kid"), entry.get("alg")
    if kty == "oct" or "d" in entry:
        raise UnusableKey("has a private key; the server needs, and should have, only the public one")
    if type(kty) is not str or kty not in _PARTS:
        raise UnusableKey("a key is of an unknown kind; there are RSA, EC and OKP")
    if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
        raise UnusableKey("a key's kid and alg are texts")
    if entry.get("use", "sig") != "sig" or not _may_verify(entry.get("key_ops")):
        raise UnusableKey("a key is not for signatures")
    cls, names = _PARTS[kty]
    parts = {name: entry.get(name) for name in names}
    if not all(type(part) is str for part in parts.values()):
        raise UnusableKey(f"a key lacks one of {', '.join(names)}")
    try:
        with _quiet():
            key = cls.import_key({"kty": kty, **parts})  # type: ignore[dict-item]
    except Exception as exc:  # whatever joserfc and cryptography make of numbers that are no key
        raise UnusableKey(f"a key is not valid ({type(exc).__name__})") from exc
    return VerifyingKey(_kind(key), key, kid, algorithm)


def read_private_key(path: Path, setting: str = "--key-file") -> VerifyingKey:
    """Read a private key in PEM, to sign with; raises SetupError."""
    data, _ = _read(path, setting)
    match = _PEM.search(data)
    if match is None or not match[1].endswith(b"PRIVATE KEY"):
        raise SetupError(f"{setting}: {path}: is not a private key in PEM", exit_code=2)
    try:
        key = _import_pem(match[0])
        return VerifyingKey(_kind(key), key)
    except UnusableKey as exc:
        raise SetupError(f"{setting}: {path}: {exc}", exit_code=2) from exc


def algorithm_of(key: VerifyingKey) -> str:
    """Return the first algorithm that goes with a key's kind."""
    return next(name for name, kind in KINDS.items() if kind == key.kind)


def fitting(algorithms: Sequence[str], keys: Iterable[VerifyingKey]) -> bool:
    """Whether any of the keys goes with any of the algorithms."""
    return any(key.fits(algorithm) for key in keys for algorithm in algorithms)


def _may_verify(operations: Any) -> bool:
    return operations is None or (type(operations) is list and "verify" in operations)


def _from_pem(block: bytes, label: bytes) -> VerifyingKey:
    if label.endswith(b"PRIVATE KEY"):
        raise UnusableKey("has a private key; the server needs, and should have, only the public one")
    key = _import_pem(block)
    return VerifyingKey(_kind(key), key)


def _import_pem(block: bytes) -> Key:
    for cls in (RSAKey, ECKey, OKPKey):
        try:
            with _quiet():
                return cls.import_key(block)
        except JoseError:
            continue  # of another kind
        except Exception as exc:
            raise UnusableKey(f"a key is not valid ({type(exc).__name__})") from exc
    raise UnusableKey("a key is of an unknown kind; there are RSA, EC and OKP")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without joserfc's warnings of weak keys: those are refused, in a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        yield


def _kind(key: Key) -> str:
    if isinstance(key, RSAKey):
        bits = key.raw_value.key_size
        if bits not in RSA_BITS:
            raise UnusableKey(f"an RSA key has {bits} bits; from {RSA_BITS[0]} to {RSA_BITS[-1]} are taken")
        return "RSA"
    assert isinstance(key, ECKey | OKPKey)
    try:
        kind = key.curve_name
    except KeyError:  # a curve that joserfc has no name for
        kind = "unknown"
    if kind not in KINDS.values():
        raise UnusableKey(f"a key is on the curve {kind}; taken are P-256, P-384, P-521 and Ed25519")
    return kind


def _read(path: Path, setting: str) -> tuple[bytes, int]:
    """Return what a file holds, and its mode."""
    try:
        with path.open("rb") as file:
            data, mode = file.read(FILE_BYTES + 1), os.fstat(file.fileno()).st_mode
    except OSError as exc:
        raise SetupError(f"{setting}: {path}: {exc.strerror or exc}", exit_code=2) from exc
    if len(data) > FILE_BYTES:
        raise SetupError(f"{setting}: {path}: is larger than {FILE_BYTES // 1024} KiB", exit_code=2)
    return data, mode
