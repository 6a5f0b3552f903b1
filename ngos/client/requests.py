"""The commands of a client that have no reply yet, over all its connections. Sans-I/O.

What was on its way when a connection broke may have taken effect or not: it is sent again with the id it has, in the
order it was first asked for, and the server answers it once (protocol.md section 6).

What is bounded: of all that has no reply yet, the bytes, by `queue_bytes`; of what is on the wire, the number, by the
server's `limits.in_flight`. May import `ngos.client.errors` and the protocol.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import orjson
from attrs import fields, frozen

from ngos.client.errors import CommandError, QueueFull, RequestTooBig, SessionError
from ngos.protocol.codec import Envelope, encode_command
from ngos.protocol.commands import Command
from ngos.protocol.messages import ErrorReply, Limits

QUEUE_BYTES: Final = 16 * 1024 * 1024

Outcome = Envelope | SessionError
"""What a command comes to: its reply, or why there is none."""


@frozen
class _Pending:
    """A command without a reply. `message` is what was, or will be, sent; `ours`: the session's, for one connection."""

    name: str
    message: str
    size_bytes: int
    ours: bool
    on_done: Callable[[Outcome], None]


class Requests:
    """Who waits for which reply, and what is still to be sent."""

    def __init__(self, queue_bytes: int = QUEUE_BYTES) -> None:
        """At most `queue_bytes` of commands wait for their replies; one is taken always."""
        # Ids make commands idempotent per client_id (section 6), so no two sessions may ever share one.
        self._prefix = secrets.token_hex(8)
        self._count = 0
        self._limits: Limits | None = None
        self._queue_bytes = queue_bytes
        self._waiting_bytes = 0
        self._pending: dict[str, _Pending] = {}
        self._output: OrderedDict[str, str] = OrderedDict()

    def add(
        self,
        command: Command | str,
        payload: dict[str, Any] | None,
        on_done: Callable[[Outcome], None],
        *,
        id_: str | None = None,
        ours: bool = False,
    ) -> str:
        """Queue a command and return its id; `on_done` is called once. Raises as `Session.request` does."""
        if id_ is None:
            self._count += 1
            id_ = f"{self._prefix}-{self._count}"
        elif id_ in self._pending:
            raise ValueError(f"the command {id_!r} waits for its reply already")
        name = command if isinstance(command, str) else command.TYPE
        if isinstance(command, Command):
            _refuse_confusion(command)
            data = encode_command(command, id_)
        else:
            data = orjson.dumps({"id": id_, "type": command, "payload": {} if payload is None else payload})
        pending = _Pending(name, data.decode(), len(data), ours, on_done)
        if (too_big := self._too_big(pending)) is not None:
            raise too_big
        # What the session asks by itself is little, and could not wait.
        if not ours and self._waiting_bytes and self._waiting_bytes + len(data) > self._queue_bytes:
            raise QueueFull(name, len(data), self._waiting_bytes, self._queue_bytes)
        self._keep(id_, pending)
        self._output[id_] = pending.message
        return id_

    def forget(self, id_: str) -> None:
        """Nobody waits for this reply any more. What was not taken yet is never sent, and nothing is sent again."""
        self._drop(id_)
        self._output.pop(id_, None)

    def answer(self, reply: Envelope) -> bool:
        """Give a reply to who waits for it. False where nobody does, and for what the session asked by itself."""
        pending = self._drop(reply.reply_to or "")
        if pending is None:
            return False
        pending.on_done(CommandError(reply) if reply.type == ErrorReply.TYPE else reply)
        return not pending.ours

    @property
    def has_output(self) -> bool:
        """Whether `take` would return a message: there is one, and fewer than `in_flight` are unanswered."""
        on_the_wire = len(self._pending) - len(self._output)
        # A server that allowed none could never be asked anything.
        return bool(self._output) and (self._limits is None or on_the_wire < max(1, self._limits.in_flight))

    def take(self) -> str | None:
        """Return the next message to send, or None."""
        return self._output.popitem(last=False)[1] if self.has_output else None

    def disconnect(self) -> None:
        """Nothing can be sent, and what the session asked of that connection has no meaning for another."""
        self._output.clear()
        self._pending = {id_: pending for id_, pending in self._pending.items() if not pending.ours}

    def connect(self, limits: Limits) -> list[str]:
        """There is a connection with these limits. Returns the ids to `resend` once what goes first is queued."""
        self._limits = limits
        self._output.clear()
        return list(self._pending)

    def resend(self, ids: list[str]) -> None:
        """Queue these again. What this server would not take fails with RequestTooBig, before it ends the connection.

        Whether it took effect on an earlier connection is unknown.
        """
        for id_ in ids:
            pending = self._pending.get(id_)
            if pending is None:
                continue
            if (too_big := self._too_big(pending)) is not None:
                self._drop(id_)
                pending.on_done(too_big)
            else:
                self._output[id_] = pending.message

    def fail(self, error: SessionError) -> None:
        """No reply will come: everyone hears `error`."""
        pending, self._pending = self._pending, {}
        self._output.clear()
        self._waiting_bytes = 0
        for waiting in pending.values():
            waiting.on_done(error)

    def _keep(self, id_: str, pending: _Pending) -> None:
        self._pending[id_] = pending
        if not pending.ours:
            self._waiting_bytes += pending.size_bytes

    def _drop(self, id_: str) -> _Pending | None:
        pending = self._pending.pop(id_, None)
        if pending is not None and not pending.ours:
            self._waiting_bytes -= pending.size_bytes
        return pending

    def _too_big(self, pending: _Pending) -> RequestTooBig | None:
        if self._limits is None or pending.size_bytes <= self._limits.message_bytes:
            return None
        return RequestTooBig(pending.name, pending.size_bytes, self._limits.message_bytes)


def _defaults_of(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((one.name, one.default) for one in fields(cls) if isinstance(one.default, int | float | tuple))


_defaults: Final[Callable[[type], tuple[tuple[str, Any], ...]]] = cache(_defaults_of)


def _refuse_confusion(command: Command) -> None:
    """Raise TypeError where a boolean is meant to be a number, or a number a boolean, and equals the default.

    For True == 1.0, and what equals its default is not sent: the server could not refuse it, as it does any other.
    """
    for name, default in _defaults(type(command)):
        value = getattr(command, name)
        if value is default or value != default:
            continue
        pairs = zip(value, default, strict=True) if isinstance(default, tuple) else ((value, default),)
        if any(isinstance(one, bool) is not isinstance(due, bool) for one, due in pairs):
            raise TypeError(f"{name} can't be {value!r}: numbers and booleans are not each other")
