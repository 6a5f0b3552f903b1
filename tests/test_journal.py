"""Journals: what a watcher writes, goes on with after it was killed, and refuses to touch."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ngos import journal as module
from ngos.client.feed import Event
from ngos.errors import SetupError
from ngos.journal import Entry, Odd, Opened, Torn, json_line, open_journal, read
from ngos.protocol.messages import Subscribed

EPOCH = "0000000a"
NGOS = [sys.executable, "-m", "ngos"]


def event(seq: int | None, topic: str | None = "tokens", **payload: Any) -> Event:
    epoch = None if seq is None else EPOCH
    return Event(id=f"{epoch}-{seq}", type="x", topic=topic, seq=seq, epoch=epoch, timestamp_ms=1, payload=payload)


def opening(topic: str = "tokens", seq: int | None = 0, *, epoch: str = EPOCH, recovered: bool = False) -> Subscribed:
    position = {"epoch": None if seq is None else epoch, "seq": seq}
    return Subscribed(topic=topic, success=True, durable=seq is not None, recovered=recovered, replay=0, **position)


def entries(path: Path) -> list[Entry]:
    return [entry for _, entry in read(path)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Tries to lose a field, a control character or a line on the way into the file and out of it."""
    file = tmp_path / "j"
    odd = event(2, text="\0\n\u2028\x1b", more=[None, 1.5, {"": -(2**63)}])
    fleeting = event(None, "chat")
    broadcast = event(None, None)
    with open_journal(file, ["tokens", "chat"]) as journal:
        assert journal.start("tokens") is None
        journal.opened("tokens", opening(seq=1))
        journal.opened("chat", opening("chat", None))
        for each in (odd, fleeting, broadcast):
            journal.write(each)
    assert [Opened("tokens", EPOCH, 1), odd, fleeting, broadcast] == entries(file)


def test_goes_on_after_the_last_event(tmp_path: Path) -> None:
    """Tries to have a topic go on elsewhere than right after its last event, or its opening."""
    file = tmp_path / "j"
    topics = ["tokens", "graph", "chat", "new"]
    with open_journal(file, topics) as journal:
        for topic, seq in (("tokens", 4), ("graph", 7)):
            journal.opened(topic, opening(topic, seq))
        journal.write(event(5))
        journal.write(event(None, "chat"))
        journal.write(event(6))
    with open_journal(file, topics) as journal:
        starts = [journal.start(topic) for topic in topics]
        assert [Opened("tokens", EPOCH, 6), Opened("graph", EPOCH, 7), None, None] == starts
        journal.opened("tokens", opening(seq=6, recovered=True))
    assert Opened("tokens", EPOCH, 6) == entries(file)[-1]


@pytest.mark.parametrize("other", [opening(seq=9), opening(seq=4), opening(seq=None), opening(seq=5, epoch="0000000b")])
def test_what_the_log_lost_ends_it(tmp_path: Path, other: Subscribed) -> None:
    """Tries to go on with a journal over a gap, or in another log."""
    file = tmp_path / "j"
    file.write_bytes(json_line(event(5)))
    with (
        open_journal(file, ["tokens"]) as journal,
        pytest.raises(SetupError, match="can't go on with tokens after seq 5"),
    ):
        journal.opened("tokens", other)
    assert [event(5)] == entries(file)


@pytest.mark.parametrize("cut", [1, 2, 30, -1])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    """Tries to have a torn line stay, or take a whole one with it."""
    file = tmp_path / "j"
    torn = json_line(event(2, text="later"))[:cut]
    file.write_bytes(json_line(event(1)) + torn)
    assert [event(1), Torn()] == entries(file)
    with open_journal(file, ["tokens"]) as journal:
        assert Opened("tokens", EPOCH, 1) == journal.start("tokens")
        journal.write(event(2))
    assert [event(1), event(2)] == entries(file)


def test_a_torn_first_line_is_cut_off(tmp_path: Path) -> None:
    """Tries to have a watcher that was killed at its very first line never start again."""
    file = tmp_path / "j"
    file.write_bytes(json_line(event(1))[:-1])
    with open_journal(file, ["tokens"]) as journal:
        assert journal.start("tokens") is None
    assert b"" == file.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"dear diary",
        b"{}\n",
        b'{"id":1}\n',
        b'{"id":1}',
        b'{"id":"a","b":[]}',
        b'{"id":"1"}\n{"subscribed":{',
        b"\n\n",
        b"\0",
    ],
)
def test_what_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """Tries to have somebody's notes taken for a journal, and cut or added to."""
    file = tmp_path / "j"
    file.write_bytes(content)
    with pytest.raises(SetupError, match="not a journal"), open_journal(file, ["tokens"]):
        pass
    assert content == file.read_bytes()


