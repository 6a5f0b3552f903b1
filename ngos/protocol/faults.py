"""Error codes of protocol.md section 7, and the exceptions that become error replies. May import `ngos.errors`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ngos.errors import NgosError


class ErrorCode(StrEnum):
    """The `code` of an error reply."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_PAYLOAD = "invalid_payload"
    CONFLICT = "conflict"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether the same command may succeed if it is sent again later."""
        return self in _RETRYABLE


_RETRYABLE = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})


class CommandFailed(NgosError):
    """One command is answered with an error, and the connection stays. `message` and `details` go to the client."""

    def __init__(self, code: ErrorCode, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class ClientError(CommandFailed):
    """A command failed through its sender's fault."""


class DecodeError(ClientError):
    """The bytes are not a command. `command_id` is the envelope's id where it had a valid one."""

    def __init__(self, code: ErrorCode, message: str, *, command_id: str | None = None, **details: Any) -> None:
        super().__init__(code, message, **details)
        self.command_id = command_id


def unavailable() -> CommandFailed:
    """Section 7: the database failed this command; what it was is in the log, not in the reply."""
    return CommandFailed(
        ErrorCode.UNAVAILABLE, "the database did not answer in time; if the command had an id, send it again"
    )
