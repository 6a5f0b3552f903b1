"""Keys out of files, and what an operator is told about a wrong one: one line that names the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from ngos.auth.keys import KEYS, KINDS, TRIED, candidates, public_key, read_keys, read_secret
from ngos.auth.terms import AuthTerms
from ngos.auth.tokens import take_apart
from ngos.auth.verifier import Verifier
from ngos.errors import SetupError
from tests.auth.tokens import SECRET, jwk, jwks, pem, private_key, terms, token, write_keys, write_secret


def line(exc: pytest.ExceptionInfo[SetupError]) -> str:
    text = str(exc.value)
    assert 1 == len(text.splitlines())
    assert 2 == exc.value.exit_code
    return text


def test_a_secret_loses_one_newline(tmp_path: Path) -> None:
    """Tries to make an editor's newline part of the secret, or a second one not part of it."""
    assert SECRET == read_secret(write_secret(tmp_path, SECRET + b"\n")).key.raw_value
    assert SECRET + b"\n" == read_secret(write_secret(tmp_path, SECRET + b"\n\n")).key.raw_value


@pytest.mark.parametrize("secret", [b"", b"\n", SECRET[1:], SECRET[1:] + b"\n"])
def test_a_short_secret(secret: bytes, tmp_path: Path) -> None:
    """Tries to run on a secret that can be guessed."""
    with pytest.raises(SetupError) as exc:
        read_secret(write_secret(tmp_path, secret))
    assert "at least 32 bytes" in line(exc)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o610])
def test_a_secret_that_others_may_open(mode: int, tmp_path: Path) -> None:
    """Tries to run on a secret that is none."""
    path = write_secret(tmp_path)
    path.chmod(mode)
    with pytest.raises(SetupError) as exc:
        read_secret(path)
    assert f"chmod 600 {path}" in line(exc)


@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
def test_a_public_key_is_no_secret(kind: str, tmp_path: Path) -> None:
    """Tries to make a secret of what everybody knows."""
    for secret in (pem(private_key(kind)), private_key(kind).key.as_der()):  # type: ignore[union-attr]
        with pytest.raises(SetupError) as exc:
            read_secret(write_secret(tmp_path, secret))
        assert "NGOS_AUTH_SECRET_FILE" in line(exc)


@pytest.mark.parametrize("setting", ["secret_file", "keys_file"])
def test_files_that_are_not_there(setting: str, tmp_path: Path) -> None:
    """Tries to get a traceback out of a wrong path."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SetupError) as exc:
            Verifier.open(terms(**{setting: path}), lambda: 0.0)
        assert line(exc).startswith(f"NGOS_AUTH_{setting.upper()}: {path}: ")


def test_several_keys_in_pem(tmp_path: Path) -> None:
    """Tries to lose all keys of a file but the first."""
    keys = read_keys(write_keys(tmp_path, "RSA", "P-256", "P-384", "P-521", "Ed25519"))
    assert ["RSA", "P-256", "P-384", "P-521", "Ed25519"] == [key.kind for key in keys]


def test_a_jwk_set(tmp_path: Path) -> None:
    """Tries to lose a key's name or what it is kept for."""
    path = tmp_path / "keys.json"
    path.write_bytes(b" \n" + jwks(jwk(private_key("RSA"), "one", alg="RS256", use="sig"), jwk(private_key("P-256"))))
    one, two = read_keys(path)
    assert ("RSA", "one", "RS256") == (one.kind, one.kid, one.algorithm)
    assert ("P-256", None, None) == (two.kind, two.kid, two.algorithm)
    assert (True, False) == (one.fits("RS256"), one.fits("PS256"))


@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
@pytest.mark.parametrize("form", ["pem", "jwk"])
def test_a_private_key_is_refused(kind: str, form: str, tmp_path: Path) -> None:
    """Tries to leave a private key on a server that needs the public one."""
    path = tmp_path / "keys"
    key = private_key(kind)
    private = (
        pem(private_key("P-384")) + pem(key, private=True) if form == "pem" else jwks(key.key.as_dict(private=True))
    )
    path.write_bytes(private)
    with pytest.raises(SetupError) as exc:
        read_keys(path)
    assert "private key" in line(exc)


