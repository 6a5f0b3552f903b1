"""One connection: a nursery of reader, writer and heartbeat, ended by a verdict.

What is read, and how it is answered, is the reader's affair; what is sent, and when, the outbox's, whose task the
writer is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog
import trio
from attrs import define, field

from ngos.auth.grants import Grant, Identity
from ngos.config import Settings
from ngos.gateway.coroutines import only_cancelled
from ngos.gateway.heartbeat import is_silent
from ngos.gateway.limits import Limit, Pace, Refusals
from ngos.gateway.mailbox import Backlog, Mailbox
from ngos.gateway.outbox import Outbox
from ngos.gateway.reader import Reader
from ngos.gateway.registry import Registry
from ngos.gateway.replay import Replay
from ngos.gateway.tally import Tally
from ngos.gateway.transport import NO_OUTLET, Outlet, Transport
from ngos.gateway.turn import Turn
from ngos.log.committer import Committer
from ngos.protocol import codec
from ngos.protocol.close import CloseCode
from ngos.protocol.messages import Message
from ngos.protocol.parcel import Parcel

_log = structlog.get_logger("ngos.connection")

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
    _tally: Tally
    _transport: Transport
    _registry: Registry
    _committer: Committer
    settings: Settings
    _clock_ms: Callable[[], int]
    _backlog: Backlog
    outlet: Outlet = field(init=False)
    outbox: Outbox = field(init=False)
    reader: Reader = field(init=False)
    identity: Identity | None = field(init=False, default=None)
    subscriptions: dict[str, Replay | None] = field(init=False, factory=dict)
    verdict: CloseCode | None = field(init=False, default=None)
    _scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    _nursery: trio.Nursery = field(init=False)
    _turn: trio.Lock | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.outlet = self._transport.outlet
        self.outbox = Outbox(
            transport=self._transport,
            mailbox=Mailbox(self.settings.mailbox_bytes, self._backlog),
            age_s=self.settings.mailbox_age_s,
            on_slow=self.too_slow,
            clock_ms=self._clock_ms,
        )
        self.reader = Reader(
            sender=self,
            transport=self._transport,
            outbox=self.outbox,
            registry=self._registry,
            committer=self._committer,
            refusals=self._refusals,
            tally=self._tally,
            turn=self._own_turn,
            audience=self._audience,
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
        self.outbox.gather(greeting.TYPE, codec.dump(greeting), None)
        self.outbox.flush()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.outbox.open(nursery)
                try:
                    nursery.start_soon(self._heartbeat)
                    with self._scope:
                        await self.reader.run()
                    if self.verdict is None:  # it is past its deadline
                        self._unknown_now()
                    if not self.outbox.is_shut:
                        with trio.move_on_after(self.settings.close_s):
                            await self.reader.undone_below(1)  # what is being committed is answered
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

    def too_slow(self) -> None:
        """End, because it reads too slowly."""
        if self.verdict is None:
            self._backlog.slow += 1
        self.end(CloseCode.TRY_AGAIN_LATER)

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

    async def _heartbeat(self) -> None:
        # While we are busy with its command, the peer has no way to be heard.
        if await is_silent(self._transport, self.settings, is_busy=lambda: self.reader.is_busy):
            self.end(CloseCode.NO_SIGN_OF_LIFE)
