"""A journal: what a watcher saw, one JSON line an event, so that it can be told whether it saw all of it.

    {"id": "…", "type": "token.created", "timestamp": …, "topic": "tokens", "seq": 7, "epoch": "…", "payload": {…}}
    {"subscribed": {"topic": "tokens", "epoch": "…", "seq": 6}}

The second kind is written when a durable topic is opened: `seq` is the position that the watcher started after.
Promises: each line is written before the next event is taken, by one write of the kernel's. So a watcher that is
killed leaves at most one torn line, the last; whoever goes on with its journal cuts that off, and starts right after
what is before it.

Neither writing nor reading holds more than a block or a line in memory. May import the client and the protocol.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from attrs import define, frozen

from ngos.client.feed import Event
from ngos.errors import SetupError
from ngos.protocol.messages import Subscribed
from ngos.protocol.rules import INT64_MAX

BLOCK_BYTES: Final = 256 * 1024
LINE_BYTES: Final = 64 * 1024 * 1024
"""No event is longer, whatever a server's `message_bytes`; what is, is no journal's."""
_BEGINNINGS: Final = (b'{"subscribed":', b'{"id":')


@frozen
class Opened:
    """A durable topic was opened: what follows starts after `seq`."""

    topic: str
    epoch: str
    seq: int


@frozen
class Odd:
    """A line that no watcher wrote; `why` says what is wrong with it."""

    why: str


@frozen
class Torn:
    """The last line, without an end: its watcher was killed while it wrote, or is writing."""


Entry = Opened | Event | Odd | Torn


def json_line(event: Event) -> bytes:
    """Return the event's envelope (protocol.md section 2) as one line, with its end."""
    envelope: dict[str, Any] = {"id": event.id, "type": event.type, "timestamp": event.timestamp_ms}
    optional = {"topic": event.topic, "seq": event.seq, "epoch": event.epoch, "sender_id": event.sender_id}
    envelope |= {name: value for name, value in optional.items() if value is not None}
    envelope["payload"] = event.payload
    return orjson.dumps(envelope) + b"\n"


def parse(line: bytes) -> Opened | Event | Odd:
    """Read one line, without its end. Never raises: what can't be read is Odd."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Odd("not JSON")
    if type(value) is not dict:
        return Odd("not a JSON object")
    opened: Any = value.get("subscribed")
    if type(opened) is dict:
        wrong = _wrong(opened, _OPENED)
        return Odd(f"subscribed: {wrong}") if wrong else Opened(opened["topic"], opened["epoch"], opened["seq"])
    if wrong := _wrong(value, _EVENT):
        return Odd(wrong)
    event = Event(
        id=value["id"],
        type=value["type"],
        topic=value.get("topic"),
        seq=value.get("seq"),
        epoch=value.get("epoch"),
        timestamp_ms=value["timestamp"],
        sender_id=value.get("sender_id"),
        payload=value["payload"],
    )
    if (event.seq is None) != (event.epoch is None) or (event.seq is not None and event.topic is None):
        return Odd("topic, seq, epoch: some are missing")
    return event


_NONE: Final = type(None)
_OPENED: Final[dict[str, tuple[type, ...]]] = {"topic": (str,), "epoch": (str,), "seq": (int,)}
_EVENT: Final[dict[str, tuple[type, ...]]] = {
    "id": (str,),
    "type": (str,),
    "timestamp": (int,),
    "topic": (str, _NONE),
    "seq": (int, _NONE),
    "epoch": (str, _NONE),
    "sender_id": (str, _NONE),
    "payload": (dict,),
}


def _wrong(value: dict[str, Any], kinds: dict[str, tuple[type, ...]]) -> str:
    """Which fields are missing or of the wrong type, as a text; empty where all is well."""
    names = [name for name, kind in kinds.items() if type(value.get(name)) not in kind]
    if names:
        return f"{', '.join(names)}: missing or of the wrong type"
    return "" if 0 <= (value.get("seq") or 0) <= INT64_MAX else "seq: out of range"


def read(path: Path, size_bytes: int | None = None) -> Iterator[tuple[int, Entry]]:
    """Yield each line's number, from 1, and what it says; of a file that grows only the first `size_bytes`.

    Raises SetupError where the file can't be read.
    """
    left = INT64_MAX if size_bytes is None else size_bytes
    number = 0
    try:
        with path.open("rb") as file:
            while left and (line := file.readline(min(LINE_BYTES, left))):
                number += 1
                left -= len(line)
                if line.endswith(b"\n"):
                    yield number, parse(line[:-1])
                    continue
                long = len(line) == LINE_BYTES
                while left and line and not line.endswith(b"\n"):
                    line = file.readline(min(BLOCK_BYTES, left))
                    left -= len(line)
                yield number, Odd(f"longer than {LINE_BYTES} bytes") if long else Torn()
    except OSError as exc:
        raise _failed(path, exc) from exc


@define(eq=False)
class Journal:
    """A journal that is open for writing; get one from `open_journal`."""

    path: Path
    _fd: int
    _starts: dict[str, Opened]

    def start(self, topic: str) -> Opened | None:
        """Where to go on with a topic: right after the last event in the file. None: it is not in the file."""
        return self._starts.get(topic)

    def opened(self, topic: str, opening: Subscribed) -> None:
        """Note where a subscription starts (`Subscription.opening`); of ephemeral topics there is nothing to note.

        Raises SetupError where the file has events of it and it does not start right after them; or as `write`.
        """
        start = self.start(topic)
        opened = None
        if opening.epoch is not None and opening.seq is not None:
            opened = Opened(topic, opening.epoch, opening.seq)
        if start is not None and opened != start:
            raise SetupError(
                f"{self.path}: can't go on with {topic} after seq {start.seq} of epoch {start.epoch}: the server's log "
                "does not hold what follows any more; begin a new journal"
            )
        if opened is not None:
            position = {"topic": opened.topic, "epoch": opened.epoch, "seq": opened.seq}
            self._append(orjson.dumps({"subscribed": position}) + b"\n")

    def write(self, event: Event) -> None:
        """Append an event. Raises SetupError where there is no room, or another failure; no part of it stays."""
        self._append(json_line(event))

    def _append(self, line: bytes) -> None:
        before = os.lseek(self._fd, 0, os.SEEK_END)
        try:
            left = memoryview(line)
            while left:  # once, unless the disk is about to be full: then the second write says so
                left = left[os.write(self._fd, left) :]
        except OSError as exc:
            try:
                os.ftruncate(self._fd, before)
            except OSError:
                pass  # a torn last line, which is cut off when it goes on
            raise _failed(self.path, exc) from exc


@contextmanager
def open_journal(path: Path, topics: Sequence[str]) -> Iterator[Journal]:
    """Open or make a journal to write what `topics` bring, alone; a torn last line is cut off.

    Raises SetupError, one line: the file can't be written, is no journal, or another watcher writes it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise _failed(path, exc) from exc
    try:
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SetupError(f"{path}: not a file")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _check_beginning(path, fd)
            end = _end_of_whole_lines(fd)
            starts = _last_positions(path, fd, end, topics)
            os.ftruncate(fd, end)
        except BlockingIOError:
            raise SetupError(f"{path}: another ngos watch is writing this journal") from None
        except OSError as exc:
            raise _failed(path, exc) from exc
        yield Journal(path, fd, starts)
    finally:
        os.close(fd)


