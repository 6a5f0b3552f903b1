"""All that a client follows: its topics, and the broadcasts that have none. Sans-I/O.

Asks the server, by way of `requests`, for what each topic's feeds are due, and gives its events to the feeds. What a
feed is due is `ngos.client.topic`'s to say. May import this package except the session and the shells, and the
protocol.
"""

from __future__ import annotations

from collections.abc import Callable

from ngos.client.errors import GapError, RequestTooBig, SessionError
from ngos.client.feed import Event, Feed
from ngos.client.requests import Outcome, Requests
from ngos.client.topic import Topic
from ngos.protocol.codec import Envelope, structure
from ngos.protocol.commands import Subscribe
from ngos.protocol.messages import Subscribed


class Topics:
    """The feeds of a session by their topics. Between `connect` and `disconnect` it may ask the server."""

    def __init__(
        self,
        requests: Requests,
        *,
        on_output: Callable[[], object],
        on_refused: Callable[[SessionError], object],
        on_resumed: Callable[[str, int], object],
        on_gap: Callable[[GapError], object],
        reconnect: bool,
    ) -> None:
        """`on_refused` hears that feeds can't go on with this connection, but perhaps with another, if `reconnect`.

        `on_resumed` hears of each topic that goes on after a break, and how many events come again; `on_gap` of each
        feed that a hole has ended.
        """
        self._requests = requests
        self._on_output = on_output
        self._on_refused = on_refused
        self._on_resumed = on_resumed
        self._on_gap = on_gap
        self._reconnect = reconnect
        self._connected = False
        self._topics: dict[str, Topic] = {}
        self._broadcasts: list[Feed] = []

    def attach(self, feed: Feed) -> None:
        """Let a feed follow its topic from its position, or all broadcasts if that is None."""
        if feed.topic is None:
            feed.following = True
            self._broadcasts.append(feed)
            return
        for other in tuple(self._topics.values()):
            self._settle(other)  # drops abandoned feeds also where nothing happens
        topic = self._topics.setdefault(feed.topic, Topic(feed.topic))
        feed.on_room = lambda: self._settle(topic)
        feed.on_gap = self._on_gap
        topic.join(feed)
        self._settle(topic)

    def detach(self, feed: Feed) -> None:
        """Stop a feed. The last one of a topic queues `unsubscribe`, whose reply nobody waits for."""
        feed.on_room = feed.on_gap = None
        if feed.topic is None:
            if feed in self._broadcasts:
                self._broadcasts.remove(feed)
            return
        topic = self._topics.get(feed.topic)
        if topic is not None and feed in topic.feeds:
            topic.feeds.remove(feed)
            self._settle(topic)

    def connect(self) -> None:
        """There is a connection: queue a `subscribe` for each topic with feeds that have room, eldest topic first."""
        self._connected = True
        for topic in tuple(self._topics.values()):
            self._settle(topic)

    def disconnect(self) -> None:
        """There is none any more, and the server has forgotten what we followed."""
        self._connected = False
        for topic in self._topics.values():
            topic.disconnect()

    def end(self, error: SessionError) -> None:
        """There will be none."""
        self._connected = False
        for topic in self._topics.values():
            for feed in topic.feeds:
                feed.end(error)
        for feed in self._broadcasts:
            feed.end(error)

    def deliver(self, envelope: Envelope, size_bytes: int) -> None:
        """Give an event to its topic's feeds, or a broadcast to its own. Raises MessageError: the server's fault."""
        event = Event.from_envelope(envelope)
        if event.topic is None:
            for feed in self._broadcasts:
                if not feed.abandoned:
                    feed.offer(event, size_bytes)
            self._broadcasts = [feed for feed in self._broadcasts if not (feed.abandoned or feed.ended)]
            return
        topic = self._topics.get(event.topic)
        if topic is not None and topic.deliver(event, size_bytes):
            self._settle(topic)

    def _settle(self, topic: Topic) -> None:
        """Drop feeds that are done, and ask the server for what the others are due."""
        for feed in tuple(topic.feeds):
            if feed.abandoned or feed.ended is not None:
                feed.on_room = feed.on_gap = None
                topic.feeds.remove(feed)
        if not topic.feeds and self._topics.get(topic.name) is topic:
            del self._topics[topic.name]
        if not self._connected:
            return
        command = topic.next_command()
        if command is None:
            return

        def done(outcome: Outcome) -> None:
            if isinstance(command, Subscribe):
                self._answered(topic, outcome)

        try:
            self._requests.add(command, None, done, ours=True)
        except RequestTooBig as exc:
            # Of a name that long, or of a server that takes less than the last one: the consumers' to hear. What is
            # too long for `unsubscribe` goes on, and nobody takes it.
            if isinstance(command, Subscribe):
                topic.refused(exc, final=True)
                self._settle(topic)
            return
        self._on_output()

    def _answered(self, topic: Topic, outcome: Outcome) -> None:
        if isinstance(outcome, Envelope):
            replay = topic.agreed(structure(outcome.payload, Subscribed))
            if replay is not None:
                self._on_resumed(topic.name, replay)
        elif topic.refused(outcome, final=not self._reconnect):
            self._on_refused(outcome)
            return
        self._settle(topic)
