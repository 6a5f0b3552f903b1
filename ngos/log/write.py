"""What changes something: a command on its way to the log, how it is applied, and what it comes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, frozen

from ngos.log.replies import CommandKey
from ngos.log.sql import Transaction
from ngos.log.store import LoggedEvent
from ngos.protocol.commands import Command
from ngos.protocol.faults import CommandFailed
from ngos.protocol.messages import Event, Reply
from ngos.protocol.values import Position

C = TypeVar("C", bound=Command)


@frozen
class Encoded:
    """A reply whose payload is JSON already. `replayed`: it was given before, to the same command."""

    type: str
    payload: bytes
    replayed: bool = False


Answer = Encoded | CommandFailed


@frozen
class CustomEvent:
    """An event that a client publishes: its type and payload are the client's own."""

    topic: str
    type: str
    payload: bytes


@frozen
class Outcome:
    """What one write came to. Refused: `reply` is the error and `events` is empty.

    Where the reply tells the position of the write's first event, it is a function of that position. `logged` are
    events that the handler has appended already, the reply being kept with them; else the committer does both.
    """

    reply: Reply | Encoded | CommandFailed | Callable[[Position], Reply]
    events: tuple[Event | CustomEvent, ...] = ()
    logged: tuple[LoggedEvent, ...] = ()

    @classmethod
    def of_logged(cls, event: LoggedEvent) -> Outcome:
        """Accepted: the reply is the event, which is in the log already."""
        return cls(Encoded(event.type, event.payload), logged=(event,))


@frozen(eq=False)
class Handler:
    """How one kind of write is applied.

    `apply` gets the writes of a group within a transaction and returns an outcome for each, in order. `key` names
    what a write touches: two with the same key are never in one group; None touches nothing that another could.
    `one_statement`: it is just one, with its events; a batch of nothing else is committed by it alone.
    """

    name: str
    apply: Callable[[Transaction, Sequence[Any]], Awaitable[Sequence[Outcome]]]
    key: Callable[[Any], Hashable | None]
    one_statement: bool = False


@define(eq=False)  # one for every command: frozen, it would take 0.6 µs more
class Write(Generic[C]):
    """A command that changes something. `lane` is its connection; `answer` is called once, and must not raise.

    With a `key` it has its effect once, however often it is sent. `span` is its trace's, where there is one.
    """

    handler: Handler
    command: C
    lane: Hashable
    sender_id: str
    size_bytes: int
    answer: Callable[[Answer], None]
    key: CommandKey | None = None
    span: Any = None