def _check_beginning(path: Path, fd: int) -> None:
    """Nothing is cut off, or added to, a file that does not begin as a journal does."""
    beginning = os.pread(fd, max(map(len, _BEGINNINGS)), 0)
    _, first = next(read(path), (0, Torn()))
    if isinstance(first, Torn) and _is_json(alone := os.pread(fd, LINE_BYTES, 0)):
        first = parse(alone)  # all there is: what is torn is a journal's beginning, and no JSON, unless its end is torn
    if isinstance(first, Odd) or not any(beginning.startswith(known[: len(beginning)]) for known in _BEGINNINGS):
        raise SetupError(f"{path}: not a journal; nothing was changed")


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _end_of_whole_lines(fd: int) -> int:
    end = os.fstat(fd).st_size
    while end:
        begin = max(0, end - BLOCK_BYTES)
        newline = os.pread(fd, end - begin, begin).rfind(b"\n")
        end = begin + newline + 1
        if newline >= 0:
            break
    return end


def _last_positions(path: Path, fd: int, end: int, topics: Sequence[str]) -> dict[str, Opened]:
    """Where each of the topics stands, from `end` back to where all are found."""
    found: dict[str, Opened] = {}
    missing = set(topics)
    for line in _lines_backwards(path, fd, end):
        if not missing:
            break
        entry = parse(line)
        if isinstance(entry, Odd):
            raise SetupError(f"{path}: not a journal, or a damaged one: there is a line that is {entry.why}")
        if entry.topic in missing and entry.seq is not None and entry.epoch is not None:
            missing.discard(entry.topic)
            found[entry.topic] = Opened(entry.topic, entry.epoch, entry.seq)
    return found


def _lines_backwards(path: Path, fd: int, end: int) -> Iterator[bytes]:
    """The lines of a file up to `end`, which is the end of one, from the last to the first."""
    start = end
    rest: bytes | None = None  # the end of a line whose beginning is in an earlier block; None: nothing was read yet
    while start:
        begin = max(0, start - BLOCK_BYTES)
        block = os.pread(fd, start - begin, begin)
        rest, *lines = (block[:-1] if rest is None else block + rest).split(b"\n")
        yield from reversed(lines)
        if len(rest) > LINE_BYTES:
            raise SetupError(f"{path}: not a journal: there is a line longer than {LINE_BYTES} bytes")
        start = begin
    if rest is not None:
        yield rest


def _failed(path: Path, exc: OSError) -> SetupError:
    return SetupError(f"{path}: {exc.strerror or exc}")
