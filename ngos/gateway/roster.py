"""The other nodes, by what they say of themselves each second. A node that says nothing any more is gone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import orjson
import trio
from attrs import define, field, frozen

GONE_S: Final = 10.0
"""A node that has not been heard for so long is not there."""
TOPICS: Final = 256
"""Topics that a node names; where it has more, it says how many."""
NODES: Final = 1000
MOST: Final = 1 << 40
"""No node has more of anything; all of them together can be told as JSON, which ends with 64 bits."""


@frozen
class Presence:
    """What a node says of itself. `topics`: subscribers by topic, or None where they are more than TOPICS."""

    connections: int
    subscriptions: int
    topic_count: int
    topics: Mapping[str, int] | None
    events_per_s: float

    def to_json(self) -> bytes:
        return orjson.dumps(attrs.asdict(self, recurse=False))

    @classmethod
    def from_json(cls, body: bytes) -> Presence:
        """What another node says of itself; what it says beside that, a later version does.

        Raises ValueError, TypeError or LookupError where something is missing, or is not what it should be.
        """
        told = orjson.loads(body)
        topics, events_per_s = told["topics"], told["events_per_s"]
        if topics is not None:
            if len(topics) > TOPICS:
                raise ValueError(f"{len(topics):,} topics are named")
            topics = {str(topic): _count(subscribers) for topic, subscribers in dict(topics).items()}
        if type(events_per_s) not in (int, float) or not 0 <= events_per_s <= MOST:
            raise ValueError("events_per_s is no rate")
        return cls(
            connections=_count(told["connections"]),
            subscriptions=_count(told["subscriptions"]),
            topic_count=_count(told["topic_count"]),
            topics=topics,
            events_per_s=float(events_per_s),
        )


def _count(told: Any) -> int:
    if type(told) is not int or not 0 <= told <= MOST:
        raise ValueError("a count is none")
    return told


@define(eq=False)
class _Heard:
    """What a node said last, and when. `is_silent`: it has not answered since."""

    presence: Presence
    at: float
    is_silent: bool = field(init=False, default=False)


@define(eq=False)
class Roster:
    """See the module."""

    _heard: dict[str, _Heard] = field(init=False, factory=dict)

    def hear(self, node_id: str, body: bytes) -> None:
        """A node says that it is there. As `ngos.backplane.line.Hearer`; raises as `Presence.from_json`."""
        if node_id in self._heard or len(self._heard) < NODES:
            self._heard[node_id] = _Heard(Presence.from_json(body), trio.current_time())

    def knows(self, node_id: str) -> bool:
        """Whether a node has said that it is there, and not that it leaves."""
        return node_id in self._heard

    def hear_bye(self, node_id: str, _body: bytes) -> None:
        """A node says that it leaves."""
        self._heard.pop(node_id, None)

    def present(self) -> dict[str, Presence]:
        """The others that are there, by node id."""
        past = trio.current_time() - GONE_S
        for node_id in [node_id for node_id, heard in self._heard.items() if heard.at < past]:
            del self._heard[node_id]
        return {node_id: heard.presence for node_id, heard in self._heard.items()}

    def has_not_answered(self, node_id: str, asked_at: float) -> None:
        """A node has not answered in time. Unless it was heard since it was asked, it is silent until it is heard.

        So the end of a node without a goodbye costs the time of one question, not that of each for GONE_S.
        """
        heard = self._heard.get(node_id)
        if heard is not None and heard.at <= asked_at:
            heard.is_silent = True

    def silent(self) -> set[str]:
        """Nodes whose answer is not worth waiting for: they are there, as far as is known, and say nothing."""
        return {node_id for node_id, heard in self._heard.items() if heard.is_silent}

    def subscribers(self, topic: str) -> int:
        """How many follow a topic there, as far as they name it."""
        return sum((presence.topics or {}).get(topic, 0) for presence in self.present().values())

    def together(self, own: Presence) -> Presence:
        """All nodes as one. Of topics that nodes don't name, each node's count as others."""
        all_ = [own, *self.present().values()]
        named = {topic for presence in all_ for topic in presence.topics or ()}
        return Presence(
            connections=sum(presence.connections for presence in all_),
            subscriptions=sum(presence.subscriptions for presence in all_),
            topic_count=len(named) + sum(presence.topic_count for presence in all_ if presence.topics is None),
            topics=None,
            events_per_s=sum(presence.events_per_s for presence in all_),
        )
