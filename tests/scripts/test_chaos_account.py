"""The account of scripts/chaos: what is wrong is found, whatever it is; what is right is not complained of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import attrs
import orjson
import psycopg
import pytest
import trio
from chaos_parts.account import KINDS, make_account
from chaos_parts.facts import Logged, read_events
from chaos_parts.journal import Journal
from chaos_parts.processes import until
from chaos_parts.resend import Line
from chaos_parts.writer import Writer

from tests.servers import running_server

START = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.define
class Case:
    """Two journals and a log; `w` and `v` are the writers."""

    w: Journal = attrs.field(factory=lambda: Journal("w"))
    v: Journal = attrs.field(factory=lambda: Journal("v"))
    events: list[Logged] = attrs.field(factory=list)

    def told(self, id_: str, command: str, payload: dict[str, Any], reply: str, answer: dict[str, Any]) -> None:
        """A command, and its answer."""
        journal = self.w if id_.startswith("w") else self.v
        journal.take({"send": id_, "type": command, "payload": payload})
        journal.take({"answer": id_, "type": reply, "payload": answer, "replayed": False})

    def log(self, topic: str, type_: str, sender: str, payload: dict[str, Any], second: int | None = None) -> None:
        """An event, by default in a transaction of its own."""
        seq = 1 + sum(event.topic == topic for event in self.events)
        at = START + timedelta(seconds=len(self.events) if second is None else second)
        self.events.append(Logged(topic, seq, "e", type_, sender, at, payload))

    def find(self, type_: str, nth: int = 0) -> Logged:
        return [event for event in self.events if event.type == type_][nth]

    def findings(self) -> dict[str, int]:
        """How many of each kind, without the zeros."""
        account = make_account([self.w, self.v], self.events)
        return {kind: len(found) for kind, found in account.findings.items() if found}


def token(token_id: str, version: int, mark: str, **fields: Any) -> dict[str, Any]:
    return {"token_id": token_id, "version": version, "metadata": {"command": mark}, **fields}


def edge(connection_id: str, mark: str) -> dict[str, Any]:
    return {"connection_id": connection_id, "source_id": "A", "target_id": "B", "metadata": {"command": mark}}


def error(code: str) -> dict[str, Any]:
    return {"code": code, "message": "no"}


def good_case() -> Case:
    """All kinds of commands, accepted and refused, one of them sent again, and one id used for another command."""
    case = Case()

    def done(id_: str, command: str, topic: str, type_: str, payload: dict[str, Any], **sent: Any) -> None:
        case.told(id_, command, sent, type_, payload)
        case.log(topic, type_, id_[0], payload)

    done("w.0", "token.create", "tokens", "token.created", token("A", 1, "w.0"))
    done("v.0", "token.create", "tokens", "token.created", token("B", 1, "v.0"))
    done("w.1", "token.update", "tokens", "token.updated", token("A", 2, "w.1"))
    done("w.2", "graph.connect", "graph", "graph.connected", edge("1", "w.2"))
    done("v.1", "graph.connect", "graph", "graph.connected", edge("2", "v.1"))
    done("v.2", "graph.disconnect", "graph", "graph.disconnected", {"connection_id": "2", "source_id": "A"})
    for n in (1, 2):
        step = {"trajectory_id": "t", "sequence_number": n, "metadata": {"command": f"w.{n + 2}"}}
        done(f"w.{n + 2}", "experience.record", "experience", "experience.recorded", step)
    published = {"topic": "chaos.x", "durable": True, "epoch": "e", "seq": 1}
    case.told("v.3", "publish", {"type": "said", "payload": {"command": "v.3"}}, "published", published)
    case.log("chaos.x", "said", "v", {"command": "v.3"})
    case.told("v.4", "token.create", {}, "error", error("conflict"))
    case.told("w.5", "token.delete", {}, "token.deleted", {"token_id": "A"})
    case.log("tokens", "token.deleted", "w", {"token_id": "A"}, second=100)
    case.log("graph", "graph.disconnected", "w", {"connection_id": "1", "source_id": "A"}, second=100)
    case.told("v.5", "token.update", {}, "token.not_found", {"token_id": "A"})
    case.w.take({"again": "w.0"})
    case.w.take({"answer": "w.0", "type": "token.created", "payload": token("A", 1, "w.0"), "replayed": True})
    case.v.take({"twist": "v.0", "code": "conflict"})
    return case


def test_nothing_to_complain_of() -> None:
    """Tries to have the account complain where all is well, or lose count."""
    case = good_case()
    assert {} == case.findings()
    account = make_account([case.w, case.v], case.events)
    assert account.good
    counts = (account.commands, account.sent, account.answered, account.refused, account.resent, account.replayed)
    assert (12, 13, 12, 2, 1, 1) == counts
    assert len(case.events) == account.events


def watched(case: Case) -> list[bytes]:
    """What a watcher's journal has that saw all of it: killed and begun again after the third event."""
    lines = [
        {"subscribed": {"topic": topic, "epoch": "e", "seq": 0}} for topic in {event.topic for event in case.events}
    ]
    lines += [
        {key: getattr(event, key) for key in ("topic", "seq", "epoch", "type", "sender_id", "payload")}
        for event in case.events
    ]
    lines.insert(len(lines) - len(case.events) + 3, {"subscribed": {"topic": "tokens", "epoch": "e", "seq": 3}})
    return [orjson.dumps(line) for line in lines]


