"""Tokens: the good ones name whom they name, all others are refused, and nothing else is ever raised."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ngos.auth.grants import NOTHING, Identity, parse_grant
from ngos.auth.issue import encoded
from ngos.auth.keys import KINDS, VerifyingKey, read_private_key
from ngos.auth.refusals import Refusal, Refused
from ngos.auth.tokens import TOKEN_CHARS, take_apart
from ngos.auth.verifier import Verifier
from tests.auth.tokens import (
    AUDIENCE,
    GRANT,
    ISSUER,
    NOW_S,
    SECRET,
    b64,
    claims,
    every_kind,
    jwk,
    jwks,
    pem,
    private_key,
    raw_token,
    segment,
    terms,
    token,
    write_keys,
    write_secret,
)

HS = {"alg": "HS256", "typ": "JWT"}
ALICE = Identity("alice", parse_grant(GRANT), NOW_S + 600)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    return every_kind(tmp_path_factory.mktemp("keys"), refusal_s=0.0)


async def refusal(verifier: Verifier, text: str) -> Refusal:
    """Why a token is refused; the exception tells its holder nothing else."""
    before = dict(verifier.refusals)
    with pytest.raises(Refused) as caught:
        await verifier.verify(text)
    assert "the token is not valid" == str(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    assert {**before, caught.value.reason: before[caught.value.reason] + 1} == verifier.refusals
    return caught.value.reason


@pytest.mark.parametrize("algorithm", KINDS)
async def test_a_good_token(algorithm: str, verifier: Verifier) -> None:
    """Tries to refuse a good token of any algorithm, or to let it name somebody else."""
    assert ALICE == await verifier.verify(token(algorithm))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE]},
        {"aud": ["other", AUDIENCE]},
        {"exp": NOW_S + 600.0},
        {"nbf": NOW_S},
        {"iat": ...},
        {"iat": NOW_S + 10_000},
        {"jti": "1", "scope": {"deep": [[[1.5e300]]]}},
    ],
)
async def test_good_claims_in_other_shapes(changes: dict[str, Any], verifier: Verifier) -> None:
    """Tries to refuse what RFC 7519 allows."""
    assert ALICE == await verifier.verify(token(**changes))


async def test_no_grant_is_nothing(verifier: Verifier) -> None:
    """Tries to be allowed something by a token that says nothing of it."""
    assert NOTHING == (await verifier.verify(token(ngos=...))).grant


@pytest.mark.parametrize("subject", ["a", "x" * 255, "Ünïcode 名", "a b|c@d"])
async def test_subjects(subject: str, verifier: Verifier) -> None:
    """Tries to refuse a name of somebody."""
    assert subject == (await verifier.verify(token(sub=subject))).subject


def _unsigned(algorithm: str) -> str:
    return (encoded({"alg": algorithm}) + b"." + encoded(claims()) + b".").decode()


def _hmac_by(secret: bytes) -> str:
    return raw_token(HS, claims(), secret)


def _es256_of(signature: bytes) -> str:
    head, _, _ = token("ES256").rpartition(".")
    return f"{head}.{b64(signature).decode()}"


def _attacker(**header: Any) -> str:
    return token("RS256", header, which="attacker")


def _swapped(algorithm: str, claimed: str) -> str:
    """Signed by one algorithm, with another in the header."""
    _, payload, signature = token(algorithm).split(".")
    return ".".join((encoded({"alg": claimed}).decode(), payload, signature))


BAD: dict[str, tuple[Any, Refusal]] = {
    "expired": (lambda: token(exp=NOW_S), Refusal.EXPIRED),
    "long expired": (lambda: token(exp=0), Refusal.EXPIRED),
    "not yet": (lambda: token(nbf=NOW_S + 1), Refusal.NOT_YET),
    "another issuer": (lambda: token(iss="https://issuer.example/"), Refusal.ISSUER),
    "a list of issuers": (lambda: token(iss=[ISSUER]), Refusal.ISSUER),
    "no issuer": (lambda: token(iss=...), Refusal.ISSUER),
    "another audience": (lambda: token(aud="other"), Refusal.AUDIENCE),
    "other audiences": (lambda: token(aud=["other", AUDIENCE + "x"]), Refusal.AUDIENCE),
    "an audience that contains ours": (lambda: token(aud=f"x{AUDIENCE}x"), Refusal.AUDIENCE),
    "an object as audience": (lambda: token(aud={AUDIENCE: 1}), Refusal.AUDIENCE),
    "nested audiences": (lambda: token(aud=[[AUDIENCE]]), Refusal.AUDIENCE),
    "no audience": (lambda: token(aud=...), Refusal.AUDIENCE),
    "null audience": (lambda: token(aud=None), Refusal.AUDIENCE),
    "no end": (lambda: token(exp=...), Refusal.CLAIMS),
    "null end": (lambda: token(exp=None), Refusal.CLAIMS),
    "text end": (lambda: token(exp=str(int(NOW_S) + 600)), Refusal.CLAIMS),
    "true end": (lambda: token(exp=True), Refusal.CLAIMS),
    "list end": (lambda: token(exp=[NOW_S + 600]), Refusal.CLAIMS),
    "negative end": (lambda: token(exp=-1), Refusal.CLAIMS),
    "huge end": (lambda: token(exp=10**300), Refusal.CLAIMS),
    "end after the year 9999": (lambda: token(exp=253_402_300_800), Refusal.CLAIMS),
    "endless end": (lambda: raw_token(HS, b'{"sub":"alice","exp":1e400}'), Refusal.MALFORMED),
    "infinite end": (lambda: raw_token(HS, b'{"sub":"alice","exp":Infinity}'), Refusal.MALFORMED),
    "end that is no number": (lambda: raw_token(HS, b'{"sub":"alice","exp":NaN}'), Refusal.MALFORMED),
    "end of many digits": (lambda: raw_token(HS, b'{"sub":"alice","exp":' + b"9" * 9000 + b"}"), Refusal.MALFORMED),
    "text begin": (lambda: token(nbf="0"), Refusal.CLAIMS),
    "null begin": (lambda: token(nbf=None), Refusal.CLAIMS),
    "text issue": (lambda: token(iat="0"), Refusal.CLAIMS),
    "no subject": (lambda: token(sub=...), Refusal.SUBJECT),
    "null subject": (lambda: token(sub=None), Refusal.SUBJECT),
    "empty subject": (lambda: token(sub=""), Refusal.SUBJECT),
    "long subject": (lambda: token(sub="x" * 256), Refusal.SUBJECT),
    "number subject": (lambda: token(sub=7), Refusal.SUBJECT),
    "list subject": (lambda: token(sub=["alice"]), Refusal.SUBJECT),
    "NUL in subject": (lambda: token(sub="alice\0"), Refusal.SUBJECT),
    "line in subject": (lambda: token(sub="alice\nroot"), Refusal.SUBJECT),
    "escape in subject": (lambda: token(sub="\x1b[2J"), Refusal.SUBJECT),
    "C1 in subject": (lambda: token(sub="\x9b2J"), Refusal.SUBJECT),
    "half a pair in subject": (lambda: token(sub="\ud800"), Refusal.SUBJECT),
    "line separator in subject": (lambda: token(sub="a\u2028b"), Refusal.SUBJECT),
    "null grant": (lambda: token(ngos=None), Refusal.CLAIMS),
    "unknown family": (lambda: token(ngos={"commands": ["root"]}), Refusal.CLAIMS),
    "unknown key of a grant": (lambda: token(ngos={"command": ["read"]}), Refusal.CLAIMS),
    "class in a pattern": (lambda: token(ngos={"subscribe": ["[a-z]*"]}), Refusal.CLAIMS),
    "alg none": (lambda: _unsigned("none"), Refusal.ALGORITHM),
    "alg nOnE": (lambda: _unsigned("nOnE"), Refusal.ALGORITHM),
    "alg None of a signed one": (lambda: _swapped("HS256", "none"), Refusal.ALGORITHM),
    "alg empty": (lambda: _unsigned(""), Refusal.ALGORITHM),
    "alg HS512": (lambda: _swapped("HS256", "HS512"), Refusal.ALGORITHM),
    "alg dir": (lambda: _unsigned("dir"), Refusal.ALGORITHM),
    "alg null": (lambda: raw_token({"alg": None}, claims()), Refusal.MALFORMED),
    "alg list": (lambda: raw_token({"alg": ["HS256"]}, claims()), Refusal.MALFORMED),
    "no alg": (lambda: raw_token({}, claims()), Refusal.MALFORMED),
    "the RSA key's PEM as a secret": (lambda: _hmac_by(pem(private_key("RSA"))), Refusal.SIGNATURE),
    "the same without its newline": (lambda: _hmac_by(pem(private_key("RSA")).strip()), Refusal.SIGNATURE),
    "the RSA key's DER as a secret": (lambda: _hmac_by(private_key("RSA").key.as_der()), Refusal.SIGNATURE),  # type: ignore[union-attr]
    "the RSA key's JWK as a secret": (
        lambda: _hmac_by(json.dumps(jwk(private_key("RSA"))).encode()),
        Refusal.SIGNATURE,
    ),
    "the RSA key's modulus as a secret": (
        lambda: _hmac_by(urlsafe_b64decode(jwk(private_key("RSA"))["n"] + "==")),
        Refusal.SIGNATURE,
    ),
    "an empty secret": (lambda: _hmac_by(b""), Refusal.SIGNATURE),
    "the attacker's jwk": (lambda: _attacker(jwk=jwk(private_key("RSA", "attacker"))), Refusal.SIGNATURE),
    "the attacker's jku": (lambda: _attacker(jku="http://127.0.0.1:1/keys"), Refusal.SIGNATURE),
    "the attacker's x5u": (lambda: _attacker(x5u="http://127.0.0.1:1/cert"), Refusal.SIGNATURE),
    "the attacker's x5c": (lambda: _attacker(x5c=["AAAA"]), Refusal.SIGNATURE),
    "a path as kid": (lambda: token(which="attacker", header={"kid": "../../dev/null"}), Refusal.KEY),
    "unknown kid": (lambda: token("RS256", {"kid": "unknown"}, which="attacker"), Refusal.KEY),
    "number kid": (lambda: token(header={"kid": 7}), Refusal.MALFORMED),
    "object kid": (lambda: token(header={"kid": {}}), Refusal.MALFORMED),
    "crit": (lambda: token(header={"crit": ["exp"], "exp": 1}), Refusal.MALFORMED),
    "empty crit": (lambda: token(header={"crit": []}), Refusal.MALFORMED),
    "null crit": (lambda: token(header={"crit": None}), Refusal.MALFORMED),
    "b64": (lambda: token(header={"b64": False}), Refusal.MALFORMED),
    "enc": (lambda: token(header={"enc": "A256GCM"}), Refusal.MALFORMED),
    "a JWE": (lambda: f"{encoded({'alg': 'dir', 'enc': 'A256GCM'}).decode()}..AAAA.AAAA.AAAA", Refusal.MALFORMED),
    "zeros for ES256": (lambda: _es256_of(bytes(64)), Refusal.SIGNATURE),
    "ones for ES256": (lambda: _es256_of(b"\xff" * 64), Refusal.SIGNATURE),
    "no signature for ES256": (lambda: _es256_of(b""), Refusal.SIGNATURE),
    "DER for ES256": (lambda: _es256_of(b"\x30\x06\x02\x01\x01\x02\x01\x01"), Refusal.SIGNATURE),
    "half of an ES256": (lambda: token("ES256")[:-42], Refusal.SIGNATURE),
    "truncated RS256": (lambda: token("RS256")[:-2], Refusal.SIGNATURE),
    "truncated HS256": (lambda: token()[:-3], Refusal.SIGNATURE),
    "truncated EdDSA": (lambda: token("EdDSA")[:-2], Refusal.SIGNATURE),
    "lengthened HS256": (lambda: token() + "AAAA", Refusal.SIGNATURE),
    "no signature": (lambda: token().rpartition(".")[0] + ".", Refusal.SIGNATURE),
    "other claims under a signature": (
        lambda: ".".join((token().split(".")[0], encoded(claims(sub="root")).decode(), token().split(".")[2])),
        Refusal.SIGNATURE,
    ),
    "RS256 as PS256": (lambda: _swapped("RS256", "PS256"), Refusal.SIGNATURE),
    "RS256 as ES256": (lambda: _swapped("RS256", "ES256"), Refusal.SIGNATURE),
    "HS256 as RS256": (lambda: _swapped("HS256", "RS256"), Refusal.SIGNATURE),
    "ES384 as ES256": (lambda: _swapped("ES384", "ES256"), Refusal.SIGNATURE),
    "a list as claims": (lambda: raw_token(HS, b"[]"), Refusal.MALFORMED),
    "text as claims": (lambda: raw_token(HS, b'"alice"'), Refusal.MALFORMED),
    "null as claims": (lambda: raw_token(HS, b"null"), Refusal.MALFORMED),
    "a token as claims": (lambda: raw_token({**HS, "cty": "JWT"}, token().encode()), Refusal.MALFORMED),
    "no claims": (lambda: raw_token(HS, b""), Refusal.MALFORMED),
    "bytes as claims": (lambda: raw_token(HS, b"\xff\xfe"), Refusal.MALFORMED),
    "a mark of order before the claims": (lambda: raw_token(HS, b"\xef\xbb\xbf{}"), Refusal.MALFORMED),
    "the end twice": (lambda: raw_token(HS, b'{"sub":"alice","exp":1,"exp":1800000600}'), Refusal.MALFORMED),
    "twice within": (lambda: raw_token(HS, b'{"sub":"alice","ngos":{"publish":[],"publish":[]}}'), Refusal.MALFORMED),
    "twice by an escape": (lambda: raw_token(HS, b'{"sub":"alice","s\\u0075b":"root"}'), Refusal.MALFORMED),
    "alg twice": (lambda: raw_token(b'{"alg":"none","alg":"HS256"}', claims()), Refusal.MALFORMED),
    "deep claims": (lambda: raw_token(HS, b'{"a":' + b"[" * 12_000), Refusal.MALFORMED),
    "deep header": (lambda: raw_token(b"[" * 12_000, b"{}"), Refusal.MALFORMED),
    "a list as header": (lambda: raw_token(b'["HS256"]', claims()), Refusal.MALFORMED),
    "empty": (lambda: "", Refusal.MALFORMED),
    "one dot": (lambda: ".", Refusal.MALFORMED),
    "two dots": (lambda: "..", Refusal.MALFORMED),
    "three dots": (lambda: "...", Refusal.MALFORMED),
    "a megabyte of dots": (lambda: "." * 1_000_000, Refusal.MALFORMED),
    "a megabyte": (lambda: token(extra="x" * 1_000_000), Refusal.MALFORMED),
    "garbage": (lambda: "ZZZZ.ZZZZ.ZZZZ", Refusal.MALFORMED),
    "spaces": (lambda: f" {token()}", Refusal.MALFORMED),
    "a newline": (lambda: f"{token()}\n", Refusal.MALFORMED),
    "padding": (lambda: f"{token()}=", Refusal.MALFORMED),
    "not ASCII": (lambda: "é" + token(), Refusal.MALFORMED),
    "half a pair": (lambda: "\ud800" + token(), Refusal.MALFORMED),
    "other digits": (lambda: token().replace(".", "\u0660."), Refusal.MALFORMED),
    "the other alphabet": (lambda: _es256_of(b"\xff" * 64).replace("_", "/"), Refusal.MALFORMED),
}


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD.keys())
async def test_bad_tokens(make: Any, reason: Refusal, verifier: Verifier) -> None:
    """Tries to be somebody by a token that is not quite good, on a server that has keys of every kind."""
    with capture_logs() as logs:
        assert reason == await refusal(verifier, make())
    assert [] == logs


async def test_bits_beyond_the_end(verifier: Verifier) -> None:
    """Tries to have two spellings of one token."""
    good = token()
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if last != good[-1]:
            assert await refusal(verifier, good[:-1] + last) in (Refusal.MALFORMED, Refusal.SIGNATURE)


async def test_the_longest_token(verifier: Verifier) -> None:
    """Tries to have a limit other than the one that is written down."""
    room = TOKEN_CHARS - len(token(extra=""))
    text = token(extra="x" * (room * 3 // 4))
    while len(text) < TOKEN_CHARS - 3:
        room += 1
        text = token(extra="x" * (room * 3 // 4))
    assert ALICE == await verifier.verify(text)
    assert Refusal.MALFORMED == await refusal(verifier, text + "A" * (TOKEN_CHARS + 1 - len(text)))


async def test_only_the_allowed_algorithms(tmp_path: Path) -> None:
    """Tries to use a key that is there by an algorithm that is not allowed."""
    verifier = Verifier.open(
        terms(secret_file=write_secret(tmp_path), keys_file=write_keys(tmp_path, "RSA"), refusal_s=0.0), lambda: NOW_S
    )
    assert ALICE == await verifier.verify(token("HS256"))
    assert ALICE == await verifier.verify(token("RS256"))
    assert Refusal.ALGORITHM == await refusal(verifier, token("RS384"))
    assert Refusal.ALGORITHM == await refusal(verifier, token("PS256"))
    only_keys = Verifier.open(terms(keys_file=write_keys(tmp_path, "RSA"), refusal_s=0.0), lambda: NOW_S)
    assert Refusal.ALGORITHM == await refusal(only_keys, token("HS256"))
    for secret in (pem(private_key("RSA")), (tmp_path / "keys.pem").read_bytes().strip()):
        assert Refusal.ALGORITHM == await refusal(only_keys, _hmac_by(secret))


async def test_a_key_kept_for_one_algorithm(tmp_path: Path) -> None:
    """Tries to use a key by another algorithm than the one that it is kept for."""
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk(private_key("RSA"), "one", alg="RS256"), jwk(private_key("P-256"), "two")))
    verifier = Verifier.open(
        terms(keys_file=path, algorithms=("RS256", "PS256", "ES256"), refusal_s=0.0), lambda: NOW_S
    )
    assert ALICE == await verifier.verify(token("RS256", {"kid": "one"}))
    assert ALICE == await verifier.verify(token("ES256"))
    assert Refusal.ALGORITHM == await refusal(verifier, token("PS256", {"kid": "one"}))
    assert Refusal.ALGORITHM == await refusal(verifier, token("RS256", {"kid": "two"}))
    assert Refusal.KEY == await refusal(verifier, token("RS256", {"kid": "three"}))


@pytest.mark.parametrize("leeway_s", [0.0, 30.0, 300.0])
async def test_the_leeway_is_what_it_says(leeway_s: float, tmp_path: Path) -> None:
    """Tries to be let in a moment too early or too late, or to be told another end than the one that holds."""
    now_s = NOW_S
    verifier = Verifier.open(terms(secret_file=write_secret(tmp_path), leeway_s=leeway_s, refusal_s=0.0), lambda: now_s)
    text = token(nbf=NOW_S, exp=NOW_S + 600)
    now_s = NOW_S - leeway_s
    end_s = (await verifier.verify(text)).expires_at_s + leeway_s
    now_s -= 0.001
    assert Refusal.NOT_YET == await refusal(verifier, text)
    now_s = end_s - 0.001
    await verifier.verify(text)
    now_s = end_s
    assert Refusal.EXPIRED == await refusal(verifier, text)


async def test_without_an_audience_of_its_own(tmp_path: Path) -> None:
    """Tries to be let in by a token that is for somebody, where the server does not know who it is."""
    verifier = Verifier.open(
        terms(secret_file=write_secret(tmp_path), issuer=None, audience=None, refusal_s=0.0), lambda: NOW_S
    )
    assert ALICE == await verifier.verify(token(aud=..., iss="anybody"))
    assert Refusal.AUDIENCE == await refusal(verifier, token())


async def test_the_claim_has_the_name_that_is_set(tmp_path: Path) -> None:
    """Tries to be allowed something by a claim of another name."""
    claim = "https://ngos.example/grant"
    verifier = Verifier.open(terms(secret_file=write_secret(tmp_path), claim=claim, refusal_s=0.0), lambda: NOW_S)
    assert NOTHING == (await verifier.verify(token())).grant
    assert ALICE == await verifier.verify(token(ngos="anything", **{claim: GRANT}))


async def test_a_defect_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to get a traceback to the caller, a token into the log, or a line for each time."""
    verifier = Verifier.open(terms(secret_file=write_secret(tmp_path), refusal_s=0.0), lambda: NOW_S)

    def broken(_self: VerifyingKey, token: Any) -> bool:
        raise KeyError(token.claims["sub"])

    monkeypatch.setattr(VerifyingKey, "verifies", broken)
    with capture_logs() as logs:
        assert Refusal.MALFORMED == await refusal(verifier, token())
        assert Refusal.MALFORMED == await refusal(verifier, token())
    (line,) = logs
    assert ("auth.defect", "error") == (line["event"], line["log_level"])
    assert str(line["exc_info"]).startswith("KeyError at ")
    assert "alice" not in str(line["exc_info"])


