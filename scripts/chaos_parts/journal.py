"""A client's journal: what it is about to send, before it is sent; what it was told, before it goes on.

    {"life": 2, "steady": true}                                    the client began anew
    {"send": "w0.7", "type": "token.create", "payload": {…}}       written ahead
    {"trouble": "w0.7", "why": "unavailable"}                      no reply, or one that says: again
    {"again": "w0.7"}                                              sent once more, the same
    {"answer": "w0.7", "type": "token.created", "payload": {…}, "replayed": true}
    {"twist": "w0.7", "code": "conflict"}                          what another command with the same id was told

Each also says when, as `at`: seconds on the machine's clock, which all processes share. `node` in an answer is the
place in the client's list of nodes of the one that gave it. `steady`: a client library below it may send again by
itself, of which there is no line.

Promises: a line is there once `append` has returned, whatever happens to the client's process (not to the machine);
a line that a kill has torn is taken for not written. Blocking calls, short ones.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import attrs
import orjson


@attrs.frozen
class Answer:
    """A reply, `error` included, as the client got it."""

    type: str
    payload: dict[str, Any]
    replayed: bool


@attrs.define
class Record:
    """A command and what became of it."""

    id: str
    client_id: str
    type: str
    payload: dict[str, Any]
    sent: int = 1
    steady: bool = False
    answers: list[Answer] = attrs.field(factory=list)
    twists: list[str] = attrs.field(factory=list)


@attrs.define(eq=False)
class Journal:
    """A journal that is read, and then appended to. `records` are in the order of their first sending."""

    client_id: str
    records: dict[str, Record] = attrs.field(factory=dict)
    troubles: Counter[str] = attrs.field(factory=Counter)
    lives: int = 0
    steady: bool = False
    fd: int | None = None

    @classmethod
    def read(cls, path: Path, client_id: str) -> Self:
        """Read what is there; no file is an empty journal."""
        journal = cls(client_id)
        for line in _whole_lines(path):
            journal.take(orjson.loads(line))
        return journal

    @classmethod
    def open(cls, path: Path, client_id: str, *, steady: bool = False) -> Self:
        """Read it, drop what is torn, and begin a life in it."""
        journal = cls.read(path, client_id)
        journal.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(journal.fd, sum(len(line) + 1 for line in _whole_lines(path)))
        journal.append(life=journal.lives + 1, steady=steady)
        return journal

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)

    def append(self, **entry: Any) -> None:
        """Write an entry down, and take it in. Raises OSError."""
        assert self.fd is not None
        line = orjson.dumps(entry | {"at": round(time.monotonic(), 6)}) + b"\n"
        while line:
            line = line[os.write(self.fd, line) :]
        self.take(entry)

    def unanswered(self) -> list[Record]:
        """What is to be sent again."""
        return [record for record in self.records.values() if not record.answers]

    def take(self, entry: dict[str, Any]) -> None:
        """Take an entry in that is written down."""
        match entry:
            case {"life": life, "steady": steady}:
                self.lives, self.steady = life, steady
            case {"send": id_, "type": type_, "payload": payload}:
                self.records[id_] = Record(id_, self.client_id, type_, payload, steady=self.steady)
            case {"again": id_}:
                self.records[id_].sent += 1
            case {"trouble": _, "why": why}:
                self.troubles[why] += 1
            case {"answer": id_, "type": type_, "payload": payload, "replayed": replayed}:
                self.records[id_].answers.append(Answer(type_, payload, replayed))
            case {"twist": id_, "code": code}:
                self.records[id_].twists.append(code)
            case _:
                raise ValueError(f"not an entry of a journal: {entry}")


def _whole_lines(path: Path) -> list[bytes]:
    """The lines that have their end."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