def spoil_line(lines: list[bytes], nth: int, old: bytes, new: bytes) -> None:
    assert old in lines[nth]
    lines[nth] = lines[nth].replace(old, new)


SEEN_WRONG: dict[str, tuple[str, Callable[[list[bytes]], object]]] = {
    "one left out": ("gaps", lambda lines: lines.pop(-7)),
    "left out while it was away": ("gaps", lambda lines: spoil_line(lines, -9, b'"seq":3', b'"seq":4')),
    "one again": ("repeats", lambda lines: lines.append(lines[-1])),
    "one too late": ("disorder", lambda lines: lines.append(lines.pop(-6))),
    "other content": ("different", lambda lines: spoil_line(lines, -1, b'"A"', b'"C"')),
    "other sender": ("different", lambda lines: spoil_line(lines, -1, b'"w"', b'"v"')),
    "never logged": ("different", lambda lines: lines.append(lines[-1].replace(b'"seq":4', b'"seq":5'))),
    "the end": ("unseen", lambda lines: lines.pop()),
}


def test_a_watcher_that_saw_all() -> None:
    """Tries to have the account complain of a watcher that missed nothing."""
    case = good_case()
    assert make_account([case.w, case.v], case.events, {"watcher": watched(case)}).good


@pytest.mark.parametrize("name", SEEN_WRONG)
def test_what_a_watcher_saw_wrong_is_found(name: str) -> None:
    """Tries to get a gap, a repeat, disorder or another event past the account."""
    kind, spoil = SEEN_WRONG[name]
    case = good_case()
    lines = watched(case)
    spoil(lines)
    assert make_account([case.w, case.v], case.events, {"watcher": lines}).findings[kind]


def without(case: Case, type_: str, nth: int = 0) -> None:
    case.events.remove(case.find(type_, nth))


def instead(case: Case, type_: str, **changes: Any) -> None:
    event = case.find(type_)
    case.events[case.events.index(event)] = attrs.evolve(event, **changes)


def once_more(case: Case, type_: str) -> None:
    event = case.find(type_)
    case.log(event.topic, type_, event.sender_id or "", event.payload)


def answered_again(case: Case, **answer: Any) -> None:
    case.w.take({"again": "w.1"})
    first = case.w.records["w.1"].answers[0]
    case.w.take({"answer": "w.1", "type": first.type, "payload": first.payload, "replayed": True} | answer)


def replayed_at_once(case: Case) -> None:
    answers = case.w.records["w.1"].answers
    answers[0] = attrs.evolve(answers[0], replayed=True)


