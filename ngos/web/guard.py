"""Who may come in: `client_id`, `Origin`, and loopback for the routes of administrators. Pure."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final, get_args
from urllib.parse import urlsplit

from attrs import frozen
from werkzeug.datastructures import Headers

from ngos.protocol.rules import ClientId, RuleError

_CLIENT_ID = get_args(ClientId)[1]
_OF_PROXIES: Final = frozenset({"forwarded", "via", "x-real-ip"})


@frozen
class Rejection(Exception):
    """A request is refused before anything is done, with a status of protocol.md section 8 and one line."""

    status: int
    message: str


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
    """A browser's page may connect if the list is empty, has its origin or `*`, or it is our own. Raises 403."""
    origin = headers.get("Origin")
    if origin is not None and allowed and "*" not in allowed and origin not in allowed and not _own(origin, headers):
        raise Rejection(403, "this origin is not allowed")


def check_not_foreign(headers: Headers, allowed: tuple[str, ...]) -> None:
    """A page of another site must not post in its visitor's name: its origin must be listed, or ours. Raises 403."""
    origin = headers.get("Origin")
    if origin is not None and origin not in allowed and not _own(origin, headers):
        raise Rejection(403, "this origin is not allowed")


def check_loopback(headers: Headers, address: str | None) -> None:
    """For administrators: only from this machine, and not through a proxy, whose clients may be anybody. Raises 403.

    The Host must be this machine too: a page's own name may be made to lead here (DNS rebinding).
    """
    names = {name.lower() for name, _ in headers}
    forwarded = names & _OF_PROXIES or any(name.startswith("x-forwarded-") for name in names)
    if forwarded or not _is_loopback(address) or not _is_this_machine(headers.get("Host", "")):
        raise Rejection(403, "only from this machine")


def _own(origin: str, headers: Headers) -> bool:
    try:
        return urlsplit(origin).netloc == headers.get("Host", "").lower()
    except ValueError:
        return False


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(address: str | None) -> bool:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return False
    # What listens on IPv4 and IPv6 at once sees the former mapped into the latter.
    return ((parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None) or parsed).is_loopback
