"""`ngos verify` on journals: what a watcher wrote is sound, and each way in which it could have missed or doubled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngos.client.feed import Event
from ngos.client.trio import connect
from ngos.journal import open_journal
from ngos.verify import Report, verify
from ngos.watch import watch
from tests.histories import LAST, History, Noticing, faults, texts
from tests.servers import running_server

Lines = list[dict[str, Any]]


def lines_of(history: History) -> Lines:
    return [orjson.loads(line) for line in history.journal.read_bytes().splitlines()]


def write(history: History, lines: Lines) -> None:
    history.journal.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def at(lines: Lines, topic: str, seq: int) -> int:
    """The index of an event's line."""
    return next(i for i, line in enumerate(lines) if (line.get("topic"), line.get("seq")) == (topic, seq))


def check(history: History, *, complete: bool = False) -> Report:
    report = history.verify(history.journal, complete=complete)
    assert set(faults(report)) <= {"journals"}
    return report


def swap(lines: Lines) -> None:
    first, second = at(lines, "tokens", 3), at(lines, "tokens", 4)
    lines[first], lines[second] = lines[second], lines[first]


def repeat(lines: Lines) -> None:
    lines.append(lines[at(lines, "graph", 3)])


def remove(lines: Lines) -> None:
    del lines[at(lines, "experience", 2)]


def remove_two(lines: Lines) -> None:
    del lines[at(lines, "experience", 2)]
    del lines[at(lines, "experience", 3)]


def remove_first(lines: Lines) -> None:
    del lines[at(lines, "tokens", 1)]


def foreign_epoch(lines: Lines) -> None:
    lines[at(lines, "tokens", 5)]["epoch"] = "00000000"


def foreign_database(lines: Lines) -> None:
    for line in lines:
        where = line.get("subscribed", line)
        if where.get("topic") == "graph":
            where["epoch"] = "00000000"


def seen_too_much(lines: Lines) -> None:
    lines.append(lines[at(lines, "chat.x", 3)] | {"seq": 4})


def started_too_late(lines: Lines) -> None:
    lines[:] = [{"subscribed": {"topic": "chat.x", "epoch": lines[at(lines, "chat.x", 3)]["epoch"], "seq": 9}}]


def goes_on_later(lines: Lines) -> None:
    lines.append({"subscribed": {"topic": "chat.x", "epoch": lines[at(lines, "chat.x", 3)]["epoch"], "seq": 5}})


def goes_on_earlier(lines: Lines) -> None:
    lines.append({"subscribed": {"topic": "chat.x", "epoch": lines[at(lines, "chat.x", 3)]["epoch"], "seq": 2}})


def unknown_topic(lines: Lines) -> None:
    lines.append({"subscribed": {"topic": "chat.y", "epoch": "00000000", "seq": 2}})


def no_line(lines: Lines) -> None:
    lines.insert(3, {"hello": 1})


@pytest.mark.parametrize(
    ("damage", "count", "text"),
    [
        (swap, 2, "tokens 3 comes after 4: twice, or out of order"),
        (repeat, 1, "graph 3 comes after 8"),
        (remove, 1, "experience 2 is missing"),
        (remove_two, 2, "experience 2 to 3 are missing"),
        (remove_first, 1, "tokens 1 is missing"),
        (foreign_epoch, 2, "tokens goes from epoch"),  # and 5 is missing
        (foreign_database, 1, "it was lost, or is another"),
        (seen_too_much, 1, "chat.x 4 was seen, and is not in the log, which ends at 3"),
        (started_too_late, 1, "chat.x was at 9, and the log ends at 3"),
        (goes_on_later, 2, "chat.x 4 to 5 are missing"),
        (goes_on_earlier, 1, "chat.x goes on after 2, though 3 was there already"),
        (unknown_topic, 1, "chat.y is not in the database"),
        (no_line, 1, "line 4: no watcher wrote this"),
    ],
)
def test_a_damaged_journal(history: History, damage: Any, count: int, text: str) -> None:
    """Tries to have an event lost, doubled, moved or made up in a journal so that it is not noticed."""
    lines = lines_of(history)
    damage(lines)
    write(history, lines)
    report = check(history)
    assert {"journals": count} == faults(report), texts(report)
    assert text in texts(report)


