"""What this node and the others do together: ephemeral events, broadcasts, and answers that only all of them know.

All of it by the backplane, and so at most once; what is durable goes by the log (`ngos.log.relay`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import orjson
import structlog
import trio
from attrs import define, field

from ngos.backplane.line import Line
from ngos.backplane.outbox import WAITING_BYTES
from ngos.config import KIB
from ngos.gateway.bulletin import Bulletin
from ngos.gateway.connections import Connections
from ngos.gateway.roster import Roster
from ngos.log import wakeup
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.store import LoggedEvent

ANSWER_S: Final = 2.0
"""How long the others' answers are waited for."""
ANSWER_BYTES: Final = 256 * KIB
"""What is put into one message of an answer, unless one row of it has more."""
ASK_ID_CHARS: Final = 64
"""What is said again with each part of an answer is no longer; ours have 16."""
LEAVE_S: Final = 0.25
KINDS: Final = ("node", "bye", "event", "ask", "answer")
"""What they say to each other beside wake-ups."""

_log = structlog.get_logger("ngos.nodes")

Answerer = Callable[[Any], Iterable[Any]]
"""Answers a question with rows, all of JSON. Does not wait; raises where it does not understand the question."""


@define(eq=False)
class _Answer:
    """One node's, as far as it has come. `of`: how many parts it has in all, once one of them has said so."""

    rows: list[Any] = field(init=False, factory=list)
    parts: int = field(init=False, default=0)
    of: int = field(init=False, default=0)
    size_bytes: int = field(init=False, default=0)


@define(eq=False)
class _Ask:
    """A question, while its answers come.

    `asked`: who is there to answer; `coming`: who has not answered yet; `silent`: those who are not waited for.
    """

    is_row: Callable[[Any], bool]
    asked: set[str]
    coming: dict[str, _Answer]
    silent: set[str]
    rows: list[Any] = field(init=False, factory=list)
    answered: set[str] = field(init=False, factory=set)
    done: trio.Event = field(init=False, factory=trio.Event)

    def forget(self, *node_ids: str) -> None:
        """Wait no longer for nodes."""
        for node_id in node_ids:
            del self.coming[node_id]
        self.look()

    def look(self) -> None:
        """See whether nobody is waited for any more."""
        if self.coming.keys() <= self.silent:
            self.done.set()


def _is_stats(row: Any) -> bool:
    """Whether it is as `GET /ws/stats` adds it up: connections, and subscribers by topic."""
    connections, subscribers = row
    return type(connections) is int and all(type(count) is int for count in dict(subscribers).values())


_IS_ROW: Final[dict[str, Callable[[Any], bool]]] = {
    "stats": _is_stats,
    "connections": lambda row: isinstance(row, dict),
    "broadcast": lambda row: type(row) is int,
}
"""What others may answer, by question: a node of another version may say it in another way."""


@define(eq=False)
class _Round:
    """One question of which many want the answer. `number`: the how manieth."""

    number: int
    answer: tuple[list[Any], int] | None = field(init=False, default=None)
    over: trio.Event = field(init=False, factory=trio.Event)


def _broadcast(connections: Connections, question: Any) -> list[int]:
    """Send what another node has been told to send to all."""
    type_, payload, *stamp = question
    # A node of an earlier version does not say which id and time it has.
    id_, timestamp_ms = stamp[:2] or connections.stamp()
    if not isinstance(payload, dict) or (type(type_), type(id_), type(timestamp_ms)) != (str, str, int):
        raise TypeError("this is no broadcast")
    return [connections.broadcast(type_, orjson.dumps(payload), id_, timestamp_ms)]


