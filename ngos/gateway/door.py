"""Who is let in at all, by the address that it comes from: before TLS, HTTP or anything else is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import trio
from attrs import define, field

from ngos.config import Settings
from ngos.gateway.limits import Ledger, Limit, Meter, Refusals, Use

RESERVE: Final = 256
"""Connections that may be there beside the WebSockets: for probes and metrics when the server is full."""
MISDEED_ARRIVALS: Final = 20
"""What a connection counts as beside itself that broke the protocol or a limit for too long."""
UNKNOWN: Final = ""
"""The address of who has none, over a Unix socket for instance."""

Address = IPv4Address | IPv6Address


@define(eq=False)
class Door:
    """Counts the connections of each address, and what they begin. Proxies are many in one, so they are not held to it.

    Of IPv6, a /64 is one address: whoever has one has them all (RFC 6177).
    """

    _settings: Settings
    _refusals: Refusals
    open: int = field(init=False, default=0)
    rejections: Counter[int] = field(init=False, factory=Counter)
    is_proxy: Callable[[str], bool] = field(init=False)
    _addresses: Ledger[str] = field(init=False)
    _proxies: list[IPv4Network | IPv6Network] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._addresses = Ledger(self._settings.connections, self._new)
        self._proxies = [ip_network(proxy) for proxy in self._settings.proxies]
        self.is_proxy = lru_cache(maxsize=1024)(self._is_proxy)

    def apply(self, settings: Settings) -> None:
        """Go on with other limits. Not with other proxies: who came by one is counted as such until he leaves."""
        self._settings = settings
        self._addresses.retune(settings.connections)

    def enter(self, address: str) -> int:
        """Take in a connection: 0; else the status to turn it away with, 429 or 503. To be followed by `leave`."""
        if self.open >= self._settings.connections + RESERVE:
            self._refusals.count(Limit.CONNECTIONS)
            return 503
        if not self.is_proxy(address):
            if not self.has_room(address):
                return 429
            self.enter_behind(address)
        self.open += 1
        return 0

    def leave(self, address: str) -> None:
        self.open -= 1
        if not self.is_proxy(address):
            self.leave_behind(address)

    def has_room(self, address: str) -> bool:
        """Count the beginning of a connection; False: this address has too many, or begins too many."""
        use = self._addresses.of(_key(address))
        if use.open >= self._settings.connections_per_address:
            self._refusals.count(Limit.CONNECTIONS_PER_ADDRESS)
            return False
        return self._begins(use)

    def enter_behind(self, address: str) -> None:
        """Count one that comes by a proxy, until `leave_behind`."""
        self._addresses.enter(_key(address))

    def leave_behind(self, address: str) -> None:
        self._addresses.leave(_key(address))

    def may_request(self, address: str) -> bool:
        """Count a request over HTTP; False: this address begins too many."""
        return self._begins(self._addresses.of(_key(address)))

    def misdeed(self, address: str) -> None:
        """Charge an address for a connection that had to be cut, so that who does that can't come back for more."""
        if not self.is_proxy(address):
            (meter,) = self._addresses.of(_key(address)).meters
            meter.charge(MISDEED_ARRIVALS, trio.current_time())

    def client_of(self, address: str, forwarded_for: str) -> str:
        """Where a request comes from: by X-Forwarded-For as far as our own proxies have written it."""
        hops = [hop.strip() for hop in forwarded_for.split(",")] if forwarded_for else []
        while hops and self.is_proxy(address):
            address = hops.pop()
        return address

    def rejected(self, status: int) -> None:
        """Count a WebSocket that was refused, or a connection that was turned away, by the status of the answer."""
        self.rejections[status] += 1

    def timed_out(self) -> None:
        """Count a connection whose request did not come in time."""
        self._refusals.count(Limit.HANDSHAKE_S)

    def too_long(self) -> None:
        """Count a request whose headers were too long."""
        self._refusals.count(Limit.HEADER_BYTES)

    def _begins(self, use: Use) -> bool:
        (meter,) = use.meters
        now = trio.current_time()
        if meter.excess_s(1, now) > 0:
            self._refusals.count(Limit.ARRIVALS_PER_S)
            return False
        meter.charge(1, now)
        return True

    def _is_proxy(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._proxies)

    def _new(self) -> Use:
        settings = self._settings
        burst_s = settings.arrivals_at_once / settings.arrivals_per_s
        return Use((Meter.of(Limit.ARRIVALS_PER_S, settings.arrivals_per_s, burst_s),))


def is_loopback(address: str | None) -> bool:
    """Whether an address is this machine's own."""
    parsed = _parse(address or "")
    return parsed is not None and parsed.is_loopback


def _parse(address: str) -> Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    # What listens on IPv4 and IPv6 at once sees the former mapped into the latter.
    return (parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None) or parsed


@lru_cache(maxsize=4096)
def _key(address: str) -> str:
    parsed = _parse(address)
    if parsed is None:
        return UNKNOWN
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed)