WRONG: dict[str, tuple[str, Callable[[Case], object]]] = {
    **{
        f"{type_} is gone": ("lost", lambda case, type_=type_: without(case, type_))
        for type_ in (
            *("token.created", "token.updated", "token.deleted", "graph.connected", "graph.disconnected"),
            *("experience.recorded", "said"),
        )
    },
    **{
        f"{type_} is there twice": ("repeated", lambda case, type_=type_: once_more(case, type_))
        for type_ in ("token.created", "token.updated", "graph.connected", "experience.recorded", "said")
    },
    **{
        f"{type_} is there twice, unasked": ("phantom", lambda case, type_=type_: once_more(case, type_))
        for type_ in ("token.deleted", "graph.disconnected")
    },
    "other content": ("altered", lambda case: instead(case, "token.updated", payload=token("A", 2, "w.1", weight=1.0))),
    "other sender": ("altered", lambda case: instead(case, "token.updated", sender_id="v")),
    "other type": ("altered", lambda case: instead(case, "token.updated", type="token.created")),
    "other position": ("altered", lambda case: instead(case, "said", seq=2)),
    "other epoch": ("altered", lambda case: instead(case, "said", epoch="f")),
    "deleted by another": ("lost", lambda case: instead(case, "token.deleted", sender_id="v")),
    "refused, and done": (
        "refused_but_done",
        lambda case: case.log("tokens", "token.created", "v", token("C", 1, "v.4")),
    ),
    "not found, and done": (
        "refused_but_done",
        lambda case: case.log("tokens", "token.updated", "v", token("B", 2, "v.5")),
    ),
    "nobody's event": ("phantom", lambda case: case.log("tokens", "token.created", "v", token("C", 1, "v.99"))),
    "an event without a mark": ("phantom", lambda case: case.log("chaos.x", "said", "v", {})),
    "an edge that went with no token": ("phantom", lambda case: instead(case, "token.deleted", at=START)),
    "a version left out": ("out_of_order", lambda case: instead(case, "token.updated", payload=token("A", 3, "w.1"))),
    "changed after its end": ("out_of_order", lambda case: case.events.reverse()),
    "a number left out": ("out_of_order", lambda case: without(case, "experience.recorded")),
    "another answer": ("inconsistent", lambda case: answered_again(case, type="error", payload=error("conflict"))),
    "another answer's content": ("inconsistent", lambda case: answered_again(case, payload=token("A", 3, "w.1"))),
    "answered again, not as a replay": ("inconsistent", lambda case: answered_again(case, replayed=False)),
    "a replay of nothing": ("inconsistent", replayed_at_once),
    "an id used again, accepted": ("misnamed", lambda case: case.v.take({"twist": "v.0", "code": "token.created"})),
    "an id used again, done": (
        "misnamed",
        lambda case: case.log("tokens", "token.created", "v", token("C", 1, "v.0") | {"metadata": TWISTED}),
    ),
    "an error": ("unexpected", lambda case: case.told("w.9", "publish", {}, "error", error("invalid_payload"))),
    "no answer": ("unanswered", lambda case: case.w.take({"send": "w.9", "type": "publish", "payload": {}})),
}
TWISTED = {"command": "v.0", "twist": True}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    """Tries to get something wrong past the account."""
    kind, spoil = WRONG[name]
    case = good_case()
    spoil(case)
    assert kind in case.findings()


def test_every_kind_can_be_found() -> None:
    """Tries to find a count that is zero because nothing is ever counted."""
    assert set(KINDS) == {kind for kind, _ in (*WRONG.values(), *SEEN_WRONG.values())}


async def test_against_a_real_log(database_url: str, tmp_path: Path) -> None:
    """Tries to get a lost event, and a repeated one, past the account of a real writer at a real server."""
    journal = Journal.open(tmp_path / "w.jsonl", "w")
    async with running_server(database_url, durable_topics=("chaos.*",)) as server:
        writer = Writer(journal, Line([server.url], journal, Random(1)), seed=1, per_s=400, slots=8)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await until(lambda: len(journal.records) >= 150, 20.0, lambda: "it did not write")
            writer.stop()
    journals = [Journal.read(tmp_path / "w.jsonl", "w")]
    account = make_account(journals, await read_events(database_url))
    assert {} == {kind: found for kind, found in account.findings.items() if found}
    assert account.answered >= 150
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("update events set seq = seq + 1000000 where type = 'token.updated'")
        db.execute(
            "insert into events select topic_id, seq - 500000, type, sender_id, created_at, payload from events "
            "where type = 'token.updated' limit 1"
        )
        db.execute("delete from events where ctid = (select max(ctid) from events where type = 'token.created')")
    findings = make_account(journals, await read_events(database_url)).findings
    assert (1, 1) == (len(findings["lost"]), len(findings["repeated"]))
