"""A defect becomes a loud log line with an incident id, and an error reply that names only the id.

Floor 3: may import `ngos.protocol`.
"""

from __future__ import annotations

import secrets

import structlog

from ngos.protocol.faults import CommandFailed, ErrorCode

_log = structlog.get_logger("ngos")


def incident(event: str, exc: BaseException, **keys: object) -> CommandFailed:
    """Log a defect with its traceback, and return what the client may know of it."""
    incident_id = report(event, exc, **keys)
    return CommandFailed(ErrorCode.INTERNAL, f"a defect in the server; incident {incident_id} is in its log")


def report(event: str, exc: BaseException, **keys: object) -> str:
    """Log a defect with its traceback, and return the incident's id."""
    incident_id = secrets.token_hex(6)
    _log.error(event, incident=incident_id, exc_info=exc, **keys)
    return incident_id
