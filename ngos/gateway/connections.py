"""All connections that are open: their start, what is told to all of them, and their end."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final
from uuid import UUID, uuid4

import structlog
import trio
from attrs import define, field

from ngos import __version__
from ngos.auth.grants import Identity
from ngos.config import Settings
from ngos.gateway.access import Access
from ngos.gateway.connection import Connection
from ngos.gateway.door import Door
from ngos.gateway.limits import Limit, Refusals, pace_of
from ngos.gateway.mailbox import Backlog
from ngos.gateway.registry import Registry
from ngos.gateway.tally import Tally
from ngos.gateway.transport import Transport
from ngos.gateway.turn import Turn, make_slots
from ngos.incidents import incident
from ngos.log.committer import Committer
from ngos.log.hub import Hub
from ngos.log.store import LoggedEvent
from ngos.protocol import PROTOCOL_VERSION, codec
from ngos.protocol.catalog import SYSTEM_TOPIC
from ngos.protocol.close import CloseCode
from ngos.protocol.converters import iso_of_ms
from ngos.protocol.faults import ClientError
from ngos.protocol.messages import (
    ConnectionEstablished,
    Event,
    HeartbeatTerms,
    Limits,
    Server,
    SystemDraining,
)
from ngos.protocol.parcel import Parcel

RECONNECT_AFTER_MS: Final = 1000
DRAIN_PER_S: Final = 50
"""Connections that are closed in a second of a drain, where its time allows: a small server stops at once."""
DRAIN_STEP_S: Final = 0.1
_SERVER: Final = Server(name="ngos", version=__version__, protocol=PROTOCOL_VERSION)

_log = structlog.get_logger("ngos.connection")


@define(eq=False)
class Connections:
    """The open connections of this node. `clock_ms` is Unix time."""

    access: Access
    door: Door
    refusals: Refusals
    tally: Tally
    _registry: Registry
    _committer: Committer
    _hub: Hub
    _settings: Settings
    _clock_ms: Callable[[], int]
    open: dict[UUID, Connection] = field(init=False, factory=dict)
    accepted: int = field(init=False, default=0)
    closes: dict[int, int] = field(init=False, factory=dict)
    _slots: trio.Semaphore = field(init=False, factory=make_slots)
    draining: bool = field(init=False, default=False)
    backlog: Backlog = field(init=False)
    _heartbeat_terms: HeartbeatTerms = field(init=False)
    _limits: Limits = field(init=False)
    _all_gone: trio.Event = field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.backlog = Backlog(self._settings.mailbox_total_bytes, self._relieve)
        self._take_terms(self._settings)

    def _take_terms(self, settings: Settings) -> None:
        self._settings = settings
        self._heartbeat_terms = HeartbeatTerms(
            interval_ms=round(settings.heartbeat_interval_s * 1000),
            timeout_ms=round(settings.heartbeat_timeout_s * 1000),
        )
        self._limits = Limits(
            message_bytes=settings.message_bytes,
            subscriptions=settings.subscriptions,
            in_flight=settings.in_flight,
        )

    def apply(self, settings: Settings) -> None:
        """Go on with other settings. Who is connected keeps what the greeting told him; rates hold for all, at once."""
        self._take_terms(settings)
        self.backlog.limit_bytes = settings.mailbox_total_bytes
        pace = pace_of(settings, self.refusals)
        for connection in self.open.values():
            connection.pace.become(pace)

    @property
    def status_interval_s(self) -> float:
        """How often those who follow `system` are told how it is."""
        return self._settings.status_interval_s

    @property
    def is_full(self) -> bool:
        """Whether there are as many as there may be; asked when one more wants to be let in."""
        if len(self.open) < self._settings.connections:
            return False
        self.refusals.count(Limit.CONNECTIONS)
        return True

    async def serve(
        self,
        transport: Transport,
        client_id: str | None,
        identity: Identity | None,
        address: str,
        *,
        by_proxy: bool,
    ) -> None:
        """The life of an accepted connection, from its greeting to its close. A defect in it ends it alone.

        `identity`: whose it is, where that was proved already. `by_proxy`: the door has not counted its address yet.
        """
        connection = Connection(
            id=uuid4(),
            client_id=client_id or f"client_{secrets.token_hex(8)}",
            # Not the bare name: nobody who only calls himself so may be taken for who has proved it.
            subject=f"client:{client_id}" if client_id is not None else None,
            connected_at_ms=self._clock_ms(),
            grant=self.access.grant_at_first,
            pace=pace_of(self._settings, self.refusals),
            own_turn=Turn(self._slots),
            audience=self._hub.audience,
            refusals=self.refusals,
            tally=self.tally,
            transport=transport,
            registry=self._registry,
            committer=self._committer,
            settings=self._settings,
            clock_ms=self._clock_ms,
            backlog=self.backlog,
        )
        structlog.contextvars.bind_contextvars(connection=str(connection.id))
        _log.info("connection.opened", client=connection.client_id)
        self.open[connection.id] = connection
        if by_proxy:
            self.door.enter_behind(address)
        self.accepted += 1
        if self.draining:
            connection.end(CloseCode.RESTARTING)
        try:
            if identity is not None:
                self._identify(connection, identity)
            await connection.run(self._greeting(connection))
        except* Exception as group:
            incident("connection.defect", group)
        finally:
            del self.open[connection.id]
            self.access.leave(connection)
            if by_proxy:
                self.door.leave_behind(address)
            if not self.open:
                self._all_gone.set()
            for topic in connection.subscriptions:
                self._hub.remove(topic, connection)
            verdict = connection.verdict or CloseCode.INTERNAL
            if verdict.is_misdeed:
                self.door.misdeed(address)
            self.closes[verdict] = self.closes.get(verdict, 0) + 1
            _log.info("connection.closed", verdict=verdict.name, commands=connection.reader.commands)
            connection.reader.let_go()

    def _identify(self, connection: Connection, identity: Identity) -> None:
        try:
            self.access.admit(connection, identity)
        except ClientError:  # others of the subject have come in since it was asked
            connection.end(CloseCode.TOO_MANY_MESSAGES)

    def stamp(self) -> tuple[str, int]:
        """The id and Unix time of a broadcast, which are the same on all nodes."""
        return f"b{uuid4().hex}", self._clock_ms()

    def broadcast(self, type_: str, payload: bytes, id_: str, timestamp_ms: int) -> int:
        """Send a message that belongs to no topic to every connection; returns to how many."""
        message = codec.encode(type_, payload, id_=id_, timestamp_ms=timestamp_ms)
        parcel = Parcel.of([message])
        for connection in tuple(self.open.values()):
            connection.offer_events(parcel)
        return len(self.open)

    def rows(self) -> list[dict[str, Any]]:
        """What `GET /ws/connections` tells of each."""
        return [
            {
                "connection_id": connection.id,
                "client_id": connection.client_id,
                "connected_at": iso_of_ms(connection.connected_at_ms),
                "subscriptions": list(connection.subscriptions),
                "metadata": {} if connection.identity is None else {"subject": connection.identity.subject},
            }
            for connection in self.open.values()
        ]

    async def drain(self, drain_s: float, *, at_once: bool = False) -> None:
        """End gently: tell everybody, close with 1012 a few at a time, and when `drain_s` is over cut who is left.

        Those who come back then don't come all at once; `at_once`: they would, since who comes back is kept waiting.
        Returns when nobody is left to be waited for.
        """
        self.draining = True
        # Not by way of the hub: each must have it before its own end.
        parcel = Parcel.of([self._hub.encode(self.event_of(SystemDraining(reconnect_after_ms=RECONNECT_AFTER_MS)))])
        for connection in tuple(self.open.values()):
            if SYSTEM_TOPIC in connection.subscriptions:
                connection.offer_events(parcel)
        with trio.move_on_after(drain_s):
            if at_once:
                self.end_all(CloseCode.RESTARTING)
            else:
                await self._end_in_batches(drain_s)
            if self.open:
                self._all_gone = trio.Event()
                await self._all_gone.wait()
        self.cut()

    async def _end_in_batches(self, drain_s: float) -> None:
        # The last ones must still have the time that answers and a Close may take.
        leeway_s = min(2 * self._settings.close_s, drain_s / 2)
        spread_s = min(drain_s - leeway_s, len(self.open) / DRAIN_PER_S)
        steps = max(1, round(spread_s / DRAIN_STEP_S))
        waiting = list(self.open.values())
        random.shuffle(waiting)
        for step in range(steps):
            for connection in waiting[step::steps]:
                connection.end(CloseCode.RESTARTING)
            if step < steps - 1:
                await trio.sleep(spread_s / steps * random.uniform(0.5, 1.5))  # noqa: S311

    def end_all(self, verdict: CloseCode) -> None:
        """End every connection, with the same verdict where it has none yet."""
        for connection in tuple(self.open.values()):
            connection.end(verdict)

    def end_followers(self, topics: AbstractSet[str]) -> None:
        """Send off who follows one of these topics, to come back."""
        for connection in tuple(self.open.values()):
            if topics & connection.subscriptions.keys():
                connection.end(CloseCode.RESTARTING)

    def cut(self) -> None:
        """End at once: nobody is told."""
        for connection in tuple(self.open.values()):
            connection.cut()

    def _relieve(self) -> None:
        """Too much waits in all: end those that read least, until half of it is gone.

        Half, because whoever looks for the fullest mailbox looks at all: so it is not done for every message.
        """
        fullest = sorted(self.open.values(), key=lambda connection: connection.mailbox.size_bytes, reverse=True)
        for connection in fullest:
            if self.backlog.bytes <= self._settings.mailbox_total_bytes // 2 or not connection.mailbox:
                break
            _log.warning("mailboxes.full", connection=str(connection.id), bytes=connection.mailbox.size_bytes)
            connection.too_slow()

    def event_of(self, event: Event) -> LoggedEvent:
        """An event on `system`."""
        return LoggedEvent(SYSTEM_TOPIC, event.TYPE, codec.dump(event), None, self._clock_ms())

    def _greeting(self, connection: Connection) -> ConnectionEstablished:
        return ConnectionEstablished(
            connection_id=connection.id,
            client_id=connection.client_id,
            timestamp=connection.connected_at_ms,
            server=_SERVER,
            heartbeat=self._heartbeat_terms,
            limits=self._limits,
        )
