"""What a node says of itself: to the other nodes each second, and of all of them to who follows `system`."""

from __future__ import annotations

import time

import trio
from attrs import define, field

from ngos.gateway.connections import Connections
from ngos.gateway.roster import TOPICS, Presence, Roster
from ngos.log.committer import Committer
from ngos.log.hub import Hub
from ngos.protocol.catalog import SYSTEM_TOPIC
from ngos.protocol.messages import SystemStatus


@define(eq=False)
class Bulletin:
    """See the module. `ready`: whether commands can be expected to succeed."""

    _connections: Connections
    _committer: Committer
    _hub: Hub
    _roster: Roster
    ready: bool = field(init=False, default=False)
    _events_per_s: float = field(init=False, default=0.0)
    _started: float = field(init=False, factory=time.monotonic)

    async def tell_status(self) -> None:
        """Publish `system.status` of all nodes, to who is here, every few seconds; until cancelled."""
        while True:
            events_before, at_before = self._happened(), trio.current_time()
            await trio.sleep(self._connections.status_interval_s)
            self._events_per_s = (self._happened() - events_before) / (trio.current_time() - at_before)
            await self._hub.publish(self._connections.event_of(self._status()))

    async def tell_ready(self, ready: bool) -> None:
        """Note whether commands can be expected to succeed, and publish `system.status` at once."""
        self.ready = ready
        await self._hub.publish(self._connections.event_of(self._status()))

    def presence(self) -> Presence:
        """This node, as the others are told of it."""
        topics = self._hub.topics()
        named = {topic.name: topic.count() for topic in topics} if len(topics) <= TOPICS else None
        return Presence(
            connections=len(self._connections.open),
            subscriptions=sum(len(connection.subscriptions) for connection in self._connections.open.values()),
            topic_count=len(topics),
            topics=named,
            events_per_s=self._events_per_s,
        )

    def uptime_s(self) -> float:
        return time.monotonic() - self._started

    def _happened(self) -> int:
        """Events that this node has published; those of `system` are of its own making."""
        return self._committer.stats.events + self._hub.ephemeral_of.total() - self._hub.ephemeral_of[SYSTEM_TOPIC]

    def _status(self) -> SystemStatus:
        all_ = self._roster.together(self.presence())
        return SystemStatus(
            connections=all_.connections,
            subscriptions=all_.subscriptions,
            topics=all_.topic_count,
            events_per_s=round(all_.events_per_s, 3),
            uptime_s=round(self.uptime_s(), 3),
            ready=self.ready,
        )
