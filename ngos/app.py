"""The composition root: the one place where the parts are put together. Floor 8.

The order of the blocks is the order of shutdown: Postgres holds the log, the log holds the hub, the hub holds the
connections; the innermost leaves first.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio
from attrs import define
from quart_trio import QuartTrio

from ngos.auth.terms import terms_of
from ngos.backplane.carriers import carrier_of
from ngos.backplane.line import Cluster, Line
from ngos.cache.answers import Cache
from ngos.config import Settings
from ngos.errors import Defect, LogWentBack, SetupError, StorageUnavailable
from ngos.gateway.access import Access
from ngos.gateway.bulletin import Bulletin
from ngos.gateway.connections import Connections
from ngos.gateway.door import Door
from ngos.gateway.fanout import deliver
from ngos.gateway.limits import Refusals
from ngos.gateway.nodes import Nodes
from ngos.gateway.once import Once
from ngos.gateway.registry import Registry
from ngos.gateway.roster import Roster
from ngos.gateway.session import Session
from ngos.gateway.tally import Tally
from ngos.incidents import report
from ngos.lag import LoopLag
from ngos.log import store
from ngos.log.committer import Committer
from ngos.log.history import History
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.retention import Retention
from ngos.log.store import Extent
from ngos.place import Place
from ngos.postgres.claim import Claim
from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.identity import Guard, read_secret
from ngos.postgres.migrate import migrate
from ngos.postgres.pool import Pool, open_pool
from ngos.protocol.catalog import OWN_DURABLE_TOPICS
from ngos.protocol.close import CloseCode
from ngos.pulse import Pulse
from ngos.readiness import Readiness
from ngos.services.experience import Experiences
from ngos.services.graph import Graph
from ngos.services.paths import Paths
from ngos.services.tokens import Tokens
from ngos.services.topics import Topics, now_ms
from ngos.tracing import open_traces
from ngos.web.gate import Gate
from ngos.web.metrics import Collector
from ngos.web.siblings import Siblings
from ngos.web.site import Parts, make_site
from ngos.web.status import Status

if TYPE_CHECKING:
    from ngos.auth.verifier import Verifier

EMBEDDED_START_S: Final = 60.0
MIGRATE_LOCK_S: Final = 60.0
READY_S: Final = 2.0
LINE_S: Final = 1.0
"""How long the start waits for the other nodes' line, which it does without then."""
STUCK_S: Final = 5.0
"""By how much a core task may be past the deadline of the database before it counts as stuck."""

_log = structlog.get_logger("ngos")


@define(eq=False)
class App:
    """A running server but for its listener. `pulses` are those of the core tasks."""

    settings: Settings
    site: QuartTrio
    connections: Connections
    pool: Pool
    nodes: Nodes
    readiness: Readiness
    pulses: tuple[Pulse, ...]
    _verifier: Verifier | None
    _parts: Parts
    _access: Access
    _topics: Topics
    _hub: Hub
    _retention: Retention

    def apply(self, settings: Settings) -> None:
        """Go on with other settings, all of them or, raising SetupError, none. What can't change live must be the same.

        Who follows a topic that is durable now, or is no more, is sent off to come back, for he was told otherwise.
        """
        if self._verifier is not None:
            self._verifier.renew(terms_of(settings))
        self.settings = self._parts.settings = settings
        self.site.config["MAX_CONTENT_LENGTH"] = settings.message_bytes
        self._access.apply(settings)
        self.connections.door.apply(settings)
        self.connections.apply(settings)
        self._retention.keep(settings.retention_age_s, settings.retention_events, settings.retention_replies_s)
        followed = {topic: self._topics.is_durable(topic) for topic in self._hub.counts()}
        self._topics.keep_as(settings.durable_topics, settings.durable_topic_names)
        changed = {topic for topic, was in followed.items() if self._topics.is_durable(topic) != was}
        self.connections.end_followers(changed)


