"""A token taken apart, strictly, and its claims judged; its signature is the verifier's to check. Pure.

The header is read once, here, so that nothing can be read into it that was not checked. What names keys in it (`jwk`,
`jku`, `x5u`, `x5c`) is ignored: the keys are the operator's choice. Whatever is wrong raises Fault.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, TypeGuard

from attrs import frozen

from ngos.auth.grants import NOTHING, Grant, Identity, parse_grant
from ngos.auth.refusals import Fault, Refusal

TOKEN_CHARS: Final = 16_384
SUBJECT_CHARS: Final = 255
LATEST_S: Final = 253_402_300_799
"""The last second of the year 9999: a time after it can't be written as a date."""
DIGITS: Final = 400
"""Of a whole number in JSON; a float ends before that, and Python takes the square of them to read one."""

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]*")
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, halves of pairs, ends of lines


@frozen
class Token:
    """A token in parts. `signed` is what the signature is over."""

    algorithm: str
    kid: str | None
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


@frozen
class Rules:
    """What the claims must say. `leeway_s`: seconds by which the clocks may differ."""

    issuer: str | None
    audience: str | None
    leeway_s: float
    claim: str


def take_apart(token: str) -> Token:
    """Read a token, whose every part is still only what its sender says."""
    if len(token) > TOKEN_CHARS:
        raise Fault(Refusal.MALFORMED)
    segments = token.split(".")
    if len(segments) != 3:  # five are a JWE
        raise Fault(Refusal.MALFORMED)
    try:
        header, claims, signature = read_object(decoded(segments[0])), decoded(segments[1]), decoded(segments[2])
    except (ValueError, RecursionError):
        raise Fault(Refusal.MALFORMED) from None
    algorithm, kid = header.get("alg"), header.get("kid")
    # `b64` (RFC 7797) changes what is signed, `enc` makes it a JWE; `crit` says that something must be understood.
    if type(algorithm) is not str or not {"crit", "b64", "enc"}.isdisjoint(header):
        raise Fault(Refusal.MALFORMED)
    if kid is not None and type(kid) is not str:
        raise Fault(Refusal.MALFORMED)
    try:
        values = read_object(claims)
    except (ValueError, RecursionError):
        raise Fault(Refusal.MALFORMED) from None
    return Token(algorithm, kid, values, token.rpartition(".")[0].encode("ascii"), signature)


def decoded(segment: str) -> bytes:
    """Decode base64url without padding, in its one spelling; raises ValueError for any other."""
    if not _SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        raise ValueError("not base64url")
    data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if urlsafe_b64encode(data).rstrip(b"=") != segment.encode("ascii"):
        raise ValueError("bits beyond the end")
    return data


def read_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object in UTF-8; raises ValueError, or RecursionError where it is nested too deeply.

    A key that is there twice is refused (RFC 7519 section 4): others may have looked at the other one. So are numbers
    that are none, infinite or endless.
    """
    value = json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_without_duplicates,
        parse_constant=_no_constant,
        parse_int=_short_int,
        parse_float=_finite_float,
    )
    if type(value) is not dict:
        raise ValueError("not an object")
    return value


def judge(claims: dict[str, Any], rules: Rules, now_s: float) -> Identity:
    """Return whom the claims name, if they hold at `now_s` (Unix seconds); raises Fault."""
    expires_s, begins_s = _time(claims, "exp"), _time(claims, "nbf")
    _time(claims, "iat")
    if expires_s is None:
        raise Fault(Refusal.CLAIMS)
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise Fault(Refusal.ISSUER)
    if not _is_for(claims.get("aud"), rules.audience):
        raise Fault(Refusal.AUDIENCE)
    if now_s >= expires_s + rules.leeway_s:
        raise Fault(Refusal.EXPIRED)
    if begins_s is not None and now_s < begins_s - rules.leeway_s:
        raise Fault(Refusal.NOT_YET)
    subject = claims.get("sub")
    if not is_subject(subject):
        raise Fault(Refusal.SUBJECT)
    return Identity(subject, _grant(claims, rules.claim), expires_s)


def is_subject(value: Any) -> TypeGuard[str]:
    """Whether this can name somebody: in a database, a log and a line."""
    return (
        type(value) is str
        and 1 <= len(value) <= SUBJECT_CHARS
        and not any(unicodedata.category(char) in _UNPRINTABLE for char in value)
    )


def _is_for(audience: Any, own: str | None) -> bool:
    # RFC 7519 section 4.1.3: who has no name of its own can't be meant by one.
    if own is None:
        return audience is None
    return audience == own or (type(audience) is list and own in audience)


def _time(claims: dict[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if type(value) not in (int, float) or not 0 <= value <= LATEST_S:
        raise Fault(Refusal.CLAIMS)
    return float(value)


def _grant(claims: dict[str, Any], name: str) -> Grant:
    if name not in claims:
        return NOTHING
    try:
        return parse_grant(claims[name])
    except ValueError:
        raise Fault(Refusal.CLAIMS) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is there twice")
    return values


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _short_int(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError("a number of too many digits")
    return int(text)


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number without end")
    return number
