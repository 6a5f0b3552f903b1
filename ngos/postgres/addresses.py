"""From a conninfo to the addresses to try, without blocking on a resolver. Imports nothing of ngos."""

from __future__ import annotations

import socket

import psycopg
import trio
from psycopg._conninfo_utils import get_param, is_ip_address, split_attempts
from psycopg.abc import ConnDict

# Name resolution blocks: its threads are its own, so that a dead resolver starves nobody else.
_resolver_limiter = trio.CapacityLimiter(8)


async def attempts_of(params: ConnDict) -> list[ConnDict]:
    """One set of parameters per address to try, names resolved: libpq itself would block on a name.

    psycopg.OperationalError if no name can be resolved. Cancellation leaves the resolver's thread to its fate.
    """
    attempts: list[ConnDict] = []
    failure: OSError | None = None
    standby_first = get_param(params, "target_session_attrs") == "prefer-standby"
    for attempt in split_attempts(params):
        host = get_param(attempt, "host")
        if not host or host.startswith(("/", "@")) or get_param(attempt, "hostaddr"):
            attempts.append(attempt)
        elif is_ip_address(host):
            attempts.append({**attempt, "hostaddr": host})
        else:
            try:
                found = await trio.to_thread.run_sync(
                    _resolve, host, get_param(attempt, "port"), limiter=_resolver_limiter, abandon_on_cancel=True
                )
            except OSError as error:
                failure = error
            else:
                attempts += [{**attempt, "hostaddr": address} for address in found]
    if not attempts:
        raise psycopg.OperationalError(f"failed to resolve host {params.get('host')!r}: {failure}")
    if standby_first:
        # libpq does this over all its hosts, but we show it one host at a time.
        attempts = [{**attempt, "target_session_attrs": kind} for kind in ("standby", "any") for attempt in attempts]
    return attempts


def _resolve(host: str, port: str | None) -> list[str]:
    found = socket.getaddrinfo(host, port or "5432", proto=socket.IPPROTO_TCP, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