async def test_file_keys_need_no_task(tmp_path: Path) -> None:
    """Tries to wait for keys that are there."""
    verifier = Verifier.open(terms(secret_file=write_secret(tmp_path)), lambda: NOW_S)
    await verifier.run()
    assert verifier.unready() is None


def test_the_keys_file_may_be_what_a_private_key_came_from(tmp_path: Path) -> None:
    """Tries to sign with a key other than the one in the file."""
    path = tmp_path / "private.pem"
    path.write_bytes(pem(private_key("P-256"), private=True))
    assert jwk(private_key("P-256")) == jwk(read_private_key(path))


def test_a_signature_of_hmac_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to find joserfc comparing by `==`."""
    compared = []

    def compare(*pair: bytes) -> bool:
        compared.append(pair)
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    taken = take_apart(token(which="attacker"))
    assert private_key("oct").verifies(taken)
    assert [(taken.signature, hmac.digest(SECRET, taken.signed, hashlib.sha256))] == compared


GOOD = {algorithm: token(algorithm) for algorithm in ("HS256", "ES256", "RS256", "EdDSA")}


def outcome(verifier: Verifier, text: str) -> Identity | None:
    """What a token comes to; whatever else is raised fails the test."""

    async def attempt() -> Identity | None:
        try:
            return await verifier.verify(text)
        except Refused:
            return None

    with capture_logs() as logs:
        found = trio.run(attempt)
    assert [] == logs
    return found


@given(text=st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
@settings(deadline=None)
def test_any_text_is_refused(text: str, verifier: Verifier) -> None:
    """Tries to raise something else than Refused by any text."""
    assert outcome(verifier, text) is None


@given(data=st.data(), good=st.sampled_from(sorted(GOOD.values())))
@settings(deadline=None, max_examples=150)
def test_mutations(data: st.DataObject, good: str, verifier: Verifier) -> None:
    """Tries to be somebody else by changing, cutting or repeating a part of a good token."""
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 8)))
    put = data.draw(st.text(max_size=8) | st.just(good[start:end] * 2) | st.sampled_from([".", "", good]))
    text = good[:start] + put + good[end:]
    assert outcome(verifier, text) == (ALICE if text == good else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "enc", "jwk", "sub", "exp", "nbf", "iat", "iss", "aud"])


@given(header=st.dictionaries(NAMES, JSON), payload=st.dictionaries(NAMES | st.just("ngos"), JSON))
@settings(deadline=None, max_examples=150)
def test_signed_nonsense(header: dict[str, Any], payload: dict[str, Any], verifier: Verifier) -> None:
    """Tries to raise something else than Refused by what a provider signed and should not have."""
    text = raw_token(json.dumps({**HS, **header}).encode(), json.dumps({**claims(), **payload}).encode())
    found = outcome(verifier, text)
    assert found is None or evolve(found, grant=NOTHING) == Identity(
        payload.get("sub", "alice"), NOTHING, payload.get("exp", NOW_S + 600)
    )


def test_segments_helper() -> None:
    """Tries to have a helper of these tests that spells differently from what is tested."""
    assert segment({"a": 1}) == encoded({"a": 1}) == b64(b'{"a":1}')
