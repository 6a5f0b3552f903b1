"""A server of protocol.md sections 3 to 6 without a socket: what the client's core is held against.

Messages go through two queues, so that a connection can break with any number of them under way.
"""

from __future__ import annotations

import json
from collections import deque
from itertools import count
from typing import Any

from tests.client.fakes import LIMITS, envelope, greeting, subscribed


class Log:
    """A durable topic. `first` is the oldest event that is kept."""

    def __init__(self) -> None:
        self.epochs = count(1)
        self.epoch = ""
        self.seq = 0
        self.first = 1
        self.reset()

    def reset(self) -> None:
        self.epoch = f"{next(self.epochs):08x}"
        self.seq, self.first = 0, 1

    def holds(self, since: int, epoch: str | None) -> bool:
        """Whether all after `since` can be replayed."""
        return epoch in (None, self.epoch) and self.first - 1 <= since <= self.seq

    def event(self, seq: int) -> str:
        return f"{self.epoch}/{seq}"


class ModelServer:
    """The server, and the one connection it has, if any."""

    def __init__(self, durable: str, ephemeral: str) -> None:
        self.log = Log()
        self.durable, self.ephemeral = durable, ephemeral
        self.effects: dict[str, int] = {}
        self.replies: dict[str, tuple[str, dict[str, Any]]] = {}
        self.limits = dict(LIMITS)
        self.down = False
        self.connected = False
        self.inbox: deque[str] = deque()
        self.outbox: deque[str] = deque()
        self.topics: set[str] = set()
        self.order: list[str] = []
        """The type of each command that arrived on this connection."""

    def connect(self, **payload: Any) -> None:
        self.connected = True
        self.order = []
        self.outbox.append(json.dumps(greeting(**{"limits": self.limits, **payload})))

    def disconnect(self) -> None:
        self.connected = False
        self.topics.clear()
        self.inbox.clear()
        self.outbox.clear()

    def publish(self, number: int) -> None:
        for _ in range(number):
            self.log.seq += 1
            self._event(self.log.seq)

    def publish_ephemeral(self) -> None:
        if self.ephemeral in self.topics:
            self._send("x", {}, topic=self.ephemeral)

    def prune(self) -> None:
        self.log.first = self.log.seq + 1

    def reset(self) -> None:
        """The log is lost; who follows goes on with what comes."""
        self.log.reset()
        self.publish(1)

    def step(self) -> None:
        """Handle the next command."""
        command = json.loads(self.inbox.popleft())
        type_, payload, id_ = command["type"], command["payload"], command["id"]
        self.order.append(type_)
        if self.down:
            error = {"code": "unavailable", "message": "down", "retryable": True, "details": {}}
            self._send("error", error, reply_to=id_)
        elif type_ == "subscribe":
            self._subscribe(id_, **payload)
        elif type_ == "unsubscribe":
            self.topics.discard(payload["topic"])
            self._send("unsubscribed", {"topic": payload["topic"], "success": True}, reply_to=id_)
        else:
            again = id_ in self.replies
            if not again:
                self.effects[id_] = self.effects.get(id_, 0) + 1
                self.replies[id_] = ("token.created", {"number": payload.get("number")})
            reply, content = self.replies[id_]
            self._send(reply, content, reply_to=id_, replayed=again)

    def _subscribe(self, id_: str, topic: str, since: int | None = None, epoch: str | None = None) -> None:
        self.topics.add(topic)
        if topic == self.ephemeral:
            self._send("subscribed", subscribed(topic), reply_to=id_)
            return
        recovered = since is not None and self.log.holds(since, epoch)
        replay = self.log.seq - (since or 0) if recovered else 0
        position = {"epoch": self.log.epoch, "seq": self.log.seq}
        self._send("subscribed", subscribed(topic, **position, recovered=recovered, replay=replay), reply_to=id_)
        if recovered:
            for seq in range((since or 0) + 1, self.log.seq + 1):
                self._event(seq)

    def _event(self, seq: int) -> None:
        if self.durable in self.topics:
            content = {"content": self.log.event(seq)}
            self._send("x", content, topic=self.durable, seq=seq, epoch=self.log.epoch)

    def _send(self, type_: str, payload: dict[str, Any], **fields: Any) -> None:
        self.outbox.append(json.dumps(envelope(type_, payload, **fields)))