def _pem_of(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no public key"),
        (b"hello", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not valid"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not valid"),
        (_pem_of(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (_pem_of(dsa.generate_private_key(1024)), "unknown kind"),
        (_pem_of(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
        (_pem_of(ec.generate_private_key(ec.SECP224R1())), "curve"),
        (OKPKey.generate_key("X25519").as_pem(private=False), "X25519"),
        (OKPKey.generate_key("Ed448").as_pem(private=False), "Ed448"),
        (b"{", "not JSON"),
        (b"{}", "not a JWK set"),
        (b'{"keys": {}}', "not a JWK set"),
        (b'{"keys": [], "keys": []}', "twice"),
        (b'{"keys": []}', "no public key"),
        (b'{"keys": [7]}', "not an object"),
        (jwks({"kty": "oct", "k": "c2VjcmV0"}), "private key"),
        (jwks({"kty": "XYZ"}), "unknown kind"),
        (jwks({"kty": ["RSA"]}), "unknown kind"),
        (jwks({"kty": "RSA", "n": "AQAB"}), "lacks"),
        (jwks({"kty": "RSA", "n": "AQAB", "e": 3}), "lacks"),
        (jwks({"kty": "RSA", "n": "", "e": ""}), "not valid"),
        (jwks({"kty": "EC", "crv": "P-257", "x": "AA", "y": "AA"}), "not valid"),
        (jwks({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}), "not valid"),
        (jwks({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), "not valid"),
        (jwks(jwk(private_key("RSA"), use="enc")), "not for signatures"),
        (jwks(jwk(private_key("RSA"), use=["sig"])), "not for signatures"),
        (jwks(jwk(private_key("RSA"), key_ops=["encrypt"])), "not for signatures"),
        (jwks(jwk(private_key("RSA"), key_ops="verify")), "not for signatures"),
        (jwks({**jwk(private_key("RSA")), "kid": 7}), "texts"),
        (jwks(*[{"kty": "RSA"}] * (KEYS + 1)), "at most"),
        (pem(private_key("P-256")) * (TRIED + 1), "without a kid"),
        (b"x" * 300_000, "larger"),
    ],
)
def test_files_of_keys_that_are_none(data: bytes, why: str, tmp_path: Path) -> None:
    """Tries to get a traceback, or a key that nobody meant, out of a file."""
    path = tmp_path / "keys"
    path.write_bytes(data)
    with pytest.raises(SetupError) as exc:
        read_keys(path)
    assert why in line(exc)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "NGOS_AUTH_SECRET_FILE, NGOS_AUTH_KEYS_FILE or NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": ""}, "NGOS_AUTH_SECRET_FILE, NGOS_AUTH_KEYS_FILE or NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "https://issuer.example/keys", "issuer": None}, "NGOS_AUTH_ISSUER"),
        ({"jwks_url": "https://issuer.example/keys", "audience": ""}, "NGOS_AUTH_AUDIENCE"),
        ({"jwks_url": "http://issuer.example/keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "http://127.0.0.1.issuer.example/keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "http://127.0.0.1@issuer.example/keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "https://user:secret@issuer.example/keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "https://issuer.example/keys#one"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "file:///keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "https:///keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "https://issuer.example:port/keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "https://[::1/keys"}, "NGOS_AUTH_JWKS_URL"),
        ({"jwks_url": "https://issuer.example/keys", "algorithms": ("HS256",)}, "NGOS_AUTH_ALGORITHMS"),
        ({"jwks_url": "https://issuer.example/keys", "algorithms": ("none",)}, "NGOS_AUTH_ALGORITHMS"),
        ({"jwks_url": "https://issuer.example/keys", "algorithms": ("rs256",)}, "NGOS_AUTH_ALGORITHMS"),
        ({"jwks_url": "https://issuer.example/keys", "claim": "sub"}, "NGOS_AUTH_CLAIM"),
        ({"jwks_url": "https://issuer.example/keys", "claim": ""}, "NGOS_AUTH_CLAIM"),
    ],
)
def test_terms_that_would_be_unsafe(changes: dict[str, Any], named: str) -> None:
    """Tries to open a verifier that takes tokens which nobody meant for this server."""
    with pytest.raises(SetupError) as exc:
        Verifier.open(terms(**changes), lambda: 0.0)
    text = line(exc)
    assert named in text
    assert "secret@" not in text


def test_algorithms_go_with_the_sources(tmp_path: Path) -> None:
    """Tries to allow an algorithm for which there is no key, or have keys for which there is no algorithm."""
    secret, keys = write_secret(tmp_path), write_keys(tmp_path, "P-384")
    for changes in (
        {"secret_file": secret, "algorithms": ("RS256",)},
        {"keys_file": keys, "algorithms": ("HS256",)},
        {"keys_file": keys},
        {"keys_file": keys, "algorithms": ("ES256", "RS256")},
    ):
        with pytest.raises(SetupError) as exc:
            Verifier.open(terms(**changes), lambda: 0.0)
        assert "NGOS_AUTH_ALGORITHMS" in line(exc)
    Verifier.open(terms(keys_file=keys, algorithms=("ES384",)), lambda: 0.0)


@pytest.mark.parametrize(
    "url", ["http://localhost:1/k", "http://127.0.0.1:1/k", "http://[::1]:1/k", "https://a.example/k"]
)
async def test_urls_that_are_taken(url: str) -> None:
    """Tries to refuse a provider on this machine, as development has it."""
    verifier = Verifier.open(terms(jwks_url=url), lambda: 0.0)
    assert "the keys of tokens have not come yet" == verifier.unready()


def test_leeway_has_limits() -> None:
    """Tries to accept tokens for hours after their end."""
    for leeway_s in (-1.0, 301.0, float("nan")):
        with pytest.raises(ValueError):
            AuthTerms(leeway_s=leeway_s)


def test_the_named_key_is_tried_first() -> None:
    """Tries to cut off the key that a token names behind keys that have no name."""
    plain = [public_key(jwk(private_key("P-256", f"plain {n}"))) for n in range(TRIED)]
    named = public_key(jwk(private_key("P-256"), "named"))
    tried, known = candidates([*plain, named], take_apart(token("ES256", {"kid": "named"})))
    assert (named, True, TRIED) == (tried[0], known, len(tried))


def test_no_key_shows_itself() -> None:
    """Tries to get a secret into a log by way of a key's repr."""
    assert "VerifyingKey(kind='oct', kid=None, algorithm=None)" == repr(private_key("oct"))


def test_every_algorithm_is_one_that_joserfc_has() -> None:
    """Tries to allow an algorithm that the library has renamed or dropped, or one that signs nothing."""
    assert set(KINDS) <= set(JWSRegistry.algorithms)
    assert "none" not in KINDS
    assert {"oct"} == {KINDS[name] for name in KINDS if JWSRegistry.algorithms[name].key_type == "oct"}