def test_one_watcher_a_journal(tmp_path: Path) -> None:
    """Tries to have two watchers write into one journal."""
    file = tmp_path / "j"
    with (
        open_journal(file, ["tokens"]),
        pytest.raises(SetupError, match="another ngos watch is writing this journal"),
        open_journal(file, ["tokens"]),
    ):
        pass
    with open_journal(file, ["tokens"]):
        pass  # and it is free again


@pytest.mark.parametrize(("path", "why"), [("", "Is a directory"), ("no/j", "No such file"), ("fifo", "not a file")])
def test_can_not_be_written(tmp_path: Path, path: str, why: str) -> None:
    """Tries to get anything but one line where the file can't be what a journal is."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SetupError, match=why), open_journal(tmp_path / path, ["tokens"]):
        pass


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """A disk that is full, for this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room(tmp_path: Path) -> None:
    """Tries to leave half a line behind, or to go on, when the disk is full in the midst of it."""
    file = tmp_path / "j"
    with open_journal(file, ["tokens"]) as journal:
        journal.write(event(1))
        with files_at_most(file.stat().st_size + 10), pytest.raises(SetupError, match="File too large"):
            journal.write(event(2))
        assert [event(1)] == entries(file)
        journal.write(event(2))
    assert [event(1), event(2)] == entries(file)


def test_blocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to lose or double a line where a block ends, or in a line longer than many blocks."""
    file = tmp_path / "j"
    lines = [json_line(event(seq, f"t{seq % 5}", text="x" * (seq * 37 % 211))) for seq in range(1, 40)]
    file.write_bytes(b"".join(lines) + lines[-1][:50])
    for block_bytes in (1, 2, 7, 64, 200, 10**6):
        monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
        copy = tmp_path / str(block_bytes)
        copy.write_bytes(file.read_bytes())
        with open_journal(copy, [f"t{number}" for number in range(6)]) as journal:
            starts = [journal.start(f"t{number}") for number in range(6)]
        assert [*(Opened(f"t{n}", EPOCH, 35 + n) for n in range(5)), None] == starts
        assert b"".join(lines) == copy.read_bytes()


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a line held in memory however long it is."""
    monkeypatch.setattr(module, "LINE_BYTES", 1000)
    monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    file = tmp_path / "j"
    file.write_bytes(json_line(event(1)) + json_line(event(2, text="x" * 5000)) + json_line(event(3, "graph")))
    assert [event(1), Odd("longer than 1000 bytes"), event(3, "graph")] == entries(file)
    with pytest.raises(SetupError, match="a line longer than 1000 bytes"), open_journal(file, ["tokens"]):
        pass


def test_of_a_file_that_grows(tmp_path: Path) -> None:
    """Tries to have read what was written after the file was looked at."""
    file = tmp_path / "j"
    line = json_line(event(1))
    file.write_bytes(line + json_line(event(2)))
    assert [(1, event(1))] == list(read(file, len(line)))
    assert [(1, event(1)), (2, Torn())] == list(read(file, len(line) + 1))
    assert [] == list(read(file, 0))


LINE = json_line(event(1, text="a"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=30) | st.sampled_from([LINE, LINE[:20], b"\n", b'{"subscribed":', b'{"id":'])))
@example([b'{"subscribed":{"topic":"t","epoch":"e","seq":true}}\n'])
@example([b'{"id":"1","type":"x","timestamp":1,"payload":{},"topic":"t","seq":1}\n'])
@example([b'{"id":"1","type":"x","timestamp":1,"payload":' + b'{"a":' * 600 + b"1" + b"}" * 601 + b"\n"])
def test_any_bytes(tmp_path: Path, parts: list[bytes]) -> None:
    """Tries to get anything but lines, or one line of refusal, out of a file of any bytes; or a whole line cut off."""
    file = tmp_path / "j"
    content = b"".join(parts)
    file.write_bytes(content)
    whole = content[: content.rfind(b"\n") + 1]
    found = entries(file)
    assert whole.count(b"\n") + (content != whole) == len(found)
    assert (content != whole) == (Torn() in found)
    try:
        with open_journal(file, ["tokens", "t"]) as journal:
            journal.write(event(7))
    except SetupError:
        assert content == file.read_bytes()
    else:
        assert whole + json_line(event(7)) == file.read_bytes()
