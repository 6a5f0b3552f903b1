"""One topic that feeds follow, over all connections: where each of them is, and what to ask of the server for them.

Sans-I/O. The server knows one position per topic and connection (protocol.md section 5), and asking again moves it.
Feeds at different positions share it: it is put where the hindmost needs it, and the others drop what they have.

A feed that is full does not follow until its consumer has taken half. Meanwhile:

- others follow: where only repeats would come for them, the position is moved on to where they are;
- none follows: unsubscribe. Else the server would send, and we read, what nobody takes, for as long as the consumer
  pauses: while it replays a million events, all of them, once per buffer. What is on its way then is wasted; so the
  cost of a slow consumer is a few buffers of the network each time it has read half of its own, at most once a round
  trip, whatever is in the log.

May import `ngos.client.errors`, `ngos.client.feed` and the protocol.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

from ngos.client.errors import CommandError, SessionError
from ngos.client.feed import Event, Feed, Position
from ngos.protocol.codec import MessageError
from ngos.protocol.commands import Subscribe, Unsubscribe
from ngos.protocol.messages import Subscribed
from ngos.protocol.rules import INT64_MAX

_SEQ_MAX: Final = INT64_MAX // 4
"""More than any log will count to, and what is asked `since` stays a number that JSON here can carry."""
REPEATS: Final = 100
"""So many events that all have are let pass; for more, the position is moved on, which costs a round trip."""


@frozen
class _Asked:
    """A `subscribe` without a reply, for which feeds: `since` which position (None: live), and which are at it."""

    feeds: tuple[Feed, ...]
    since: Position | None = None
    hindmost: tuple[Feed, ...] = ()


class Topic:
    """The feeds of one topic. Callers send what `next_command` says, and tell it what came of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.feeds: list[Feed] = []
        self._asked: _Asked | None = None
        self._reply: Subscribed | None = None
        """The server's last agreement on this connection, while its subscription is in force."""
        self._stream: Position | None = None
        """The last event that came, repeat or not, or what the subscription started after."""
        self._head: Position | None = None
        """The furthest position that is known: where what is live begins."""
        self._broken = False
        """Whether the connection broke under a feed, and none has gone on since."""

    def join(self, feed: Feed) -> None:
        """Add a feed. It follows at once where the subscription that is there serves it."""
        self.feeds.append(feed)
        if self._reply is None or self._asked is not None:
            return
        if not self._reply.durable:
            feed.follow(None, evolve(self._reply, recovered=False, replay=0))
        elif feed.position is None and self._head is not None:
            feed.follow(self._head, evolve(self._reply, seq=self._head.seq, recovered=False, replay=0))

    def disconnect(self) -> None:
        """The connection is gone, and the server's subscription with it."""
        self._asked = self._reply = self._stream = self._head = None
        for feed in self.feeds:
            feed.following = False
            self._broken |= feed.opening is not None and feed.opening.durable

    def next_command(self) -> Subscribe | Unsubscribe | None:
        """Return what to send now so that each feed gets what it is due; it counts as sent."""
        if self._asked is not None and self.feeds:
            return None
        following = [feed for feed in self.feeds if feed.following]
        ready = [feed for feed in self.feeds if not feed.following and feed.has_room]
        if ready or self._only_repeats(following):
            return self._subscribe([*ready, *following])
        if not following and (self._reply or self._asked):
            self._reply = self._asked = None
            return Unsubscribe(topic=self.name)
        return None

    def agreed(self, reply: Subscribed) -> int | None:
        """The server's answer to `subscribe`: each feed follows, has a gap, or is due another `subscribe`.

        Returns how many events come again, where this is the first after a break that lets a feed go on. Raises
        MessageError where a durable topic has no position: the server's fault.
        """
        asked, self._asked = self._asked, None
        if asked is None or not self.feeds:
            return None
        self._reply = reply
        before = [feed for feed in self.feeds if feed.opening is not None]
        if not reply.durable:
            self._stream = self._head = None
            for feed in self.feeds:
                self._place_on_ephemeral(feed, reply)
            return None
        if reply.epoch is None or reply.seq is None:
            raise MessageError(f"{self.name!r} is durable, and has no position")
        if min(reply.seq, reply.replay) < 0 or max(reply.seq, reply.replay) > _SEQ_MAX:
            raise MessageError(f"{self.name!r} is said to be at {reply.seq}, with {reply.replay} to come")
        now = self._stream = self._head = Position(reply.epoch, reply.seq)
        recovered_since = asked.since.seq if reply.recovered and asked.since is not None else None
        if recovered_since is not None:
            self._stream = Position(reply.epoch, recovered_since)
            self._head = Position(reply.epoch, max(reply.seq, recovered_since + reply.replay))
        for feed in self.feeds:
            if feed.position is None:
                feed.follow(self._head, evolve(reply, seq=self._head.seq, recovered=False, replay=0))
            elif feed not in asked.feeds:
                pass  # it came, or had room, later than this was asked: the answer says nothing about it
            elif recovered_since is not None:
                self._place_in_replay(feed, feed.position, recovered_since, reply)
            else:
                self._place_at(now, feed, feed.position, asked, reply)
        if not (self._broken and any(feed.following for feed in before)):
            return None
        self._broken = False
        return reply.replay

    def refused(self, error: SessionError, *, final: bool) -> bool:
        """The server did not subscribe: what is in force goes on, and those it was asked for hear it.

        Where it may go better on another connection, those who had started do not; returns whether there are such.
        """
        asked, self._asked = self._asked, None
        if asked is None:
            return False
        waiting = [feed for feed in self.feeds if not feed.following and (feed in asked.feeds or feed.position is None)]
        retryable = not final and isinstance(error, CommandError) and error.retryable
        left = False
        for feed in waiting or self.feeds:
            if retryable and feed.opening is not None:
                left = True
            else:
                feed.end(error)
        return left

    def deliver(self, event: Event, size_bytes: int) -> bool:
        """Offer an event to all feeds. Returns whether some do not follow now, and may be due a command.

        Raises MessageError where a durable topic's event has no position.
        """
        if self._reply is None:
            return True  # the tail of a subscription that was given up
        position = None
        if self._reply.durable:
            if event.seq is None or event.epoch is None:
                raise MessageError(f"an event of {self.name!r}, which is durable, has no position")
            if not 0 <= event.seq <= _SEQ_MAX:
                raise MessageError(f"an event of {self.name!r} is said to be number {event.seq}")
            position = self._stream = Position(event.epoch, event.seq)
            if self._head is None or self._head.epoch != event.epoch or self._head.seq < event.seq:
                self._head = position
        all_follow = True
        for feed in self.feeds:
            feed.following &= not feed.abandoned
            feed.offer(event, size_bytes, position)
            all_follow &= feed.following
        return not all_follow

    def _subscribe(self, feeds: list[Feed]) -> Subscribe:
        """Ask since the hindmost of `feeds`. Those of another epoch than the first will have to be told apart."""
        positions = [feed.position for feed in feeds if feed.position is not None]
        if not positions:
            self._asked = _Asked(tuple(feeds))
            return Subscribe(topic=self.name)
        epoch = next((position.epoch for position in positions if position.epoch is not None), None)
        seq = min(position.seq for position in positions if position.epoch in (None, epoch))
        since = Position(epoch, seq)
        at = (since, Position(None, seq))
        self._asked = _Asked(tuple(feeds), since, tuple(feed for feed in feeds if feed.position in at))
        return Subscribe(topic=self.name, since=seq, epoch=epoch)

    def _only_repeats(self, following: list[Feed]) -> bool:
        """Whether the next events are known to all who follow, and there are many of them."""
        if self._stream is None:
            return False
        positions = [feed.position for feed in following if feed.position is not None]
        same = all(position.epoch == self._stream.epoch for position in positions)
        return bool(positions) and same and (min(position.seq for position in positions) - self._stream.seq > REPEATS)

    def _place_in_replay(self, feed: Feed, position: Position, since: int, reply: Subscribed) -> None:
        """All after `since` comes."""
        assert reply.epoch is not None
        assert self._head is not None
        if position.epoch not in (None, reply.epoch):
            feed.gap((reply.epoch, self._head.seq))
        elif feed.opening is None and position.seq > self._head.seq:
            feed.gap((reply.epoch, self._head.seq))  # it says that it saw what has not happened: another log's number
        elif position.seq >= since and (feed.following or feed.has_room):
            replay = max(0, reply.replay - (position.seq - since))
            position = Position(reply.epoch, position.seq)
            feed.follow(position, evolve(reply, seq=position.seq, replay=replay))

    def _place_at(self, now: Position, feed: Feed, position: Position, asked: _Asked, reply: Subscribed) -> None:
        """Only what comes after `now` comes."""
        assert now.epoch is not None
        # A feed that has followed may be ahead of a server that has yet to hear of the last events itself.
        ahead = feed.opening is not None and position.epoch == now.epoch and position.seq > now.seq
        if position == now or ahead:
            if feed.following or feed.has_room:
                feed.follow(position, evolve(reply, replay=0))
        elif feed in asked.hindmost or position.epoch not in (None, now.epoch):
            feed.gap((now.epoch, now.seq))
        else:
            feed.following = False  # its own position may be in the log still: asked for next

    def _place_on_ephemeral(self, feed: Feed, reply: Subscribed) -> None:
        """There is no log. Events may be missed here by nature, but not by one who was promised all of them."""
        if feed.opening is not None and feed.opening.durable:
            feed.gap(None)
        else:
            feed.follow(None, evolve(reply, recovered=False, replay=0))