@asynccontextmanager
async def open_app(settings: Settings, place: Place | None = None) -> AsyncIterator[App]:
    """Start everything that serves; leaving stops it. It yields before the database is there: see `App.readiness`.

    `place`: which of several workers this is; None: it is the only one.

    Raises SetupError before it yields: keys that can't be read, an embedded Postgres that does not start. Later it ends
    the block with an exception group: with SetupError, where the database will not have us; with LogWentBack, where the
    log is no more what clients were told; with Defect, where one of the tasks that the server can't be without has
    failed: it never limps.
    """
    verifier = _verifier_of(settings)
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            conninfo = await stack.enter_async_context(embedded_postgres(settings.data_dir, start_s=EMBEDDED_START_S))
        else:
            conninfo = str.__str__(settings.database_url)
        guard = Guard()
        pool = await stack.enter_async_context(
            open_pool(
                conninfo,
                max_size=settings.database_pool_size,
                connect_s=settings.database_connect_s,
                query_s=settings.database_query_s,
                configure=guard.check,
            )
        )

        async def read_extent(topic: str) -> Extent:
            async with pool.connection() as conn:
                return await store.read_extent(conn, topic, topics.most_durable)

        async def prepare() -> None:
            await claim.take()  # first: who is not let in by others changes nothing under them
            made = await migrate(conninfo, connect_s=settings.database_connect_s, lock_s=MIGRATE_LOCK_S)
            if made.applied:
                _log.info("schema.migrated", version=made.to_version, applied=list(made.applied))
            kept = made.kept
            assert kept is not None
            if kept.renewed is not None:
                _log.warning("log.epochs_renewed", reason=kept.renewed, topics=kept.topics)
            if unknown := kept.identity.unknown():
                hint = "a restore may go unseen: see docs/operating.md"
                _log.warning("database.identity_unknown", parts=unknown, hint=hint)
            guard.expect(kept.identity)
            relay.epochs_at = kept.epochs_at
            await claim.check()
            async with pool.connection() as conn:
                secret = await read_secret(conn)
            cluster.append(Cluster.of(secret, *attrs.astuple(kept.identity)))
            identified.set()
            # Who is let in before we hear the others, and they us, would miss what is said only once.
            with trio.move_on_after(LINE_S):
                await line.tried.wait()

        async def ask() -> list[str]:
            if verifier is not None and (reason := verifier.unready()):
                return [reason]
            try:
                async with pool.connection(query_s=READY_S) as conn:
                    extents = await store.read_extents(conn, sorted(OWN_DURABLE_TOPICS))
            except StorageUnavailable:
                return ["the database does not answer"]
            for topic, extent in extents.items():  # what was committed meanwhile is known already
                relay.heads[topic] = max(relay.heads.get(topic, 0), extent.seq)
            return []

        cluster: list[Cluster] = []
        identified = trio.Event()
        claim = Claim(conninfo, settings.backplane, settings.database_connect_s, settings.database_query_s, guard.check)
        stack.callback(claim.give_up)
        line = Line(carrier_of(settings, conninfo, guard.check))
        hub = Hub(read_extent, deliver)
        history = History(pool, hub.encode)
        traces = await stack.enter_async_context(open_traces(settings.traces_url, settings.traces_share))
        tally = Tally(traces)
        lag = LoopLag()
        stuck_s = settings.database_query_s + STUCK_S
        relay = Relay(hub, pool, Pulse("relay", stuck_s), line)
        roster = Roster()
        nodes = Nodes(line, roster, hub)
        committer = Committer(pool, relay, Pulse("committer", stuck_s), traces, line.is_alone)
        topics = Topics(nodes.publish, settings.durable_topics, settings.durable_topic_names)
        refusals = Refusals()
        access = Access(verifier, settings, refusals, time.time)
        session = Session(access, refusals, hub, history, read_extent, topics)
        cache = Cache.of(settings, pool)
        cached = (service(pool, cache.answer) for service in (Tokens, Graph, Paths))
        registry = Registry.of(*cached, Experiences(pool), topics, session)
        retention = Retention(
            pool, hub, settings.retention_age_s, settings.retention_events, settings.retention_replies_s
        )
        door = Door(settings, refusals)
        connections = Connections(access, door, refusals, tally, registry, committer, hub, settings, now_ms)
        bulletin = Bulletin(connections, committer, hub, roster)
        nodes.introduce(relay, connections, bulletin)
        readiness = Readiness(prepare, ask, bulletin.tell_ready)

        def reasons() -> list[str]:
            return ["draining"] if connections.draining else readiness.reasons

        async def unready() -> list[str]:
            await readiness.look()
            return reasons()

        def closed() -> str | None:
            if connections.draining:
                return "restarting"
            return None if readiness.prepared.is_set() else readiness.reasons[0]

        async def retain() -> None:
            await readiness.ready.wait()
            await retention.run()

        async def hold_claim() -> None:
            await readiness.prepared.wait()
            await claim.run()

        async def keep_line() -> None:
            await identified.wait()
            await line.run(cluster[-1])

        async def keep_cache() -> None:
            await readiness.prepared.wait()
            await cache.run(cluster[-1])

        def degraded() -> list[str]:
            return [] if line.lost is None else ["the backplane does not work: the log is asked each second"]

        collector = Collector(connections, bulletin, committer, relay, hub, nodes, session, retention, pool, lag, cache)
        siblings = None if place is None else Siblings(place, collector.text)

        async def metrics() -> bytes:
            return collector.text() if siblings is None else await siblings.text()

        parts = Parts(
            settings=settings,
            gate=Gate(access, door),
            connections=connections,
            hub=hub,
            nodes=nodes,
            once=Once(registry, committer, tally),
            metrics=metrics,
            status=Status(connections, bulletin, committer, relay, hub, nodes, pool, lag, reasons),
            unready=unready,
            closed=closed,
            degraded=degraded,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(_core("hub", hub.run, connections))
            await nursery.start(_core("relay", relay.run, connections))
            await nursery.start(_core("committer", committer.run, connections))
            if verifier is not None and settings.auth_jwks_url is not None:
                await nursery.start(_core("verifier", verifier.run, connections))
            nursery.start_soon(_core("readiness", readiness.run, connections))  # noqa: ASYNC113 - it tells
            nursery.start_soon(_core("retention", retain, connections))
            await nursery.start(_core("guard", guard.run, connections))
            nursery.start_soon(_core("claim", hold_claim, connections))
            nursery.start_soon(_core("backplane", keep_line, connections))
            nursery.start_soon(_core("cache", keep_cache, connections))
            nursery.start_soon(_core("status", bulletin.tell_status, connections))
            await nursery.start(_core("lag", lag.run, connections))
            if siblings is not None:
                await nursery.start(_core("siblings", siblings.run, connections))
            yield App(
                settings=settings,
                site=make_site(parts),
                connections=connections,
                pool=pool,
                nodes=nodes,
                readiness=readiness,
                pulses=(committer.pulse, relay.pulse),
                verifier=verifier,
                parts=parts,
                access=access,
                topics=topics,
                hub=hub,
                retention=retention,
            )
            await nodes.leave()
            nursery.cancel_scope.cancel()


def _verifier_of(settings: Settings) -> Verifier | None:
    """What verifies tokens, if any are asked for: else what that takes is not loaded, which is some 10 MiB."""
    if settings.auth_mode == "none":
        return None
    from ngos.auth.verifier import Verifier

    return Verifier.open(terms_of(settings), time.time)


def _core(name: str, run: Callable[..., Awaitable[None]], connections: Connections) -> Callable[..., Awaitable[None]]:
    """A task that the server can't be without: its failure is a line in the log, 1011 for all clients, and Defect."""

    async def task(**options: object) -> None:
        try:
            await run(**options)
            raise RuntimeError("it has ended")
        except SetupError:
            raise
        except LogWentBack:
            connections.end_all(CloseCode.RESTARTING)
            raise
        except Exception as exc:
            incident_id = report("server.defect", exc, task=name)
            connections.end_all(CloseCode.INTERNAL)
            raise Defect(f"a defect in the {name} ended the server: incident {incident_id} is in its log") from exc

    return task
