"""What a request says of itself: `client_id`, `Origin`, and whether it is of this machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args
from urllib.parse import urlsplit

from attrs import field, frozen
from werkzeug.datastructures import Headers

from ngos.gateway.door import is_loopback
from ngos.protocol.rules import ClientId, RuleError

_CLIENT_ID = get_args(ClientId)[1]
_OF_PROXIES: Final = frozenset({"forwarded", "via", "x-real-ip"})


@frozen
class Rejection(Exception):
    """A request is refused before anything is done, with a status of protocol.md section 8 and one line."""

    status: int
    message: str
    headers: Mapping[str, str] = field(factory=dict)


def check_client_id(values: list[str]) -> str | None:
    """The `client_id` of a query; None if there is none. Raises Rejection 400."""
    if not values:
        return None
    try:
        if len(values) > 1:
            raise RuleError("is given more than once")
        client_id: str = _CLIENT_ID(values[0])
    except RuleError as exc:
        raise Rejection(400, f"client_id {exc}") from None
    return client_id


def check_origin(headers: Headers, allowed: tuple[str, ...]) -> None:
    """A browser's page may connect if the list has its origin or `*`, or it is our own. Raises 403.

    Without a list a page of this machine may too, where we are called by a name of this machine: whoever serves it
    runs programs here.
    """
    origin = headers.get("Origin")
    if origin is None or "*" in allowed or origin in allowed or _own(origin, headers):
        return
    if not allowed and _is_this_machine(_netloc(origin)) and _is_this_machine(headers.get("Host", "")):
        return
    raise Rejection(403, "this origin is not allowed: NGOS_ALLOWED_ORIGINS lists those that are")


def check_not_foreign(headers: Headers, allowed: tuple[str, ...]) -> None:
    """A page of another site must not post in its visitor's name: its origin must be listed, or ours. Raises 403."""
    origin = headers.get("Origin")
    if origin is not None and origin not in allowed and not _own(origin, headers):
        raise Rejection(403, "this origin is not allowed: NGOS_ALLOWED_ORIGINS lists those that are")


def check_loopback(headers: Headers, address: str | None) -> None:
    """For administrators: only from this machine, and not through a proxy, whose clients may be anybody. Raises 403.

    The Host must be this machine too: a page's own name may be made to lead here (DNS rebinding).
    """
    names = {name.lower() for name, _ in headers}
    forwarded = names & _OF_PROXIES or any(name.startswith("x-forwarded-") for name in names)
    if forwarded or not is_loopback(address) or not _is_this_machine(headers.get("Host", "")):
        raise Rejection(403, "only from this machine")


def _own(origin: str, headers: Headers) -> bool:
    return _netloc(origin) == headers.get("Host", "").lower() != ""


def _netloc(origin: str) -> str:
    """Host and port of an origin; empty where it has none, as `null` does."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name)
