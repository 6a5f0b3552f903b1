"""The account: what clients were told, by their journals, beside what happened, by the log of events.

Promises: every command is looked at, and every event; what can't be explained is a finding of one of the KINDS. No
findings means: each answered change is in the log, once, as it was answered; each refusal left nothing; each event
is some command's; who asked twice was told the same; who watched saw all of it (`seen`). Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import attrs

from chaos_parts import seen
from chaos_parts.facts import Logged
from chaos_parts.journal import Answer, Journal, Record
from chaos_parts.mix import MARK, TWIST

KINDS = {
    "lost": "answered changes without their event",
    "repeated": "commands with more than one effect",
    "altered": "events that are not what was answered",
    "refused_but_done": "refused commands with an effect",
    "phantom": "events that no command explains",
    "out_of_order": "versions and sequence numbers out of order",
    "inconsistent": "commands answered in two ways",
    "misnamed": "ids used for another command that were not refused",
    "unexpected": "errors that no client deserved",
    "unanswered": "commands without an answer",
    **seen.KINDS,
}

_REFUSALS = ("token.not_found", "graph.not_found", "error")
_REMOVALS = ("token.delete", "graph.disconnect")


@attrs.define
class Account:
    """The numbers, and what is wrong: a text for each finding, by kind."""

    commands: int = 0
    sent: int = 0
    answered: int = 0
    refused: int = 0
    replayed: int = 0
    resent: int = 0
    events: int = 0
    lives: int = 0
    troubles: Counter[str] = attrs.field(factory=Counter)
    findings: dict[str, list[str]] = attrs.field(factory=lambda: {kind: [] for kind in KINDS})

    @property
    def good(self) -> bool:
        """Whether there is nothing to complain of."""
        return not any(self.findings.values())


def make_account(
    journals: Sequence[Journal], events: Sequence[Logged], watchers: Mapping[str, Iterable[bytes]] | None = None
) -> Account:
    """Compare all journals of a run with the whole log. `events` are in order within each topic.

    `watchers`: the lines of each one's journal, by its name.
    """
    account = Account(events=len(events))
    effects = _Effects(events)
    for journal in journals:
        account.lives += journal.lives
        account.troubles += journal.troubles
        for record in journal.records.values():
            _count(account, record)
            _judge_answers(account, record)
            _judge_effects(account, record, effects)
    account.findings["phantom"] += map(str, effects.unexplained())
    account.findings["out_of_order"] += _versions(events)
    account.findings["out_of_order"] += _sequences(events)
    for name, lines in (watchers or {}).items():
        for kind, found in seen.judge_watcher(name, lines, events).items():
            account.findings[kind] += found
    return account


class _Effects:
    """The events by whose they are. What is taken is explained."""

    def __init__(self, events: Iterable[Logged]) -> None:
        self._marked: dict[str, list[Logged]] = defaultdict(list)
        self._removals: dict[tuple[str, str | None, str], list[Logged]] = defaultdict(list)
        self._cascades: set[tuple[str | None, str, object]] = set()
        self._unmarked: list[Logged] = []
        for event in events:
            mark = event.payload.get("metadata", event.payload).get(MARK)
            if event.type == "token.deleted":
                self._removals[event.type, event.sender_id, event.payload["token_id"]].append(event)
                self._cascades.add((event.sender_id, event.payload["token_id"], event.at))
            elif event.type == "graph.disconnected":
                self._removals[event.type, event.sender_id, event.payload["connection_id"]].append(event)
            elif isinstance(mark, str):
                self._marked[mark].append(event)
            else:
                self._unmarked.append(event)

    def take(self, record: Record) -> list[Logged]:
        """The events of a command that marks them."""
        return self._marked.pop(record.id, [])

    def take_removal(self, client_id: str, answer: Answer) -> list[Logged]:
        """One event of a command that is known by what it removes: a token may be made and removed many times."""
        name = answer.payload.get("token_id" if answer.type == "token.deleted" else "connection_id", "")
        found = self._removals.get((answer.type, client_id, name), [])
        return [found.pop(0)] if found else []

    def unexplained(self) -> list[Logged]:
        """What nobody has taken, and is not an edge that went with its token."""
        left = [event for events in (*self._marked.values(), *self._removals.values()) for event in events]
        return self._unmarked + [event for event in left if not self._cascaded(event)]

    def _cascaded(self, event: Logged) -> bool:
        ends = (event.payload.get("source_id", ""), event.payload.get("target_id", ""))
        return event.type == "graph.disconnected" and any(
            (event.sender_id, end, event.at) in self._cascades for end in ends
        )


def _count(account: Account, record: Record) -> None:
    account.commands += 1
    account.sent += record.sent
    account.resent += record.sent - 1
    account.answered += bool(record.answers)
    account.replayed += sum(answer.replayed for answer in record.answers)
    account.refused += bool(record.answers) and record.answers[0].type in _REFUSALS


def _judge_answers(account: Account, record: Record) -> None:
    """Sent again, it is answered as before; used for something else, the id is refused."""
    findings = account.findings
    if not record.answers:
        findings["unanswered"].append(f"{record.id} {record.type}, sent {record.sent} times")
        return
    first, *others = record.answers
    for other in others:
        if (first.type, first.payload) != (other.type, other.payload):
            findings["inconsistent"].append(f"{record.id} {record.type}: {_brief(first)}, then {_brief(other)}")
        elif not other.replayed:
            findings["inconsistent"].append(f"{record.id} {record.type}: answered again, not as a replay")
    if first.replayed and record.sent == 1 and not record.steady:
        findings["inconsistent"].append(f"{record.id} {record.type}: sent once, answered as a replay")
    findings["misnamed"] += [f"{record.id}: {code}" for code in record.twists if code != "conflict"]
    if first.type == "error" and first.payload.get("code") != "conflict":
        findings["unexpected"].append(f"{record.id} {record.type}: {_brief(first)}")


def _judge_effects(account: Account, record: Record, effects: _Effects) -> None:
    """A change that was answered has its one event, which says what the answer said; a refusal has none."""
    findings = account.findings
    answer = record.answers[0] if record.answers else None
    if record.type in _REMOVALS:
        if answer is None or answer.type in _REFUSALS:
            return  # what it may have removed all the same, nobody takes
        found = effects.take_removal(record.client_id, answer)
    else:
        found = effects.take(record)
    name = f"{record.id} {record.type}"
    if any(event.payload.get("metadata", {}).get(TWIST) for event in found):
        findings["misnamed"].append(f"{name}: {', '.join(map(str, found))}")
    if len(found) > 1:
        findings["repeated"].append(f"{name}: {', '.join(map(str, found))}")
    if answer is None:
        return  # it may have happened or not
    if answer.type in _REFUSALS:
        if found:
            findings["refused_but_done"].append(f"{name}: {_brief(answer)}, but {found[0]}")
    elif not found:
        findings["lost"].append(f"{name}: {_brief(answer)}")
    elif not _says(answer, found[0], record):
        findings["altered"].append(f"{name}: {_brief(answer)}, but {found[0]}")


def _says(answer: Answer, event: Logged, record: Record) -> bool:
    """Whether an event is what the answer told."""
    if event.sender_id != record.client_id:
        return False
    if answer.type == "published":
        told = {"topic": event.topic, "durable": True, "epoch": event.epoch, "seq": event.seq}
        sent = (record.payload["type"], record.payload["payload"])
        return answer.payload == told and (event.type, event.payload) == sent
    return (answer.type, answer.payload) == (event.type, event.payload)


def _versions(events: Iterable[Logged]) -> list[str]:
    """Each token is made with version 1, changed to the next one, and removed, and nothing else."""
    findings = []
    alive: dict[str, int] = {}
    for event in events:
        if event.topic != "tokens":
            continue
        token_id = event.payload["token_id"]
        before = alive.pop(token_id, 0)
        if event.type == "token.deleted":
            good = before > 0
        else:
            alive[token_id] = event.payload["version"]
            good = alive[token_id] == before + 1 and (before == 0) == (event.type == "token.created")
        if not good:
            findings.append(f"{event}: token {token_id} was at version {before}")
    return findings


def _sequences(events: Iterable[Logged]) -> list[str]:
    """Within a trajectory experiences are numbered 1, 2, 3."""
    findings = []
    last: dict[str, int] = defaultdict(int)
    for event in events:
        trajectory = event.payload.get("trajectory_id") if event.topic == "experience" else None
        if trajectory is None:
            continue
        number = event.payload["sequence_number"]
        if number != last[trajectory] + 1:
            findings.append(f"{event}: number {number} of {trajectory} after {last[trajectory]}")
        last[trajectory] = number
    return findings


def _brief(answer: Answer) -> str:
    code = answer.payload.get("code")
    return f"{answer.type} {code}: {answer.payload.get('message')}" if code else answer.type
