"""What a connection reads, and how each command comes to its answer.

The way of a command: `transport.take` -> `codec.decode` -> registry -> a write goes to the committer and the reader
goes on; anything else waits until the writes before it are answered, and is answered before the reader goes on. So
commands take effect in the order sent, replies come in that order, and a read sees the writes before it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Final, Protocol

import structlog
import trio
from attrs import define, field

from ngos.auth.grants import EVERYTHING, Grant
from ngos.config import Settings
from ngos.errors import StorageUnavailable
from ngos.gateway.access import permit
from ngos.gateway.coroutines import but_first
from ngos.gateway.limits import FRAME_COMMANDS, LISTENERS, Limit, Pace, Refusals, topic_of
from ngos.gateway.outbox import Outbox
from ngos.gateway.registry import Answering, Registry
from ngos.gateway.tally import Begun, Tally
from ngos.gateway.transport import BinaryMessage, PeerLeft, Transport
from ngos.gateway.turn import Turn
from ngos.incidents import incident
from ngos.log.committer import Committer
from ngos.log.replies import CommandKey
from ngos.log.write import Answer, Encoded, Handler, Write
from ngos.protocol import codec
from ngos.protocol.close import CloseCode
from ngos.protocol.codec import Received
from ngos.protocol.faults import ClientError, CommandFailed, DecodeError, ErrorCode, rate_limited, unavailable
from ngos.protocol.messages import ErrorReply, Message
from ngos.services.handlers import Call

_log = structlog.get_logger("ngos.connection")

FEW_FRAMES: Final = 16
"""Pings and fragments in one read that are no flood."""
STRANGERS_COMMANDS: Final = 64
"""Commands that may be refused to who has not said who he is; then he has to go, before his time is over."""
HELPED: Final = 100
"""Commands of a connection that may fail before it is not told any more what it may have meant (150 µs each)."""


class Sender(Hashable, Protocol):
    """Whose commands they are: the connection. The committer's lane, and the handlers' `Call.connection`."""

    client_id: str
    subject: str | None
    grant: Grant | None
    pace: Pace
    settings: Settings

    def end(self, verdict: CloseCode) -> None: ...


@define(eq=False)
class Reader:
    """See the module. `run` is a connection's reading, in its task; it returns when the connection has a verdict.

    `commands` counts those that came, `is_busy` says that it is at one of them, and `undone` are in the committer.
    `audience` tells how many subscribers a topic has.
    """

    _sender: Sender
    _transport: Transport
    _outbox: Outbox
    _registry: Registry
    _committer: Committer
    _refusals: Refusals
    _tally: Tally
    _turn: Turn
    _audience: Callable[[str | None], int]
    commands: int = field(init=False, default=0)
    undone: int = field(init=False, default=0)
    is_busy: bool = field(init=False, default=False)
    _failed: int = field(init=False, default=0)
    _progress: trio.Event | None = field(init=False, default=None)

    async def run(self) -> None:
        """Read and answer until the connection ends; what a client does ends it by a verdict, not by an exception."""
        self._turn.begin()
        try:
            while True:
                self.is_busy = True
                while (data := self._transport.take()) is not None:
                    if len(data) > self._sender.settings.message_bytes:
                        self._refusals.count(Limit.MESSAGE_BYTES)
                        return self._sender.end(CloseCode.MESSAGE_TOO_BIG)
                    await but_first(self._outbox.flush, self._handle(data))
                self._outbox.flush()  # before any wait: what the committer answers then must not overtake it
                if frames := self._transport.bare_frames():
                    if not self._bear(frames):
                        return self._sender.end(CloseCode.TOO_MANY_MESSAGES)
                    if frames > FEW_FRAMES:
                        await self._turn.give()
                self.is_busy = False
                await self._transport.more()
                self._turn.begin()
        except BinaryMessage:
            return self._sender.end(CloseCode.BINARY_MESSAGE)
        except PeerLeft as exc:
            self._outbox.shut()
            if exc.code == CloseCode.MESSAGE_TOO_BIG:
                self._refusals.count(Limit.MESSAGE_BYTES)
            return self._sender.end(CloseCode.of_peer(exc.code))
        finally:
            self._outbox.flush()

    def _bear(self, frames: int) -> bool:
        """Charge frames that can't be answered; False: there have been too many, and nobody to tell so first."""
        if self._sender.pace.admit(0, trio.current_time(), frames * FRAME_COMMANDS):
            self._refusals.count(Limit.OVER_LIMIT_S)
            return False
        return True

    def let_go(self) -> None:
        """Nothing is read any more; what is in the committer can still be answered. Breaks a cycle with the sender."""
        del self._sender

    async def _handle(self, data: bytes) -> None:
        self.commands += 1
        now = trio.current_time()
        if self._turn.is_over(now):
            await self._turn.give()
            now = trio.current_time()
        received = None
        try:
            if wait_s := self._sender.pace.admit(len(data), now):
                raise rate_limited(wait_s)
            received = codec.decode(data, self._sender.settings.message_depth, suggests=self._failed < HELPED)
            if self._sender.grant is not EVERYTHING:
                permit(received.command, self._sender.grant)
            cost = received.command.cost() + self._audience(topic_of(received.command)) // LISTENERS
            if cost > 1:
                self._sender.pace.spend(cost - 1, now)
        except ClientError as exc:
            await self._refuse(exc, data, received)
            return
        begun = self._tally.begin(received.command.TYPE, now, received.traceparent)
        entry = self._registry[type(received.command)]
        handler = entry.write_of(received.command)
        try:
            if handler is not None:
                await self._write(received, handler, begun)
            else:
                assert entry.answer is not None
                await self._turn_to_reply()
                await self._answer(received, entry.answer, begun)
        except BaseException:  # of what can be caused by a client, only Cancelled; what the committer has, it answers
            self._tally.abandon(begun)
            raise

    async def _turn_to_reply(self) -> None:
        """Wait until all that was sent before is answered, and there is room for one more reply."""
        if self.undone:
            await self.undone_below(1)
        if self._outbox.mailbox.is_high:
            await self._room_for_replies()

    async def _refuse(self, failure: ClientError, data: bytes, received: Received | None) -> None:
        if isinstance(failure, DecodeError):
            type_, command_id = failure.command_type, failure.command_id
        elif received is not None:
            type_, command_id = received.command.TYPE, received.id
        else:
            type_, command_id = None, codec.id_in(data)
        await self._turn_to_reply()
        self._tally.refused(type_, failure)
        self._fail(failure, command_id)
        self._failed += 1
        if failure.code is ErrorCode.RATE_LIMITED and self._sender.pace.is_too_long():
            self._sender.end(CloseCode.TOO_MANY_MESSAGES)
        elif self._sender.grant is None and self.commands > STRANGERS_COMMANDS:
            self._sender.end(CloseCode.UNAUTHENTICATED)

    async def _write(self, received: Received, handler: Handler, begun: Begun) -> None:
        """Hand a write to the committer; it is answered when that has committed it."""
        sender = self._sender
        if self.undone >= sender.settings.in_flight:
            self._refusals.count(Limit.IN_FLIGHT)
            await self.undone_below(sender.settings.in_flight)
        if self._outbox.mailbox.is_high:
            await self._room_for_replies()
        self.undone += 1
        answer = partial(self._answer_write, received.id, begun)
        key = None
        if received.id is not None and sender.subject is not None:
            key = CommandKey(sender.subject, received.id, received.hash())
        write = Write(handler, received.command, sender, sender.client_id, received.size_bytes, answer, key, begun.span)
        try:
            await self._committer.submit(write)
        except trio.Cancelled:
            self.undone -= 1  # it was not queued
            raise

    async def _room_for_replies(self) -> None:
        """Wait until the client has read so many of its replies that more may be made."""
        self._outbox.flush()  # now, because it may end the very wait that follows: see `but_first`
        await self._outbox.mailbox.low()

    async def _answer(self, received: Received, answer: Answering, begun: Begun) -> None:
        failure: CommandFailed | None = None
        try:
            reply = await answer(received.command, Call(received.id, self._sender.client_id, self._sender))
        except CommandFailed as exc:
            failure = exc
        except StorageUnavailable as exc:
            _log.warning("read.failed", command=received.command.TYPE, reason=str(exc))
            failure = unavailable()
        except Exception as exc:
            failure = incident("read.defect", exc, command=received.command.TYPE)
        # No checkpoint since the handler: after `subscribed` no event can have come before it.
        if failure is not None:
            self._fail(failure, received.id)
        elif isinstance(reply, Encoded):
            self._outbox.gather(reply.type, reply.payload, received.id)
        else:
            self._reply(reply, received.id)
        self._tally.end(begun, failure)

    def _fail(self, failure: CommandFailed, command_id: str | None) -> None:
        self._refusals.note(failure)
        self._reply(ErrorReply.of(failure, command_id), command_id)

    def _reply(self, message: Message, reply_to: str | None = None) -> None:
        self._outbox.gather(message.TYPE, codec.dump(message), reply_to)

    def _answer_write(self, command_id: str | None, begun: Begun, answer: Answer) -> None:
        """Called by the committer, in whose task nothing may fail or wait."""
        self._tally.end(begun, answer)
        self.undone -= 1
        if self._progress is not None:
            self._progress.set()
        if not isinstance(answer, Encoded):
            self._refusals.note(answer)
            error = ErrorReply.of(answer, command_id)
            answer = Encoded(error.TYPE, codec.dump(error))
        self._outbox.answer(answer, command_id, more_follow=self.undone > 0)

    async def undone_below(self, limit: int) -> None:
        """Wait until fewer than `limit` writes are in the committer."""
        while self.undone >= limit:
            self._progress = trio.Event()
            await self._progress.wait()
        self._progress = None
