"""A node without sockets: pool, hub, relay, committer and services, on a real database; and peers that speak to it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import trio
from attrs import define, field, frozen

from ngos.backplane.line import Cluster
from ngos.cache.answers import Cache
from ngos.cache.heads import Heads
from ngos.cache.memory import Memory
from ngos.cache.shared import Shared
from ngos.errors import StorageUnavailable
from ngos.gateway.access import Access
from ngos.gateway.limits import Refusals
from ngos.gateway.registry import Registry
from ngos.gateway.session import Session
from ngos.log import store
from ngos.log.committer import Committer
from ngos.log.history import History
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.replies import CommandKey
from ngos.log.write import Answer, Encoded, Write
from ngos.postgres.pool import Pool, open_pool
from ngos.protocol import codec
from ngos.protocol.faults import CommandFailed, unavailable
from ngos.protocol.parcel import Parcel
from ngos.redis import parse
from ngos.services.experience import Experiences
from ngos.services.graph import Graph
from ngos.services.handlers import Call
from ngos.services.paths import Paths
from ngos.services.tokens import Tokens
from ngos.services.topics import Topics
from tests.servers import settings_for

PATIENCE_S = 20.0
CLUSTER = Cluster("test", b"secret")

EMPTY = """
set synchronous_commit = off;
delete from edges; delete from tokens; delete from experiences; delete from trajectories; delete from events;
delete from replies; delete from topics where topic not in ('experience', 'graph', 'tokens');
update topics set seq = 0, pruned = 0
"""
"""Makes a database what it is after the migration."""


@frozen
class Said:
    """A reply: `error` has the code, message and details of the failure as its payload."""

    type: str
    payload: dict[str, Any]
    replayed: bool = False


@define(eq=False, repr=False)
class Peer:
    """A connection without a socket: a lane of the committer, a subscriber of the hub.

    `heard` is all that a client would have got, in order: replies as Said, events as envelopes.
    """

    node: Node
    name: str
    heard: list[Said | dict[str, Any]] = field(factory=list)
    replies: list[Said] = field(factory=list)
    events: list[dict[str, Any]] = field(factory=list)
    lost: trio.Event = field(factory=trio.Event)
    _grown: trio.Event = field(factory=trio.Event)

    async def __call__(self, command: str, /, **payload: Any) -> Said:
        """Do a command and return its reply."""
        count = len(self.replies)
        await self.post(command, **payload)
        await self.answered(count + 1)
        return self.replies[count]

    async def once(self, id_: str, command: str, /, **payload: Any) -> Said:
        """Do a command with an id, as the subject that `name` is, and return its reply."""
        count = len(self.replies)
        await self.post(command, id_, **payload)
        await self.answered(count + 1)
        return self.replies[count]

    async def post(self, command: str, id_: str | None = None, /, **payload: Any) -> None:
        """Send a command as the gateway does: a write is answered later, all else at once."""
        data = orjson.dumps({"type": command, "payload": payload} | ({} if id_ is None else {"id": id_}))
        try:
            received = codec.decode(data)
        except CommandFailed as exc:
            return self._answer(exc)
        entry = self.node.registry[type(received.command)]
        handler = entry.write_of(received.command)
        if handler is not None:
            key = None if id_ is None else CommandKey(self.name, id_, received.hash())
            await self.node.committer.submit(
                Write(handler, received.command, self, self.name, received.size_bytes, self._answer, key)
            )
            return None
        assert entry.answer is not None
        try:
            reply = await entry.answer(received.command, Call(None, self.name, self))
        except CommandFailed as exc:
            self._answer(exc)
        except StorageUnavailable:
            self._answer(unavailable())
        else:
            self._answer(reply if isinstance(reply, Encoded) else Encoded(reply.TYPE, codec.dump(reply)))
        return None

    def offer_events(self, parcel: Parcel) -> None:
        for message in parcel.messages:
            event = orjson.loads(message)
            self.events.append(event)
            self.heard.append(event)
        self._grown.set()

    def overtaken(self) -> None:
        self.lost.set()

    async def follow(self, topic: str) -> int:
        """Subscribe to a durable topic; returns the position it starts behind."""
        position = await self.node.hub.position(topic)
        self.node.hub.add(topic, self, after=position.seq)
        return position.seq

    async def answered(self, count: int) -> None:
        """Wait for that many replies in all."""
        with trio.fail_after(PATIENCE_S):
            while len(self.replies) < count:
                await self._growth()

    async def heard_events(self, count: int) -> list[dict[str, Any]]:
        """Wait for that many events in all; returns them."""
        with trio.fail_after(PATIENCE_S):
            while len(self.events) < count:
                await self._growth()
        return self.events

    async def _growth(self) -> None:
        self._grown = trio.Event()
        await self._grown.wait()

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer, Encoded):
            said = Said(answer.type, orjson.loads(answer.payload), answer.replayed)
        else:
            said = Said("error", {"code": answer.code.value, "message": answer.message, "details": answer.details})
        self.replies.append(said)
        self.heard.append(said)
        self._grown.set()


@frozen(eq=False, repr=False)
class Node:
    """The parts, running."""

    pool: Pool
    hub: Hub
    relay: Relay
    committer: Committer
    registry: Registry
    cache: Cache

    def peer(self, name: str = "peer") -> Peer:
        return Peer(self, name)

    async def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as conn:
            return await (await conn.execute(query, list(parameters))).fetchall()

    async def log(self, topic: str) -> list[store.LoggedEvent]:
        """All events of a topic."""
        async with self.pool.connection() as conn:
            return await store.read(conn, topic, 0, 2**62, 1_000_000)


@asynccontextmanager
async def open_node(
    database_url: str,
    *,
    query_s: float = 10.0,
    durable_topics: tuple[str, ...] = ("durable.*",),
    cache_bytes: int = 0,
    redis_url: str | None = None,
    is_alone: bool = True,
) -> AsyncIterator[Node]:
    """Start a node; leaving stops it. What its tasks raise comes out of the block.

    With `cache_bytes` all answers are kept that may be, however little they cost.
    """
    async with open_pool(database_url, max_size=4, connect_s=5.0, query_s=query_s) as pool:

        async def read_extent(topic: str) -> store.Extent:
            async with pool.connection() as conn:
                return await store.read_extent(conn, topic, 100)

        hub = Hub(read_extent)
        relay = Relay(hub, pool)
        committer = Committer(pool, relay, is_alone=is_alone)
        topics = Topics(hub.publish, durable_topics, 100)
        history = History(pool, hub.encode)
        settings, refusals = settings_for(database_url), Refusals()
        access = Access(None, settings, refusals, time.time)
        session = Session(access, refusals, hub, history, read_extent, topics)
        shared = None if redis_url is None else Shared(parse(redis_url), age_s=60.0)
        cache = Cache(Heads(pool), Memory(cache_bytes, age_s=60.0), shared, query_s, worth_s=0.0)
        cached = (service(pool, cache.answer) for service in (Tokens, Graph, Paths))
        registry = Registry.of(*cached, Experiences(pool), topics, session)
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            await nursery.start(relay.run)
            await nursery.start(committer.run)
            nursery.start_soon(cache.run, CLUSTER)  # noqa: ASYNC113 - until it has a client, all are misses
            yield Node(pool, hub, relay, committer, registry, cache)
            nursery.cancel_scope.cancel()
