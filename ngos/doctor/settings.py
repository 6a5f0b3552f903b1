"""Whether the settings go together, as far as that can be told without a network."""

from __future__ import annotations

import time
from typing import Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from ngos.auth.terms import terms_of
from ngos.auth.verifier import Verifier
from ngos.config import Settings
from ngos.doctor.finding import Check, Finding, aside, ok, problem, run, warning
from ngos.listening import address_of, check_exposure
from ngos.redis import parse


async def check_address(settings: Settings) -> list[Finding]:
    """Raises SetupError: no such address, or one of the world without authentication."""
    address = str((await aside(address_of, settings))[1][0])
    check_exposure(settings, address, settings.host)
    return [ok("address", f"{settings.host} port {settings.port}")]


async def check_keys(settings: Settings) -> list[Finding]:
    """Raises SetupError: keys that can't be read, or terms that don't go together."""
    if settings.auth_mode == "none":
        return [ok("authentication", "none: who can connect may do everything")]
    await aside(Verifier.open, terms_of(settings), time.time)
    return [ok("authentication", "tokens, and keys to verify them with")]


async def check_database_url(settings: Settings) -> list[Finding]:
    if settings.database_url is None:
        return [ok("database address", "none: a Postgres of its own")]
    try:
        conninfo_to_dict(str.__str__(settings.database_url))
    except ProgrammingError:
        # Not its text: that has parts of the address, and so perhaps of a password.
        return [problem("database address", "can't be read", "write postgresql://user:password@host/name")]
    return [ok("database address", "can be read")]


async def check_redis_url(settings: Settings) -> list[Finding]:
    """Raises SetupError: it can't be read, or nothing is installed that speaks to it."""
    about = "redis address"
    if settings.redis_url is not None:
        parse(str.__str__(settings.redis_url))
        return [ok(about, "can be read")]
    if settings.backplane == "redis":
        return [problem(about, "--backplane redis needs --redis-url", "set it, or --backplane postgres")]
    return []


async def check_limits(settings: Settings) -> list[Finding]:
    """What is allowed, one by one, and makes no sense together."""
    found = []
    if settings.mailbox_bytes > settings.mailbox_total_bytes:
        found.append(
            warning(
                "limits",
                f"mailbox_bytes, {settings.mailbox_bytes:,}, is over that of all, {settings.mailbox_total_bytes:,}",
                "one client can't have more than all",
            )
        )
    if settings.connections_per_address > settings.connections:
        found.append(
            warning(
                "limits",
                f"connections_per_address {settings.connections_per_address:,} is over connections "
                f"{settings.connections:,}",
                "one address may take all the room",
            )
        )
    return found or [ok("limits", "go together")]


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("address", check_address),
    ("authentication", check_keys),
    ("database address", check_database_url),
    ("redis address", check_redis_url),
    ("limits", check_limits),
)


async def faults(settings: Settings) -> list[Finding]:
    """What would keep a server from starting."""
    return [finding for finding in await run(CHECKS, settings) if finding.state == "problem"]
