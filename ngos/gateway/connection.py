"""One connection: a nursery of reader, writer and heartbeat, ended by a verdict.

The way of a command: `receive` -> `codec.decode` -> registry -> a write goes to the committer and the reader goes on;
anything else waits until the writes before it are answered, and is answered before the reader goes on. So commands
take effect in the order sent, replies come in that order, and a read sees the writes before it.
"""

from __future__ import annotations

import itertools
import random
import secrets
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
import trio
from attrs import define, field

from ngos.config import Settings
from ngos.errors import StorageUnavailable
from ngos.gateway.mailbox import SEND_BYTES, Backlog, Mailbox
from ngos.gateway.registry import Registry
from ngos.gateway.transport import BinaryMessage, Outlet, PeerLeft, Transport
from ngos.incidents import incident
from ngos.log.committer import Answer, Committer, Encoded, Write
from ngos.protocol import codec
from ngos.protocol.close import CloseCode
from ngos.protocol.codec import Received
from ngos.protocol.faults import CommandFailed, DecodeError, unavailable
from ngos.protocol.messages import ErrorReply, Message
from ngos.protocol.parcel import Parcel
from ngos.services.handlers import Call

_log = structlog.get_logger("ngos.connection")

_PREFIX: Final = secrets.token_hex(4)
_numbers = itertools.count(1)

TURN: Final = 64
"""Commands that are here already and are done before other tasks get a turn."""
RECKLESS: Final = frozenset({CloseCode.TRY_AGAIN_LATER, CloseCode.NO_SIGN_OF_LIFE})
"""Verdicts after which nothing that waits is sent: the peer does not read."""
RECKLESS_CLOSE_S: Final = 0.75
"""Seconds that a peer that does not read has to take its Close; then it is cut."""


