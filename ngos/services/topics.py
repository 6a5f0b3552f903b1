"""Custom topics: which are durable, and `publish` to them (protocol.md sections 3 and 4)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

import orjson
from attrs import define, field

from ngos.log import store
from ngos.log.sql import Transaction
from ngos.log.write import CustomEvent, Outcome, Write
from ngos.protocol import codec
from ngos.protocol.catalog import OWN_DURABLE_TOPICS, OWN_TOPICS
from ngos.protocol.commands import Publish
from ngos.protocol.faults import ClientError, ErrorCode, NoRoom
from ngos.protocol.messages import Published
from ngos.protocol.values import Position
from ngos.services.handlers import Call, answers, writes


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


@define(eq=False)
class Topics:
    """The topic service.

    `publish` sends an event of an ephemeral topic to its subscribers. `durable_patterns` name custom topics that are
    logged, with `*` and `?`; of those, and of the server's own, there are at most `most_durable`.
    """

    _publish: Callable[[store.LoggedEvent], Awaitable[None]]
    _durable_patterns: tuple[str, ...]
    most_durable: int
    is_durable: Callable[[str], bool] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.keep_as(self._durable_patterns, self.most_durable)

    def keep_as(self, durable_patterns: tuple[str, ...], most_durable: int) -> None:
        """Have other topics be durable from here on."""
        self._durable_patterns, self.most_durable = durable_patterns, most_durable
        # Clients choose the names, so the cache has a size.
        self.is_durable = lru_cache(maxsize=4096)(self._is_durable)

    def _is_durable(self, topic: str) -> bool:
        if topic in OWN_TOPICS:
            return topic in OWN_DURABLE_TOPICS
        return any(fnmatchcase(topic, pattern) for pattern in self._durable_patterns)

    @writes(Publish, when=lambda self, command: self.is_durable(command.topic) and command.topic not in OWN_TOPICS)
    async def publish_durable(self, tx: Transaction, writes: Sequence[Write[Publish]]) -> Sequence[Outcome]:
        commands = [write.command for write in writes]
        refused = await store.ensure_topics(tx.conn, {command.topic for command in commands}, self.most_durable)
        return [
            Outcome(NoRoom(self.most_durable))
            if command.topic in refused
            else Outcome(
                _published, (CustomEvent(command.topic, command.type, codec.tight(orjson.dumps(command.payload))),)
            )
            for command in commands
        ]

    @answers(Publish)
    async def publish_ephemeral(self, command: Publish, call: Call) -> Published:
        """Send to who is subscribed now; raises ClientError for a topic of the server's own."""
        if command.topic in OWN_TOPICS:
            raise ClientError(ErrorCode.FORBIDDEN, f"the topic {command.topic} is the server's own")
        await self._publish(
            store.LoggedEvent(
                command.topic, command.type, codec.tight(orjson.dumps(command.payload)), call.client_id, now_ms()
            )
        )
        return Published(topic=command.topic, durable=False, epoch=None, seq=None)


def _published(position: Position) -> Published:
    return Published(topic=position.topic, durable=True, epoch=position.epoch, seq=position.seq)