@define(eq=False)
class Nodes:
    """See the module."""

    line: Line
    roster: Roster
    _hub: Hub
    _answerers: dict[str, Answerer] = field(init=False, factory=dict)
    _asks: dict[str, _Ask] = field(init=False, factory=dict)
    _rounds: dict[str, _Round] = field(init=False, factory=dict)
    _begun: int = field(init=False, default=0)
    _events: dict[str, list[LoggedEvent]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.line.on("node", self._hear_node)
        self.line.on("bye", self._hear_bye)
        self.line.on("event", self._hear_event)
        self.line.on_heard = self._offer_events
        self.line.on("ask", self._hear_ask)
        self.line.on("answer", self._hear_answer)

    def introduce(self, relay: Relay, connections: Connections, bulletin: Bulletin) -> None:
        """Say who hears what the other nodes say, and what this one says to them."""
        self.line.beat = lambda: bulletin.presence().to_json()
        self.line.on_change = partial(self._line_changed, relay)
        self.line.on(wakeup.KIND, relay.hear)
        self.answer("stats", lambda _: [(len(connections.open), self._hub.counts())])
        self.answer("connections", lambda _: connections.rows())
        self.answer("broadcast", partial(_broadcast, connections))

    def _line_changed(self, relay: Relay, works: bool) -> None:
        relay.doubt()
        if not works:  # what was asked, or answered, is lost with it
            for ask in list(self._asks.values()):
                ask.forget(*ask.coming)

    def _hear_node(self, node_id: str, body: bytes) -> None:
        is_new = not self.roster.knows(node_id)
        self.roster.hear(node_id, body)
        if is_new:  # it may be as new to them that we are here, and it would ask nobody until we say so
            self.line.tell()

    def _hear_bye(self, node_id: str, body: bytes) -> None:
        self.roster.hear_bye(node_id, body)
        for ask in list(self._asks.values()):
            if node_id in ask.coming:
                ask.asked.discard(node_id)
                ask.forget(node_id)

    async def publish(self, event: LoggedEvent) -> None:
        """Send an event of an ephemeral topic to its subscribers, here and there. Waits as `Hub.publish` does."""
        if not self.line.is_alone:
            self.line.send("event", event.topic.encode() + b"\n" + self._hub.encode(event))
        await self._hub.publish(event)

    def _hear_event(self, _node_id: str, body: bytes) -> None:
        topic, _, message = body.partition(b"\n")
        if not (message.startswith(b"{") and message.endswith(b"}")):
            raise ValueError("an event without its message, or half of it")
        event = LoggedEvent(topic.decode(), "", b"", None, 0, message=message)
        self._events.setdefault(event.topic, []).append(event)

    def _offer_events(self) -> None:
        # All of a bundle at once: no task has a turn while it is heard, and one by one they would find no more room.
        for topic, events in self._events.items():
            self._hub.offer(topic, events)
        self._events.clear()

    def answer(self, what: str, answerer: Answerer) -> None:
        """Have other nodes' questions be answered."""
        self._answerers[what] = answerer

    async def ask(self, what: str, question: object = None, *, strangers: bool = False) -> tuple[list[Any], int]:
        """Ask the other nodes: their rows, and how many of them have answered.

        `strangers`: send it even where no other is known; there may be some, who have not said so yet.

        Takes as long as the slowest, at most ANSWER_S: who is gone, or busy, or whose answer has not come whole, is
        left out. Who has not answered is not waited for again until it says that it is there.
        """
        asked = set() if self.line.lost is not None else set(self.roster.present())
        if not asked and not strangers:
            return [], 0
        ask_id, asked_at = secrets.token_hex(8), trio.current_time()
        is_row = _IS_ROW.get(what, lambda _row: True)
        ask = _Ask(is_row, asked, {node_id: _Answer() for node_id in asked}, self.roster.silent())
        ask.look()
        self._asks[ask_id] = ask
        try:
            self.line.send("ask", orjson.dumps([ask_id, what, question]))
            with trio.move_on_after(ANSWER_S) as scope:
                await ask.done.wait()
        finally:
            del self._asks[ask_id]
        if scope.cancelled_caught:
            for node_id in ask.coming:
                self.roster.has_not_answered(node_id, asked_at)
        if missing := ask.asked - ask.answered:
            _log.warning("nodes.no_answer", asked=what, nodes=sorted(missing))
        return ask.rows, len(ask.answered)

    async def look(self, what: str) -> tuple[list[Any], int]:
        """The same for what many may want at once: one asks, and who came before it did has its answer too.

        So a flood of requests on one node is no flood of questions to the others. Cancelled, who asks leaves it to the
        next.
        """
        came = self._begun
        while (round_ := self._rounds.get(what)) is not None:
            await round_.over.wait()
            if round_.number > came and round_.answer is not None:
                return round_.answer
        self._begun += 1
        round_ = self._rounds[what] = _Round(self._begun)
        try:
            round_.answer = await self.ask(what)
        finally:
            del self._rounds[what]
            round_.over.set()
        return round_.answer

    def _hear_ask(self, _node_id: str, body: bytes) -> None:
        ask_id, what, question, *_ = orjson.loads(body)  # a later version may say more
        if type(ask_id) is not str or len(ask_id) > ASK_ID_CHARS:
            raise ValueError("a question without an id")
        answerer = self._answerers.get(what)
        if answerer is None:  # a node of another version asks
            return
        parts: list[list[orjson.Fragment]] = [[]]
        size_bytes = 0
        for row in answerer(question):
            if size_bytes > ANSWER_BYTES:
                parts.append([])
                size_bytes = 0
            written = orjson.dumps(row)
            parts[-1].append(orjson.Fragment(written))
            size_bytes += len(written)
        # Each that is not the last tells how many there are. The last of several is told from one that is all: where
        # the others were dropped, it would be taken for that.
        for part in parts[:-1]:
            self.line.send("answer", orjson.dumps([ask_id, len(parts), part]))
        self.line.send("answer", orjson.dumps([ask_id, False if len(parts) == 1 else None, parts[-1]]))

    def _hear_answer(self, node_id: str, body: bytes) -> None:
        ask_id, more, rows, *_ = orjson.loads(body)
        ask = self._asks.get(ask_id)
        answer = None if ask is None else ask.coming.get(node_id)
        if ask is None or answer is None:
            return
        try:
            if not isinstance(rows, list) or not all(map(ask.is_row, rows)):
                raise ValueError("these are no rows of an answer")
        except Exception:
            ask.forget(node_id)
            raise
        answer.rows.extend(rows)
        answer.parts += 1
        answer.size_bytes += len(body)
        if more:
            answer.of = more  # True: it is of a version that does not tell
            if answer.size_bytes > WAITING_BYTES:  # more than can have waited with it
                ask.forget(node_id)
            return
        if more is False or answer.parts == answer.of:
            ask.rows.extend(answer.rows)
            ask.answered.add(node_id)
        ask.forget(node_id)

    async def leave(self) -> None:
        """Tell the others that this node is gone, if that is a matter of a moment."""
        self.line.is_leaving = True
        # Not only where the line works: others may have heard of this node before it heard of itself.
        if not self.line.is_linked:
            return
        self.line.send("bye", b"")
        with trio.move_on_after(LEAVE_S, shield=True):
            await self.line.outbox.sent_all()
