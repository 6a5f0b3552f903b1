"""What may go wrong for a client of the server, and whose fault it is. May import `ngos.errors` and the protocol.

    NgosError
    └── SessionError             all that this package raises by itself
        ├── ConnectFailed        there is no connection: the URL, the network, or the server's refusal
        ├── ConnectionLost       there was one: it says with which close code it ended
        ├── CommandError         the server answered `error`; the connection stays (protocol.md section 7)
        ├── NotFound             the server answered that it has no such token
        ├── RequestTimeout       no answer within the caller's time; whether it took effect is unknown
        ├── RequestTooBig        the caller's: over the server's `message_bytes`; nothing was sent
        ├── AlreadySubscribed    the caller's: one topic, one position per client; nothing was sent
        └── SlowSubscriber       the consumer's: it read events slower than they came

`ngos.protocol.codec.MessageError`, a ValueError, is a reply that is not what the protocol says: the server's fault.
"""

from __future__ import annotations

from typing import Any, Self
from uuid import UUID

from ngos.errors import NgosError
from ngos.protocol.close import CloseCode
from ngos.protocol.codec import Envelope


class SessionError(NgosError):
    """The root of the tree above."""

    def again(self) -> Self:
        """Return an equal exception with no traceback: one lost connection is raised in many tasks."""
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other


class ConnectFailed(SessionError):
    """No connection to `url`. `reason` is one line; `status` is the HTTP status where the server answered with one."""

    def __init__(self, url: str, reason: str, *, status: int | None = None) -> None:
        super().__init__(f"can't connect to {url}: {reason}")
        self.url = url
        self.reason = reason
        self.status = status


class ConnectionLost(SessionError):
    """The connection ended with close code `code` (protocol.md section 8; 1006: without a goodbye)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"connection lost: {reason or _meaning(code) or 'no reason given'} ({code})")
        self.code = code
        self.reason = reason

    @property
    def may_reconnect(self) -> bool:
        """Whether protocol.md section 8 lets a client connect again by itself."""
        try:
            return CloseCode(self.code).may_reconnect
        except ValueError:
            return self.code == NO_GOODBYE


NO_GOODBYE = 1006
"""RFC 6455 section 7.1.5: the connection ended without a close frame."""


def _meaning(code: int) -> str:
    if code == NO_GOODBYE:
        return "without a goodbye"
    try:
        return CloseCode(code).reason
    except ValueError:
        return ""


class CommandError(SessionError):
    """The server answered `error`. `code` compares equal to an `ErrorCode`; `reply` is the whole envelope."""

    def __init__(self, reply: Envelope) -> None:
        payload = reply.payload
        self.code = str(payload.get("code", ""))
        self.message = str(payload.get("message", ""))
        self.retryable = payload.get("retryable") is True
        details = payload.get("details")
        self.details: dict[str, Any] = details if isinstance(details, dict) else {}
        self.reply = reply
        super().__init__(f"{self.code}: {self.message}")


class NotFound(SessionError):
    """The server has no token `token_id`."""

    def __init__(self, token_id: UUID) -> None:
        super().__init__(f"no token {token_id}")
        self.token_id = token_id


class RequestTimeout(SessionError):
    """No reply to `command` within `request_s` seconds. Send it again with the same id to find out."""

    def __init__(self, command: str, request_s: float) -> None:
        super().__init__(f"no reply to {command} within {request_s:g} s")
        self.command = command
        self.request_s = request_s


class RequestTooBig(SessionError):
    """The command is `size_bytes` long and the server takes `limit_bytes`; sending it would end the connection."""

    def __init__(self, command: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{command} takes {size_bytes} bytes, the server's limit is {limit_bytes}")
        self.command = command
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class AlreadySubscribed(SessionError):
    """`since` would move the position of another subscription of this client to the same topic."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"this client follows {topic!r} already: only its first subscription can choose a position")
        self.topic = topic


class SlowSubscriber(SessionError):
    """The buffer of a subscription was full. On a durable topic, subscribe with `since` = `seq` and `epoch`."""

    def __init__(self, topic: str | None, seq: int | None, epoch: str | None) -> None:
        super().__init__(f"events on {topic!r} came faster than they were read; the last one kept has seq {seq}")
        self.topic = topic
        self.seq = seq
        self.epoch = epoch
