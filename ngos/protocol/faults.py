"""Error codes of protocol.md section 7, and the exceptions that become error replies. May import `ngos.errors`."""

from __future__ import annotations

from enum import StrEnum
from math import ceil
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

    @property
    def meaning(self) -> str:
        """When it is the answer, in a few words, for documents."""
        return _MEANINGS[self]


_RETRYABLE = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})
_MEANINGS = {
    ErrorCode.INVALID_JSON: "not JSON, not an object, or nested deeper than the server allows (32)",
    ErrorCode.INVALID_MESSAGE: "an envelope field is missing or wrong",
    ErrorCode.UNKNOWN_TYPE: "no such command; the message says what was meant if a name is close",
    ErrorCode.INVALID_PAYLOAD: "`details.errors` lists every fault with its path",
    ErrorCode.CONFLICT: "another version, a second edge of the kind, or an id that another command had",
    ErrorCode.UNAUTHENTICATED: "who sent it has not said who he is, or not validly",
    ErrorCode.FORBIDDEN: "what it asks for is not allowed to who sent it, or to anybody",
    ErrorCode.RATE_LIMITED: "over a limit that time mends: `details.retry_after_ms`",
    ErrorCode.TOO_MANY_SUBSCRIPTIONS: "over the limit of topics for one connection",
    ErrorCode.UNAVAILABLE: "the database can't be reached or did not answer in time; the effect is unknown, "
    "so give commands an id and send the same again",
    ErrorCode.INTERNAL: "a defect in the server; the message names an incident that is in its log",
}


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
    """The bytes are not a command. `command_id` is the envelope's id where it had a valid one.

    `command_type` is what it was to be, where only its payload is wrong.
    """

    command_type: str | None = None

    def __init__(self, code: ErrorCode, message: str, *, command_id: str | None = None, **details: Any) -> None:
        super().__init__(code, message, **details)
        self.command_id = command_id


class TooDeep(DecodeError):
    """It is nested deeper than the limit."""


class NoRoom(ClientError):
    """The log keeps as many topics as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(ErrorCode.FORBIDDEN, f"the log keeps {most} durable topics already: use one of those")


def rate_limited(retry_after_s: float, message: str = "too much at once: wait, then send it again") -> ClientError:
    """Section 7: over a limit that time mends."""
    return ClientError(ErrorCode.RATE_LIMITED, message, retry_after_ms=ceil(retry_after_s * 1000))


def unavailable() -> CommandFailed:
    """Section 7: the database failed this command; what it was is in the log, not in the reply."""
    return CommandFailed(
        ErrorCode.UNAVAILABLE, "the database did not answer in time; if the command had an id, send it again"
    )
