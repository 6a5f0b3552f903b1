"""The marks that make a service's function the handler of a command. The registry collects them.

- `@writes`: applies a group of commands of one kind within a transaction, and returns an outcome for each. It refuses
  one by an outcome whose reply is a ClientError; an exception would take the whole group with it.
- `@reads`: answers one command. It refuses with ClientError.
- `@answers`: the same, for the few that must know who asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from attrs import define, frozen

from ngos.log.sql import Transaction
from ngos.log.write import Encoded, Outcome, Write
from ngos.protocol.commands import Command
from ngos.protocol.messages import Reply

C = TypeVar("C", bound=Command)
S = TypeVar("S")

WriteFunction = Callable[[S, Transaction, Sequence[Write[C]]], Awaitable[Sequence[Outcome]]]
ReadFunction = Callable[[S, C], Awaitable[Reply | Encoded]]
AnswerFunction = Callable[[S, C, "Call"], Awaitable[Reply | Encoded]]


@define(eq=False)  # one for every command: frozen, it would take 0.3 µs more
class Call:
    """Who asks: `connection` is the gateway's, for the handlers that live there."""

    command_id: str | None
    client_id: str
    connection: Any


@frozen
class WriteMark:
    """`key`: what a command touches (see `ngos.log.plan`). `when`: whether it is a write at all.

    `one_statement`: see `ngos.log.write.Handler`.
    """

    command: type[Command]
    key: Callable[[Any], Hashable | None]
    when: Callable[[Any, Any], bool]
    one_statement: bool


@frozen
class AnswerMark:
    """`asks_who`: whether the function wants the Call too."""

    command: type[Command]
    asks_who: bool


def writes(
    command: type[C],
    *,
    key: Callable[[C], Hashable | None] = lambda _command: None,
    when: Callable[[Any, C], bool] = lambda _service, _command: True,
    one_statement: bool = False,
) -> Callable[[WriteFunction[S, C]], WriteFunction[S, C]]:
    """Mark a service's function as the one that applies `command`."""

    def mark(function: WriteFunction[S, C]) -> WriteFunction[S, C]:
        function.handles = WriteMark(command, key, when, one_statement)  # type: ignore[attr-defined]
        return function

    return mark


def reads(command: type[C]) -> Callable[[ReadFunction[S, C]], ReadFunction[S, C]]:
    """Mark a service's function as the one that answers `command`."""

    def mark(function: ReadFunction[S, C]) -> ReadFunction[S, C]:
        function.handles = AnswerMark(command, asks_who=False)  # type: ignore[attr-defined]
        return function

    return mark


def answers(command: type[C]) -> Callable[[AnswerFunction[S, C]], AnswerFunction[S, C]]:
    """Mark a function as the one that answers `command`, given who asks."""

    def mark(function: AnswerFunction[S, C]) -> AnswerFunction[S, C]:
        function.handles = AnswerMark(command, asks_who=True)  # type: ignore[attr-defined]
        return function

    return mark
