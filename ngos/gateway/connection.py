"""One connection: a nursery of reader, writer and heartbeat, ended by a verdict.

The way of a command: `transport.take` -> `codec.decode` -> registry -> a write goes to the committer and the reader
goes on; anything else waits until the writes before it are answered, and is answered before the reader goes on. So
commands take effect in the order sent, replies come in that order, and a read sees the writes before it. What is sent,
and when, is the outbox's affair; the writer is its task.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import UUID

import structlog
import trio
from attrs import define, field

from ngos.auth.grants import EVERYTHING, Grant, Identity
from ngos.config import Settings
from ngos.errors import StorageUnavailable
from ngos.gateway.access import permit
from ngos.gateway.coroutines import but_first, only_cancelled
from ngos.gateway.heartbeat import is_silent
from ngos.gateway.limits import FRAME_COMMANDS, LISTENERS, Limit, Pace, Refusals, topic_of
from ngos.gateway.mailbox import Backlog, Mailbox
from ngos.gateway.outbox import Outbox
from ngos.gateway.registry import Registry
from ngos.gateway.replay import Replay
from ngos.gateway.transport import NO_OUTLET, BinaryMessage, Outlet, PeerLeft, Transport
from ngos.gateway.turn import Turn
from ngos.incidents import incident
from ngos.log.committer import Committer
from ngos.log.replies import CommandKey
from ngos.log.write import Answer, Encoded, Write
from ngos.protocol import codec
from ngos.protocol.close import CloseCode
from ngos.protocol.codec import Received
from ngos.protocol.faults import ClientError, CommandFailed, DecodeError, ErrorCode, rate_limited, unavailable
from ngos.protocol.messages import ErrorReply, Message
from ngos.protocol.parcel import Parcel
from ngos.services.handlers import Call

_log = structlog.get_logger("ngos.connection")

FEW_FRAMES: Final = 16
"""Pings and fragments in one read that are no flood."""
STRANGERS_COMMANDS: Final = 64
"""Commands that may be refused to who has not said who he is; then he has to go, before his time is over."""
HELPED: Final = 100
"""Commands of a connection that may fail before it is not told any more what it may have meant (150 µs each)."""
DEAF: Final = frozenset({CloseCode.TRY_AGAIN_LATER, CloseCode.NO_SIGN_OF_LIFE})
"""Verdicts after which nothing that waits is sent: the peer does not read."""
DEAF_CLOSE_S: Final = 0.75
"""Seconds that a peer that does not read has to take its Close; then it is cut."""


@define(eq=False)
class Connection:
    """A client that is connected; `run` is its life.

    `subject` is whose its commands are, for idempotency (protocol.md section 6); None: what is sent twice acts twice.
    `grant` is what it may do; None: it has to say first who it is. `identity` is who that is, where that was proved.
    `clock_ms` is Unix time. The writer's lane, the hub's subscriber and the handlers' `Call.connection` are this.
    """

    id: UUID
    client_id: str
    subject: str | None
    connected_at_ms: int
    grant: Grant | None
    pace: Pace
    _own_turn: Turn
    _audience: Callable[[str | None], int]
    _refusals: Refusals
    _transport: Transport
    _registry: Registry
    _committer: Committer
    settings: Settings
    _clock_ms: Callable[[], int]
    _backlog: Backlog
    outlet: Outlet = field(init=False)
    outbox: Outbox = field(init=False)
    identity: Identity | None = field(init=False, default=None)
    subscriptions: dict[str, Replay | None] = field(init=False, factory=dict)
    verdict: CloseCode | None = field(init=False, default=None)
    commands: int = field(init=False, default=0)
    _scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    _nursery: trio.Nursery = field(init=False)
    _failed: int = field(init=False, default=0)
    _undone: int = field(init=False, default=0)
    _progress: trio.Event | None = field(init=False, default=None)
    _handling: bool = field(init=False, default=False)
    _turn: trio.Lock | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.outlet = self._transport.outlet
        self.outbox = Outbox(
            transport=self._transport,
            mailbox=Mailbox(self.settings.mailbox_bytes, self._backlog),
            age_s=self.settings.mailbox_age_s,
            on_slow=partial(self.end, CloseCode.TRY_AGAIN_LATER),
            clock_ms=self._clock_ms,
        )

    @property
    def mailbox(self) -> Mailbox:
        return self.outbox.mailbox

    @property
    def turn(self) -> trio.Lock:
        """Whose replay is next; made when there is one: most connections never have any."""
        if self._turn is None:
            self._turn = trio.Lock()
        return self._turn

    async def run(self, greeting: Message) -> None:
        """Serve until a verdict; the peer hears it, unless it is already gone, or reads no more.

        Cancelled (over plain ASGI, that is how Quart tells that the peer left), it ends at once. What is in the
        committer by then is committed or not, as a whole.
        """
        if self.grant is None:
            self._scope.deadline = trio.current_time() + self.settings.auth_timeout_s
        self._reply(greeting)
        self.outbox.flush()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.outbox.open(nursery)
                try:
                    nursery.start_soon(self._heartbeat)
                    with self._scope:
                        await self._read()
                    if self.verdict is None:  # it is past its deadline
                        self._unknown_now()
                    if not self.outbox.is_shut:
                        with trio.move_on_after(self.settings.close_s):
                            await self._undone_below(1)  # what is being committed is answered
                            await self.mailbox.empty()
                finally:
                    self.outbox.close()  # the committer may still have an answer for us
                nursery.cancel_scope.cancel()
        except BaseException as exc:
            if not only_cancelled(exc):
                self.verdict = self.verdict or CloseCode.INTERNAL
            raise
        finally:
            close_s = self.settings.close_s
            if self.outbox.is_shut:
                close_s = min(close_s, DEAF_CLOSE_S)
            self.outbox.shut()
            self.verdict = self.verdict or CloseCode.NORMAL
            if not self._transport.is_over():
                with trio.move_on_after(close_s, shield=True):
                    await self._transport.close(self.verdict)

    def identify(self, identity: Identity, until: float) -> None:
        """Be this one's from here on, until a Trio time; then it ends with 4401, unless it was told again."""
        self.identity = identity
        self.subject = f"subject:{identity.subject}"
        self.grant = identity.grant
        self._scope.deadline = until

    def _unknown_now(self) -> None:
        if self.identity is None:
            self._refusals.count(Limit.AUTH_TIMEOUT_S)
        self.end(CloseCode.UNAUTHENTICATED)

    def end(self, verdict: CloseCode) -> None:
        """Decide how this ends; the first to do so does."""
        if self.verdict is None:
            self.verdict = verdict
            # From here on no event is sent, so that none is missing between those that were.
            self.outlet = NO_OUTLET
            self._scope.cancel()
        if verdict in DEAF:
            self.outbox.shut()

    def cut(self) -> None:
        """End at once, without a word."""
        self.end(CloseCode.GOING_AWAY)
        self.outbox.abandon()

    def offer_events(self, parcel: Parcel) -> None:
        """Take events from the hub, or end as a slow consumer."""
        if self.verdict is None:
            self.outbox.offer_events(parcel)

    def overtaken(self) -> None:
        """End, because what should come next is in the log no more; who comes back is told so."""
        self.end(CloseCode.TRY_AGAIN_LATER)

    def subscribe(self, topic: str, replay: Replay | None = None) -> None:
        """Note a subscription, in place of one to the same topic, and start its replay."""
        self.unsubscribe(topic)
        self.subscriptions[topic] = replay
        if replay is not None:
            self._nursery.start_soon(self._run_replay, topic, replay)

    async def _run_replay(self, topic: str, replay: Replay) -> None:
        self._transport.limit_unsent(True)
        try:
            await replay.run()
        finally:
            if self.subscriptions.get(topic) is replay:
                self.subscriptions[topic] = None
            if not any(self.subscriptions.values()):
                self._transport.limit_unsent(False)
                self._turn = None

    def unsubscribe(self, topic: str) -> bool:
        """Note the end of a subscription; returns whether there was one."""
        if topic not in self.subscriptions:
            return False
        replay = self.subscriptions.pop(topic)
        if replay is not None:
            replay.scope.cancel()
        return True

    async def _read(self) -> None:
        self._own_turn.begin()
        try:
            while True:
                self._handling = True
                while (data := self._transport.take()) is not None:
                    if len(data) > self.settings.message_bytes:
                        self._refusals.count(Limit.MESSAGE_BYTES)
                        return self.end(CloseCode.MESSAGE_TOO_BIG)
                    await but_first(self.outbox.flush, self._handle(data))
                self.outbox.flush()  # before any wait: what the committer answers then must not overtake it
                if frames := self._transport.bare_frames():
                    if not self._bear(frames):
                        return self.end(CloseCode.TOO_MANY_MESSAGES)
                    if frames > FEW_FRAMES:
                        await self._own_turn.give()
                self._handling = False
                await self._transport.more()
                self._own_turn.begin()
        except BinaryMessage:
            return self.end(CloseCode.BINARY_MESSAGE)
        except PeerLeft as exc:
            self.outbox.shut()
            if exc.code == CloseCode.MESSAGE_TOO_BIG:
                self._refusals.count(Limit.MESSAGE_BYTES)
            return self.end(CloseCode.of_peer(exc.code))
        finally:
            self.outbox.flush()

    def _bear(self, frames: int) -> bool:
        """Charge frames that can't be answered; False: there have been too many, and nobody to tell so first."""
        if self.pace.admit(0, trio.current_time(), frames * FRAME_COMMANDS):
            self._refusals.count(Limit.OVER_LIMIT_S)
            return False
        return True

    async def _handle(self, data: bytes) -> None:
        self.commands += 1
        now = trio.current_time()
        if self._own_turn.is_over(now):
            await self._own_turn.give()
            now = trio.current_time()
        command_id = None
        try:
            if wait_s := self.pace.admit(len(data), now):
                command_id = codec.id_in(data)
                raise rate_limited(wait_s)
            received = codec.decode(data, self.settings.message_depth, suggests=self._failed < HELPED)
            command_id = received.id
            if self.grant is not EVERYTHING:
                permit(received.command, self.grant)
            cost = received.command.cost() + self._audience(topic_of(received.command)) // LISTENERS
            if cost > 1:
                self.pace.spend(cost - 1, now)
        except ClientError as exc:
            if self._undone:
                await self._undone_below(1)
            if self.mailbox.is_high:
                await self._room_for_replies()
            self._fail(exc, exc.command_id if isinstance(exc, DecodeError) else command_id)
            self._failed += 1
            if exc.code is ErrorCode.RATE_LIMITED and self.pace.is_too_long():
                self.end(CloseCode.TOO_MANY_MESSAGES)
            elif self.grant is None and self.commands > STRANGERS_COMMANDS:
                self.end(CloseCode.UNAUTHENTICATED)
            return
        entry = self._registry[type(received.command)]
        handler = entry.write_of(received.command)
        if handler is not None:
            if self._undone >= self.settings.in_flight:
                self._refusals.count(Limit.IN_FLIGHT)
                await self._undone_below(self.settings.in_flight)
            if self.mailbox.is_high:
                await self._room_for_replies()
            self._undone += 1
            answer = partial(self._answer_write, received.id)
            key = None
            if received.id is not None and self.subject is not None:
                key = CommandKey(self.subject, received.id, received.hash())
            write = Write(handler, received.command, self, self.client_id, received.size_bytes, answer, key)
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
                await self._room_for_replies()
            await self._answer(received, entry.answer)

    async def _room_for_replies(self) -> None:
        """Wait until the client has read so many of its replies that more may be made."""
        self.outbox.flush()  # now, because it may end the very wait that follows: see `but_first`
        await self.mailbox.low()

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
            self._reply(reply, received.id)

    def _fail(self, failure: CommandFailed, command_id: str | None) -> None:
        self._refusals.note(failure)
        self._reply(ErrorReply.of(failure, command_id), command_id)

    def _reply(self, message: Message, reply_to: str | None = None) -> None:
        self.outbox.gather(message.TYPE, codec.dump(message), reply_to)

    def _answer_write(self, command_id: str | None, answer: Answer) -> None:
        """Called by the committer, in whose task nothing may fail or wait."""
        self._undone -= 1
        if self._progress is not None:
            self._progress.set()
        if not isinstance(answer, Encoded):
            self._refusals.note(answer)
            error = ErrorReply.of(answer, command_id)
            answer = Encoded(error.TYPE, codec.dump(error))
        self.outbox.answer(answer, command_id, more_follow=self._undone > 0)

    async def _undone_below(self, limit: int) -> None:
        """Wait until fewer than `limit` writes are in the committer."""
        while self._undone >= limit:
            self._progress = trio.Event()
            await self._progress.wait()
        self._progress = None

    async def _heartbeat(self) -> None:
        # While we are busy with its command, the peer has no way to be heard.
        if await is_silent(self._transport, self.settings, is_busy=lambda: self._handling):
            self.end(CloseCode.NO_SIGN_OF_LIFE)
