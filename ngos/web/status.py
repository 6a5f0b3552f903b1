"""What `GET /status` tells of a running server, for `ngos status`: counts, not rates, which are made of two answers."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

import trio
from attrs import frozen

from ngos import __version__
from ngos.distribution import Distribution
from ngos.gateway.bulletin import Bulletin
from ngos.gateway.connection import Connection
from ngos.gateway.connections import Connections
from ngos.gateway.nodes import Nodes
from ngos.lag import LoopLag
from ngos.log.committer import Committer
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.topic import Topic
from ngos.postgres.pool import Pool
from ngos.protocol import PROTOCOL_VERSION
from ngos.protocol.converters import iso_of_ms

TALKERS: Final = 10
"""Connections that are told of: those with the most commands, and those for which the most waits."""
TOPICS: Final = 100
"""Topics that are told of: those with the most subscribers."""


@frozen(eq=False)
class Status:
    """The parts that it is read from; `reasons` say why it is not ready.

    Costs as much as looking once at each connection and topic.
    """

    _connections: Connections
    _bulletin: Bulletin
    _committer: Committer
    _relay: Relay
    _hub: Hub
    _nodes: Nodes
    _pool: Pool
    _lag: LoopLag
    _reasons: Callable[[], list[str]]

    def __call__(self) -> dict[str, Any]:
        """Tell how the server is at this moment. `at_s` is a clock to take rates by; counts are since the start."""
        connections, pool, stats = self._connections, self._pool.stats(), self._committer.stats
        line = self._nodes.line
        open_ = connections.open.values()
        topics = self._hub.topics()
        answers = connections.tally.counts
        return {
            "server": {"version": __version__, "protocol": PROTOCOL_VERSION},
            "node": {
                "id": line.node_id,
                "nodes": len(self._nodes.roster.present()) + 1,
                "backplane": "none" if line.is_alone else line.lost or "works",
            },
            "at_s": trio.current_time(),
            "uptime_s": round(self._bulletin.uptime_s(), 3),
            "reasons": self._reasons(),
            "connections": len(open_),
            "sockets": connections.door.open,
            "subscriptions": sum(topic.count() for topic in topics),
            "mailbox_bytes": connections.backlog.bytes,
            "pool": {
                "used": pool.size - pool.idle,
                "idle": pool.idle,
                "max": self._pool.max_size,
                "waiting": pool.waiting,
            },
            "counts": {
                "commands": sum(answers.values()),
                "errors": sum(count for (_, outcome), count in answers.items() if outcome != "ok"),
                "commits": stats.batches,
                "events": stats.events + self._hub.ephemeral_of.total(),
                "deliveries": self._hub.deliveries,
                "accepted": connections.accepted,
                "slow_consumers": connections.backlog.slow,
            },
            "seconds": {
                "delivery": _spread(self._hub.lag_s),
                "commit": _spread(stats.commit_s),
                "loop_lag": _spread(self._lag.seconds),
                "pool_wait": _spread(self._pool.wait_s),
            },
            "heads": dict(sorted(self._relay.heads.items())),
            "topic_count": len(topics),
            "topics": [_topic(topic) for topic in heapq.nlargest(TOPICS, topics, key=Topic.count)],
            "talkers": [_talker(connection) for connection in heapq.nlargest(TALKERS, open_, key=_commands)],
            "waited_for": [
                _talker(connection)
                for connection in heapq.nlargest(TALKERS, open_, key=_waiting_bytes)
                if connection.mailbox
            ],
        }


def _commands(connection: Connection) -> int:
    return connection.reader.commands


def _waiting_bytes(connection: Connection) -> int:
    return connection.mailbox.size_bytes


def _spread(distribution: Distribution) -> dict[str, Any]:
    return {"bounds": distribution.bounds, "counts": distribution.counts, "total": distribution.total}


def _topic(topic: Topic) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "epoch": topic.epoch,
        "seq": topic.head,
        "subscribers": topic.count(),
        "events": topic.events,
    }


def _talker(connection: Connection) -> dict[str, Any]:
    return {
        "connection_id": connection.id,
        "client_id": connection.client_id,
        "connected_at": iso_of_ms(connection.connected_at_ms),
        "commands": connection.reader.commands,
        "subscriptions": len(connection.subscriptions),
        "waiting_bytes": connection.mailbox.size_bytes,
    }
