"""Type to handler: the one table, built from the marks of the services (`ngos.services.handlers`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from attrs import define, frozen

from ngos.log.write import Encoded, Handler
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.commands import Command
from ngos.protocol.messages import Reply
from ngos.services.handlers import AnswerMark, Call, WriteMark

Answering = Callable[[Any, Call], Awaitable[Reply | Encoded]]
"""Answers a command at once; the answer may be JSON already. Raises CommandFailed and StorageUnavailable."""


@define
class Entry:
    """How a command is done: as a write where `when` says so, else by `answer`."""

    write: Handler | None = None
    when: Callable[[Any], bool] | None = None
    answer: Answering | None = None

    def write_of(self, command: Command) -> Handler | None:
        """The handler, if this command is a write."""
        return self.write if self.when is None or self.when(command) else None


@frozen(eq=False)
class Registry:
    """All commands. Complete: making one raises RuntimeError where a command of the protocol has no handler."""

    entries: dict[type[Command], Entry]

    @classmethod
    def of(cls, *services: object) -> Registry:
        """Collect the marked functions of services."""
        entries: dict[type[Command], Entry] = {command: Entry() for command in COMMANDS.values()}
        for service in services:
            for name in dir(type(service)):
                mark = getattr(getattr(type(service), name), "handles", None)
                function = getattr(service, name, None)
                if isinstance(mark, WriteMark):
                    entry = entries[mark.command]
                    assert function is not None
                    entry.write = Handler(mark.command.TYPE, function, mark.key, mark.one_statement)
                    entry.when = None if mark.command.WRITES else partial(mark.when, service)
                elif isinstance(mark, AnswerMark):
                    assert function is not None
                    entries[mark.command].answer = function if mark.asks_who else _without_call(function)
        missing = [
            command.TYPE
            for command, entry in entries.items()
            if (entry.write if command.WRITES else entry.answer) is None
        ]
        if missing:
            raise RuntimeError(f"no handler for {', '.join(missing)}")
        return cls(entries)

    def __getitem__(self, command: type[Command]) -> Entry:
        return self.entries[command]


def _without_call(function: Callable[[Any], Awaitable[Reply | Encoded]]) -> Answering:
    return lambda command, _call: function(command)
