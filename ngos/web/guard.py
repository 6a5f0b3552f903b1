"""Who may come in: `client_id`, `Origin`, and loopback for the routes of administrators. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import get_args
from urllib.parse import urlsplit

from attrs import frozen
from werkzeug.datastructures import Headers

from ngos.protocol.rules import ClientId, RuleError

_CLIENT_ID = get_args(ClientId)[1]


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
    """For administrators: only from this machine, and not through a proxy, whose clients may be anybody. Raises 403."""
    forwarded = any(name in headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP"))
    if forwarded or not _is_loopback(address):
        raise Rejection(403, "only from this machine")


def _own(origin: str, headers: Headers) -> bool:
    return urlsplit(origin).netloc == headers.get("Host", "").lower()


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
