"""What may go wrong for a client of the server, and whose fault it is. May import `ngos.errors` and the protocol.

    NgosError
    └── SessionError             all that this package raises by itself
        ├── ConnectFailed        there is no connection: the URL, the network, or the server's refusal
        ├── ConnectionLost       there was one: it says with which close code it ended
        ├── CommandError         the server answered `error`; the connection stays (protocol.md section 7)
        ├── NotFound             the server answered that it has no such token
        ├── RequestTimeout       no answer within the caller's time; whether it took effect is unknown
        ├── RequestTooBig        the caller's: over the server's `message_bytes`; nothing was sent
        ├── QueueFull            the caller's: too much waits for replies already; nothing was queued
        ├── GapError             the log no longer holds what a subscription is due: events are missing
        └── SlowSubscriber       the consumer's: it read ephemeral events slower than they came

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
    """No connection to `url`. `reason` is one line; `status` is the HTTP status where the server answered with one.

    `retry_after_s` is what it asked for (RFC 9110 section 10.2.3), where it did; `lost` is set where there was a
    connection, but no greeting.
    """

    def __init__(
        self,
        url: str,
        reason: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        lost: ConnectionLost | None = None,
    ) -> None:
        super().__init__(f"can't connect to {url}: {reason}")
        self.url = url
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s
        self.lost = lost


class ConnectionLost(SessionError):
    """The connection ended with close code `code` (protocol.md section 8; 1006: without a goodbye).

    A client that reconnects raises it only when that is over: after a code that does not let it, after a refusal
    (401 is told as 4401, 403 as 4403), and when it was closed by its own program.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"connection lost: {reason or _meaning(code) or 'no reason given'} ({code})")
        self.code = code
        self.reason = reason

    @property
    def may_reconnect(self) -> bool:
        """Whether protocol.md section 8 lets a client connect again by itself."""
        try:
            return self.code == NO_GOODBYE or CloseCode(self.code).may_reconnect
        except ValueError:
            return False


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
    """The server answered `error`. `code` compares equal to an `ErrorCode`; `reply` is the whole envelope.

    `retry_after_s` is for how long it asks to wait, where it does: `rate_limited` does.
    """

    def __init__(self, reply: Envelope) -> None:
        payload = reply.payload
        self.code = str(payload.get("code", ""))
        self.message = str(payload.get("message", ""))
        self.retryable = payload.get("retryable") is True
        details = payload.get("details")
        self.details: dict[str, Any] = details if isinstance(details, dict) else {}
        after_ms = self.details.get("retry_after_ms")
        self.retry_after_s: float | None = after_ms / 1000 if type(after_ms) is int and after_ms >= 0 else None
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
    """The command is `size_bytes` long and the server takes `limit_bytes`; sending it would end the connection.

    Where the server that the client came back to takes less than the one before, whether it took effect is unknown.
    """

    def __init__(self, command: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{command} takes {size_bytes} bytes, the server's limit is {limit_bytes}")
        self.command = command
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class QueueFull(SessionError):
    """The command is `size_bytes` long, and with `waiting_bytes` of commands that have no reply yet over `queue_bytes`.

    It was not queued. Wait for replies, or for a connection, before the next.
    """

    def __init__(self, command: str, size_bytes: int, waiting_bytes: int, queue_bytes: int) -> None:
        super().__init__(
            f"{command} takes {size_bytes} bytes, {waiting_bytes} of at most {queue_bytes} wait for their replies"
        )
        self.command = command
        self.size_bytes = size_bytes
        self.waiting_bytes = waiting_bytes
        self.queue_bytes = queue_bytes


class GapError(SessionError):
    """Events of a durable topic after `seq` in `epoch` can't be had any more (protocol.md section 5).

    `seq` and `epoch` are the last position that this subscription had; `now`, (epoch, seq), is the server's new one,
    None where the topic is not durable any more. Nobody's fault but time's: the log was pruned, lost or reset.
    """

    def __init__(self, topic: str, seq: int, epoch: str | None, now: tuple[str, int] | None) -> None:
        there = "keeps no log now" if now is None else f"is at seq {now[1]} of epoch {now[0]}"
        had = f"seq {seq}" if epoch is None else f"seq {seq} of epoch {epoch}"
        super().__init__(
            f"events on {topic!r} after {had} are lost, the server {there}: "
            "fetch the state anew and subscribe since its position"
        )
        self.topic = topic
        self.seq = seq
        self.epoch = epoch
        self.now = now


class SlowSubscriber(SessionError):
    """The buffer of a subscription to an ephemeral topic, or to broadcasts, was full; what came next is lost."""

    def __init__(self, topic: str | None) -> None:
        what = "broadcasts" if topic is None else f"events on {topic!r}"
        super().__init__(f"{what} came faster than they were read, and are not kept for later")
        self.topic = topic
