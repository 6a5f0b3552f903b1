"""The client's side of the protocol without I/O: messages in, messages out, and who waits for which reply.

Never waits, never reads a clock, knows no event loop: the shells (`ngos.client.trio`) do. Feeding it what the server
sends never raises; a failure is a state (`ended`) that everyone who waits hears of. May import the rest of this
package except the shells, and the protocol.

What is bounded by whom: `_pending` and `_output` hold a message for each caller that waits (the shell lets at most
`limits.in_flight` in), and one `unsubscribe` for each subscription that a caller had; `Feed` bounds itself.

Not here yet: cursors, resume and re-sending over several connections. Their place is `_Topic.seq` with `epoch`,
which is kept for each topic already, and `_Pending.message`, which is what would be sent again.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import orjson
from attrs import define, evolve, field, frozen

from ngos.client.errors import AlreadySubscribed, CommandError, ConnectionLost, RequestTooBig, SessionError
from ngos.client.feed import Event, Feed
from ngos.protocol.close import CloseCode
from ngos.protocol.codec import Envelope, MessageError, encode_command, parse, structure
from ngos.protocol.commands import Command, Subscribe, Unsubscribe
from ngos.protocol.messages import ConnectionEstablished, ErrorReply, Subscribed

Outcome = Envelope | SessionError
"""What a command comes to: its reply, or why there is none."""


@frozen
class _Pending:
    """A command without a reply. `message` is what was, or will be, sent."""

    message: str
    on_done: Callable[[Outcome], None]


@define
class _Topic:
    """A topic that feeds follow. `opening` is None until the server has agreed; `seq` is the last event's."""

    opening: Subscribed | None = None
    seq: int | None = None
    feeds: list[Feed] = field(factory=list)