@define(eq=False)
class Connection:
    """A client that is connected; `run` is its life.

    `clock_ms` is Unix time. The writer's lane, the hub's subscriber and the handlers' `Call.connection` are this.
    """

    id: UUID
    client_id: str
    connected_at_ms: int
    _transport: Transport
    _registry: Registry
    _committer: Committer
    _settings: Settings
    _clock_ms: Callable[[], int]
    _backlog: Backlog
    outlet: Outlet = field(init=False)
    subscriptions: dict[str, None] = field(init=False, factory=dict)
    mailbox: Mailbox = field(init=False)
    verdict: CloseCode | None = field(init=False, default=None)
    commands: int = field(init=False, default=0)
    _scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    _undone: int = field(init=False, default=0)
    _progress: trio.Event | None = field(init=False, default=None)
    _handling: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _peer_left: bool = field(init=False, default=False)
    _nursery: trio.Nursery | None = field(init=False, default=None)
    _has_writer: bool = field(init=False, default=False)
    _gathered: list[bytes] = field(init=False, factory=list)
    _gathered_bytes: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.outlet = self._transport.outlet
        self.mailbox = Mailbox(self._settings.mailbox_bytes, self._backlog)

    async def run(self, greeting: Message) -> None:
        """Serve until a verdict; the peer hears it, unless it is already gone, or reads no more.

        Cancelled (that is how Quart tells that the peer left), it ends at once. What is in the committer by then is
        committed or not, as a whole.
        """
        self._gather(greeting)
        self._flush()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    if self.mailbox:
                        self._start_writer()
                    nursery.start_soon(self._heartbeat)
                    with self._scope:
                        await self._read()
                    if not self._is_deaf():
                        with trio.move_on_after(self._settings.close_s):
                            await self._undone_below(1)  # what is being committed is answered
                            await self.mailbox.empty()
                finally:
                    self._nursery = None  # it closes, and the committer may still have an answer for us
                nursery.cancel_scope.cancel()
        except BaseException as exc:
            if not _only_cancelled(exc):
                self.verdict = self.verdict or CloseCode.INTERNAL
            raise
        finally:
            self._over = True
            self.verdict = self.verdict or CloseCode.NORMAL
            self._forget()
            if not self._transport.is_over():
                close_s = min(self._settings.close_s, RECKLESS_CLOSE_S) if self._is_deaf() else self._settings.close_s
                with trio.move_on_after(close_s, shield=True):
                    await self._transport.close(self.verdict)

    def end(self, verdict: CloseCode) -> None:
        """Decide how this ends; the first to do so does."""
        if self.verdict is None:
            self.verdict = verdict
            self._scope.cancel()
            if verdict in RECKLESS:
                self._forget()

    def cut(self) -> None:
        """End at once, without a word."""
        self._peer_left = True
        self.end(CloseCode.GOING_AWAY)
        self._transport.abort()

    def offer_events(self, parcel: Parcel) -> None:
        """Take events from the hub, or end as a slow consumer."""
        if self.verdict is None:
            rest = parcel if self.mailbox else self._transport.try_send(parcel)
            if rest is not None:
                self._queue_events(rest)

    def offer_rest(self, parcel: Parcel, sent_bytes: int) -> None:
        """Take what the outlet did not: it was given these events, and took only so many bytes of their frames."""
        self._queue_events(self._transport.rest(parcel, sent_bytes))

    async def _read(self) -> None:
        try:
            while True:
                await self._transport.more()
                self._handling = True
                while (data := self._transport.take()) is not None:
                    if len(data) > self._settings.message_bytes:
                        return self.end(CloseCode.MESSAGE_TOO_BIG)
                    await _but_first(self._flush, self._handle(data))
                self._flush()
                self._handling = False
        except BinaryMessage:
            return self.end(CloseCode.BINARY_MESSAGE)
        except PeerLeft as exc:
            self._peer_left = True
            return self.end(CloseCode.of_peer(exc.code))
        finally:
            self._flush()

    async def _handle(self, data: bytes) -> None:
        self.commands += 1
        if self.commands % TURN == 0:
            await trio.lowlevel.checkpoint()
        try:
            received = codec.decode(data)
        except DecodeError as exc:
            if self._undone:
                await self._undone_below(1)
            self._fail(exc, exc.command_id)
            return
        entry = self._registry[type(received.command)]
        handler = entry.write_of(received.command)
        if handler is not None:
            if self._undone >= self._settings.in_flight:
                await self._undone_below(self._settings.in_flight)
            if self.mailbox.is_high:
                await self.mailbox.low()
            self._undone += 1
            answer = partial(self._answer_write, received.id)
            write = Write(handler, received.command, self, self.client_id, received.size_bytes, answer)
            try:
                await self._committer.submit(write)
            except trio.Cancelled:
                self._undone -= 1  # it was not queued
                raise
        else:
            assert entry.answer is not None
            if self._undone:
                await self._undone_below(1)
            if self.mailbox.is_high:
                await self.mailbox.low()
            await self._answer(received, entry.answer)

    async def _answer(self, received: Received, answer: Callable[..., object]) -> None:
        try:
            reply = await answer(received.command, Call(received.id, self.client_id, self))  # type: ignore[misc]
        except CommandFailed as exc:
            self._fail(exc, received.id)
        except StorageUnavailable as exc:
            _log.warning("read.failed", command=received.command.TYPE, reason=str(exc))
            self._fail(unavailable(), received.id)
        except Exception as exc:
            self._fail(incident("read.defect", exc, command=received.command.TYPE), received.id)
        else:
            # No checkpoint since the handler: after `subscribed` no event can have come before it.
            self._gather(reply, received.id)

    def _fail(self, failure: CommandFailed, command_id: str | None) -> None:
        self._gather(_error_of(failure, command_id), command_id)

    def _gather(self, message: Message, reply_to: str | None = None) -> None:
        """Make a reply, to go out with its neighbours: when no more messages are here, or the reader has to wait."""
        self._gathered.append(self._encode(message.TYPE, codec.dump(message), reply_to))
        self._gathered_bytes += len(self._gathered[-1])
        if self._gathered_bytes >= SEND_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            parcel = Parcel(tuple(self._gathered), self._gathered_bytes)
            self._gathered.clear()
            self._gathered_bytes = 0
            self._put(parcel)

    def _answer_write(self, command_id: str | None, answer: Answer) -> None:
        """Called by the committer, in whose task nothing may fail or wait."""
        self._undone -= 1
        if self._progress is not None:
            self._progress.set()
        if isinstance(answer, Encoded):
            message = self._encode(answer.type, answer.payload, command_id)
        else:
            error = _error_of(answer, command_id)
            message = self._encode(error.TYPE, codec.dump(error), command_id)
        self._put(Parcel((message,), len(message)), more_follows=self._undone > 0)

    async def _undone_below(self, limit: int) -> None:
        """Wait until fewer than `limit` writes are in the committer."""
        while self._undone >= limit:
            self._progress = trio.Event()
            await self._progress.wait()
        self._progress = None

    def _encode(self, type_: str, payload: bytes, reply_to: str | None) -> bytes:
        message_id = f"{_PREFIX}-{next(_numbers):x}"
        return codec.encode(type_, payload, id_=message_id, timestamp_ms=self._clock_ms(), reply_to=reply_to)

    def _put(self, parcel: Parcel, *, more_follows: bool = False) -> None:
        """Send replies at once if nothing waits; else, or if others follow them, let the writer do it."""
        # The committer answers whoever asked; but after a Close, nothing may be sent (RFC 6455 section 5.5.1).
        if self._over or self._is_deaf():
            return
        rest = parcel if more_follows or self.mailbox else self._transport.try_send(parcel)
        if rest is not None:
            self._transport.hold(True)
            self.mailbox.put_reply(rest)
            self._start_writer()

    def _queue_events(self, parcel: Parcel) -> None:
        self._transport.hold(True)
        if self.mailbox.put_events(parcel):
            self._start_writer()
        else:
            self.end(CloseCode.TRY_AGAIN_LATER)

    def _start_writer(self) -> None:
        """Start the writer when there is something for it: most connections never have anything wait."""
        if self._nursery is not None and not self._has_writer and not self._is_deaf():
            self._has_writer = True
            self._nursery.start_soon(self._write)

    def _is_deaf(self) -> bool:
        """Whether the peer takes nothing any more but a Close."""
        return self._peer_left or self.verdict in RECKLESS

    def _forget(self) -> None:
        """Nothing more is sent: neither what waits, nor what comes."""
        self._transport.hold(True)
        self.mailbox.clear()

    async def _write(self) -> None:
        while True:
            await self.mailbox.arrived()
            while self.mailbox:
                parcels, since = self.mailbox.peek()
                with trio.CancelScope(deadline=since + self._settings.mailbox_age_s) as scope:
                    await self._transport.send(parcels)
                del parcels  # the largest thing that an idle connection would hold on to
                if scope.cancelled_caught:
                    return self.end(CloseCode.TRY_AGAIN_LATER)
                self.mailbox.sent()
            self._transport.hold(False)

    async def _heartbeat(self) -> None:
        while True:
            patience_s = self._settings.heartbeat_interval_s * random.uniform(0.9, 1.1)  # noqa: S311
            # While we are busy with its command, the peer has no way to be heard.
            silent_s = 0.0 if self._handling else trio.current_time() - self._transport.heard_at()
            if silent_s < patience_s:
                await trio.sleep(patience_s - silent_s)
                continue
            pinged_at = trio.current_time()
            can_ping = True
            with trio.CancelScope(deadline=pinged_at + self._settings.heartbeat_timeout_s):
                if can_ping := await self._transport.ping():
                    await trio.sleep_forever()
            if not can_ping:
                return None
            if self._transport.heard_at() < pinged_at and not self._handling:
                return self.end(CloseCode.NO_SIGN_OF_LIFE)


def _error_of(failure: CommandFailed, command_id: str | None) -> ErrorReply:
    return ErrorReply(
        code=failure.code,
        message=failure.message,
        original_message_id=command_id,
        retryable=failure.code.retryable,
        details=failure.details,
    )


@types.coroutine
def _but_first(prepare: Callable[[], None], work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Await `work`; if it has to wait for anything, call `prepare` before any other task runs."""
    try:
        trap = work.send(None)
        prepare()
        while True:
            try:
                resumed_by = yield trap
            except BaseException as exc:  # noqa: ASYNC103 - it is passed on, inwards
                trap = work.throw(exc)
            else:
                trap = work.send(resumed_by)
    except StopIteration:
        pass


def _only_cancelled(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)[1] is None
    return isinstance(exc, trio.Cancelled)