@pytest.mark.parametrize("field", ["id", "type", "timestamp", "sender_id", "payload"])
def test_an_event_that_is_another(history: History, field: str) -> None:
    """Tries to change one field of an event in the journal so that it is not noticed, or not named."""
    lines = lines_of(history)
    line = lines[at(lines, "tokens", 5)]
    line[field] = {
        "id": "other",
        "type": "token.deleted",
        "timestamp": line["timestamp"] + 1,
        "sender_id": None,
        "payload": line["payload"] | {"metadata": {"nul": "\1"}},
    }[field]
    write(history, lines)
    report = check(history)
    assert {"journals": 1} == faults(report)
    assert texts(report).endswith(f"tokens 5 is not what the log has: {field}")


def test_an_event_that_was_lost(history: History) -> None:
    """Tries to lose an event of the log, its number and all, that a watcher had seen."""
    history.execute(
        "delete from replies where type = 'published'; update topics set seq = 2 where topic = 'chat.x'; delete from "
        "events where type = 'said' and seq = 3"
    )
    report = check(history)
    assert {"journals": 1} == faults(report)
    assert "chat.x 3 was seen, and is not in the log, which ends at 2" in texts(report)


def test_incomplete(history: History) -> None:
    """Tries to pass a journal that ends early for a complete one, or to call it a fault where nobody asked."""
    lines = lines_of(history)
    del lines[at(lines, "chat.x", 3)]
    write(history, lines)
    assert check(history).sound
    report = check(history, complete=True)
    assert {"journals": 1} == faults(report)
    assert "chat.x ends at 2, the log at 3" in texts(report)


def test_torn_and_empty_are_remarks(history: History) -> None:
    """Tries to have it called a fault that a watcher was killed while it wrote, or before it wrote anything."""
    whole = history.journal.read_bytes()
    history.journal.write_bytes(whole + whole[:40])
    report = check(history, complete=True)
    assert report.sound
    assert "is torn" in report.checks[-1].remarks[0]
    history.journal.write_bytes(b"")
    report = check(history, complete=True)
    assert report.sound
    assert "is empty" in report.checks[-1].remarks[0]


def test_several_journals(history: History) -> None:
    """Tries to have one journal's events count for another's."""
    lines = lines_of(history)
    other = history.journal.with_name("other.jsonl")
    other.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines if line.get("seq") != 2))
    report = history.verify(history.journal, other)
    assert {"journals": 4} == faults(report)
    assert all(str(other) in text for text in report.checks[-1].first)


async def test_more_than_is_compared_at_once(database_url: str, tmp_path: Path) -> None:
    """Tries to lose sight of a change in a journal of more events than are compared at once."""
    file = tmp_path / "seen.jsonl"

    def nothing(_event: Event) -> None: ...

    with open_journal(file, ["tokens"]) as journal:
        async with (
            running_server(database_url) as server,
            connect(server.url) as client,
            trio.open_nursery() as nursery,
        ):
            ready = trio.Event()
            noticing: Any = Noticing(journal, "tokens", ready)
            nursery.start_soon(lambda: watch(client, ("tokens",), 1200, nothing, journal=noticing))
            await ready.wait()
            for _ in range(1200):
                nursery.start_soon(client.create_token)
    assert (await verify(database_url, [file], complete=True)).sound
    data = bytearray(file.read_bytes())
    place = data.index(b'"weight":1.0', len(data) * 2 // 3) + len(b'"weight":')
    data[place : place + 1] = b"2"
    file.write_bytes(data)
    report = await verify(database_url, [file])
    assert {"journals": 1} == faults(report)
    assert "is not what the log has: payload" in texts(report)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes(history: History, data: st.DataObject) -> None:
    """Tries to get an exception, instead of a report, out of a journal that is damaged or no journal at all."""
    whole = Path(os.fspath(history.journal) + ".whole")
    if not whole.exists():
        whole.write_bytes(history.journal.read_bytes())
    original = whole.read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 300)))
    odd = st.sampled_from([b"\n", b"{}\n", b'"seq":-1', b'"seq":99999999999999999999', b'"topic":"\\u0000"', b"null"])
    middle = data.draw(st.binary(max_size=40) | odd)
    history.journal.write_bytes(original[:start] + middle + original[end:])
    report = check(history)
    assert sum(LAST.values()) >= report.checks[0].looked_at