class Session:
    """One connection's state. Callers feed `receive` and drain `take_output`, and call `end` when it is over."""

    def __init__(self) -> None:
        self.established: ConnectionEstablished | None = None
        self.ended: ConnectionLost | None = None
        # Ids make commands idempotent per client_id (section 6), so no two sessions may ever share one.
        self._prefix = secrets.token_hex(8)
        self._count = 0
        self._pending: dict[str, _Pending] = {}
        self._output: OrderedDict[str, str] = OrderedDict()
        self._topics: dict[str, _Topic] = {}
        self._broadcasts: list[Feed] = []

    # Requests

    def request(
        self,
        command: Command | str,
        payload: dict[str, Any] | None,
        on_done: Callable[[Outcome], None],
        *,
        id_: str | None = None,
    ) -> str:
        """Queue a command and return its id; `on_done` is called once with what it comes to.

        Raises ConnectionLost; RequestTooBig, ValueError (the id waits for a reply already) and TypeError (a value
        that JSON does not have), which are the caller's fault. Then nothing was queued.
        """
        if self.ended is not None:
            raise self.ended.again()
        if id_ is None:
            self._count += 1
            id_ = f"{self._prefix}-{self._count}"
        elif id_ in self._pending:
            raise ValueError(f"the command {id_!r} waits for its reply already")
        name = command if isinstance(command, str) else command.TYPE
        if isinstance(command, Command):
            data = encode_command(command, id_)
        else:
            data = orjson.dumps({"id": id_, "type": command, "payload": {} if payload is None else payload})
        if self.established is not None and len(data) > self.established.limits.message_bytes:
            raise RequestTooBig(name, len(data), self.established.limits.message_bytes)
        message = data.decode()
        self._pending[id_] = _Pending(message, on_done)
        self._output[id_] = message
        return id_

    def forget(self, id_: str) -> None:
        """Nobody waits for this reply any more. What was not taken yet is never sent."""
        self._pending.pop(id_, None)
        self._output.pop(id_, None)

    # Subscriptions

    def attach(self, feed: Feed, *, since: int | None = None, epoch: str | None = None) -> None:
        """Let a feed follow its topic, or all broadcasts if that is None. `feed.open` or `feed.end` is called later.

        Only a topic's first feed costs a command; the others join where it is. Raises ConnectionLost, and
        AlreadySubscribed (the caller's fault).
        """
        if self.ended is not None:
            raise self.ended.again()
        if feed.topic is None:
            self._broadcasts.append(feed)
            return
        topic = self._topics.get(feed.topic)
        if topic is None:
            topic = _Topic()
            command = Subscribe(topic=feed.topic, since=since, epoch=epoch)
            self.request(command, None, lambda outcome: self._opened(feed.topic or "", topic, since, outcome))
            self._topics[feed.topic] = topic
        elif since is not None:
            raise AlreadySubscribed(feed.topic)
        topic.feeds.append(feed)
        if topic.opening is not None:
            feed.open(evolve(topic.opening, seq=topic.seq, recovered=False, replay=0))

    def detach(self, feed: Feed) -> None:
        """Stop a feed. The last one of a topic queues `unsubscribe`, whose reply nobody waits for."""
        if feed.topic is None:
            if feed in self._broadcasts:
                self._broadcasts.remove(feed)
            return
        topic = self._topics.get(feed.topic)
        if topic is None or feed not in topic.feeds:
            return
        topic.feeds.remove(feed)
        if not topic.feeds:
            del self._topics[feed.topic]
            if self.ended is None:
                self.request(Unsubscribe(topic=feed.topic), None, lambda _: None)

    def _opened(self, name: str, topic: _Topic, since: int | None, outcome: Outcome) -> None:
        error: SessionError
        if isinstance(outcome, SessionError):
            error = outcome
        else:
            try:
                reply = structure(outcome.payload, Subscribed)
            except MessageError as exc:
                error = ConnectionLost(CloseCode.PROTOCOL_ERROR, str(exc))
            else:
                topic.opening = reply
                topic.seq = since if reply.recovered else reply.seq
                for feed in topic.feeds:
                    feed.open(evolve(reply, seq=topic.seq))
                return
        if self._topics.get(name) is topic:
            del self._topics[name]
        for feed in topic.feeds:
            feed.end(error)

    # The wire

    def receive(self, data: str | bytes) -> None:
        """Take one message from the server. Never raises: what can't be read ends the session with 1002."""
        if self.ended is not None:
            return
        try:
            envelope = parse(data)
            if self.established is None:
                self._greet(envelope)
                return
        except MessageError as exc:
            self.end(ConnectionLost(CloseCode.PROTOCOL_ERROR, str(exc)))
            return
        if envelope.reply_to is not None:
            pending = self._pending.pop(envelope.reply_to, None)
            if pending is not None:
                failed = envelope.type == ErrorReply.TYPE
                pending.on_done(CommandError(envelope) if failed else envelope)
        elif envelope.topic is not None:
            self._route(envelope, envelope.topic, len(data))
        elif envelope.type != ErrorReply.TYPE:
            self._deliver(self._broadcasts, Event.from_envelope(envelope), len(data))

    def take_output(self) -> str | None:
        """Return the next message to send, in the order of the calls that caused them, or None."""
        if self.ended is not None or not self._output:
            return None
        return self._output.popitem(last=False)[1]

    def end(self, error: ConnectionLost) -> None:
        """The connection is over: everyone who waits hears `error`. The first end counts."""
        if self.ended is not None:
            return
        self.ended = error
        pending, self._pending = self._pending, {}
        self._output.clear()
        for waiting in pending.values():
            waiting.on_done(error)
        for topic in self._topics.values():
            for feed in topic.feeds:
                feed.end(error)
        for feed in self._broadcasts:
            feed.end(error)

    def _greet(self, envelope: Envelope) -> None:
        if envelope.type != ConnectionEstablished.TYPE:
            raise MessageError(f"the first message is {envelope.type!r}, not {ConnectionEstablished.TYPE!r}")
        self.established = structure(envelope.payload, ConnectionEstablished)

    def _route(self, envelope: Envelope, name: str, size_bytes: int) -> None:
        topic = self._topics.get(name)
        if topic is None or topic.opening is None:
            return  # the tail of a subscription that was given up
        if envelope.seq is not None:
            topic.seq = envelope.seq
        self._deliver(topic.feeds, Event.from_envelope(envelope), size_bytes)

    def _deliver(self, feeds: list[Feed], event: Event, size_bytes: int) -> None:
        for feed in tuple(feeds):
            if not feed.abandoned:
                feed.offer(event, size_bytes)
            if feed.abandoned or feed.ended is not None:
                self.detach(feed)
