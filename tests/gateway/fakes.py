"""A transport that is a pair of queues, for connections without a socket; and what a node says of itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import orjson
import trio
from attrs import define, field

from ngos.auth.grants import EVERYTHING
from ngos.config import Settings
from ngos.gateway.connection import Connection
from ngos.gateway.limits import Refusals, pace_of
from ngos.gateway.mailbox import Backlog
from ngos.gateway.registry import Entry, Registry
from ngos.gateway.roster import Presence
from ngos.gateway.tally import Tally
from ngos.gateway.transport import BinaryMessage, PeerLeft, Transport
from ngos.gateway.turn import Turn, make_slots
from ngos.log.write import Answer, Encoded, Handler, Write
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.close import CloseCode
from ngos.protocol.commands import Command
from ngos.protocol.messages import ConnectionEstablished, HeartbeatTerms, Limits, Pong, Server
from ngos.protocol.parcel import Parcel


@define(eq=False)
class FakeTransport:
    """What a connection sends ends in `sent`; what `say` is given it receives.

    While `blocked`, the peer takes nothing in; with `answers_pings` it is heard whenever it is pinged.
    """

    answers_pings: bool = True
    blocked: bool = False
    sent: list[dict[str, Any]] = field(factory=list)
    pings: list[float] = field(factory=list)
    closed: CloseCode | None = None
    close_hangs: bool = False
    held: bool = False
    aborted: bool = False
    bare: int = 0
    send_now: None = None  # everything goes by `try_send` and `send`
    _incoming: deque[bytes | PeerLeft | None] = field(factory=deque)
    _arrived: trio.Event = field(factory=trio.Event)
    _heard_at: float = field(factory=trio.current_time)

    @property
    def outlet(self) -> FakeTransport:
        return self

    async def begin(self, serve: Callable[[], Awaitable[None]]) -> None:
        await serve()

    def rest(self, parcel: Parcel, sent_bytes: int) -> Parcel:
        raise AssertionError("there is no outlet")

    def limit_unsent(self, limited: bool) -> None:
        pass

    def hold(self, held: bool) -> None:
        self.held = held

    def say(self, type_: str, payload: dict[str, Any] | None = None, id_: str | None = None) -> None:
        message: dict[str, Any] = {"type": type_, "payload": payload or {}}
        self.say_raw(orjson.dumps(message if id_ is None else message | {"id": id_}))

    def say_raw(self, message: bytes | None) -> None:
        self._incoming.append(message)
        self._heard_at = trio.current_time()
        self._arrived.set()

    def leave(self, code: int = 1000) -> None:
        """The peer ends the connection."""
        self._incoming.append(PeerLeft(code))
        self._arrived.set()

    def take(self) -> bytes | None:
        if not self._incoming:
            return None
        message = self._incoming.popleft()
        if message is None:
            raise BinaryMessage
        if isinstance(message, PeerLeft):
            raise message
        return message

    def bare_frames(self) -> int:
        frames, self.bare = self.bare, 0
        return frames

    async def more(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self._incoming:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def try_send(self, parcel: Parcel) -> Parcel | None:
        if self.blocked:
            return parcel
        self._take(parcel)
        return None

    async def send(self, parcels: Sequence[Parcel]) -> None:
        await trio.lowlevel.checkpoint()
        if self.blocked:
            await trio.sleep_forever()
        for parcel in parcels:
            self._take(parcel)

    async def ping(self) -> bool:
        await trio.lowlevel.checkpoint()
        self.pings.append(trio.current_time())
        if self.answers_pings:
            self._heard_at = trio.current_time()
        return True

    def heard_at(self) -> float:
        return self._heard_at

    def is_over(self) -> bool:
        return False

    async def close(self, code: CloseCode) -> None:
        self.closed = code
        if self.close_hangs:
            await trio.sleep_forever()

    def abort(self) -> None:
        self.aborted = True

    def _take(self, parcel: Parcel) -> None:
        self.sent.extend(orjson.loads(message) for message in parcel.messages)


@define(eq=False)
class FakeCommitter:
    """Keeps writes until `answer_all`, in the place of `ngos.log.committer`."""

    writes: list[Write] = field(factory=list)

    async def submit(self, write: Write) -> None:
        self.writes.append(write)

    def answer_all(self, answer: Callable[[Write], Answer] = lambda _write: Encoded("token.created", b"{}")) -> None:
        writes, self.writes = self.writes, []
        for write in writes:
            write.answer(answer(write))


GREETING = ConnectionEstablished(
    connection_id=UUID(int=1),
    client_id="me",
    timestamp=0,
    server=Server(name="ngos", version="0", protocol=1),
    heartbeat=HeartbeatTerms(interval_ms=1, timeout_ms=1),
    limits=Limits(message_bytes=1, subscriptions=1, in_flight=1),
)


async def _refuse_to_write(*_: Any) -> Any:
    raise AssertionError("the fake committer applies nothing")


def registry_of(answer: Callable[..., Any] | None = None) -> Registry:
    """Every command that writes goes to the committer; every other is answered by `answer`, else with a pong."""

    async def pong(_command: Command, call: Any) -> Pong:
        return Pong(message_id=call.command_id)

    return Registry(
        {
            command: Entry(
                write=Handler(command.TYPE, _refuse_to_write, lambda _command: None) if command.WRITES else None,
                answer=answer or pong,
            )
            for command in COMMANDS.values()
        }
    )


def connection_of(
    transport: Transport,
    committer: FakeCommitter | None = None,
    answer: Callable[..., Any] | None = None,
    backlog: Backlog | None = None,
    tally: Tally | None = None,
    **settings: Any,
) -> Connection:
    """A connection over fakes, that may do everything; its clock stands at 0."""
    chosen = Settings(**settings)
    refusals = Refusals()
    return Connection(
        id=UUID(int=1),
        client_id="me",
        subject=None,
        connected_at_ms=0,
        grant=EVERYTHING,
        pace=pace_of(chosen, refusals),
        own_turn=Turn(make_slots()),
        audience=lambda _topic: 0,
        refusals=refusals,
        tally=tally or Tally(),
        transport=transport,
        registry=registry_of(answer),
        committer=committer or FakeCommitter(),  # type: ignore[arg-type]
        settings=chosen,
        clock_ms=lambda: 0,
        backlog=backlog or Backlog(1 << 30),
    )


def presence(**given: Any) -> Presence:
    """What a node says of itself that has nobody, but for what is given."""
    values = {"connections": 0, "subscriptions": 0, "topic_count": 0, "topics": {}, "events_per_s": 0.0}
    return Presence(**{**values, **given})
