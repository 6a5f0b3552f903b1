"""The composition root: the one place where the parts are put together. Floor 8.

The order of the blocks is the order of shutdown: Postgres holds the log, the log holds the hub, the hub holds the
connections; the innermost leaves first.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog
import trio
from attrs import frozen
from quart_trio import QuartTrio

from ngos.auth.verifier import AuthTerms, Verifier
from ngos.config import Settings
from ngos.errors import SetupError, StorageUnavailable
from ngos.gateway.access import Access
from ngos.gateway.connections import Connections
from ngos.gateway.door import Door
from ngos.gateway.fanout import deliver
from ngos.gateway.limits import Refusals
from ngos.gateway.once import Once
from ngos.gateway.registry import Registry
from ngos.gateway.session import Session
from ngos.log import store
from ngos.log.committer import Committer
from ngos.log.history import History
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.retention import Retention
from ngos.log.store import Extent
from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.identity import Guard
from ngos.postgres.migrate import migrate
from ngos.postgres.pool import Pool, open_pool
from ngos.services.experience import Experiences
from ngos.services.graph import Graph
from ngos.services.paths import Paths
from ngos.services.tokens import Tokens
from ngos.services.topics import Topics, now_ms
from ngos.web.gate import Gate
from ngos.web.metrics import Collector
from ngos.web.site import Parts, make_site

EMBEDDED_START_S: Final = 60.0
MIGRATE_LOCK_S: Final = 60.0
READY_S: Final = 2.0

_log = structlog.get_logger("ngos")


@frozen(eq=False)
class App:
    """A running server but for its listener."""

    settings: Settings
    site: QuartTrio
    connections: Connections
    pool: Pool


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[App]:
    """Start everything that serves; leaving stops it.

    Raises SetupError or StorageError before it yields: the database can't be had. A defect in one of the core tasks
    (committer, relay, hub) ends the block with an exception group: it never limps. So does a log that went back under
    it (LogWentBack).
    """
    verifier = None if settings.auth_mode == "none" else Verifier.open(_auth_terms(settings), time.time)
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            conninfo = await stack.enter_async_context(embedded_postgres(settings.data_dir, start_s=EMBEDDED_START_S))
        else:
            conninfo = str.__str__(settings.database_url)
        guard = await _migrate(conninfo, settings)
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
                return await store.read_extent(conn, topic, settings.durable_topic_names)

        hub = Hub(read_extent, deliver)
        history = History(pool, hub.encode)
        relay = Relay(hub, pool)
        committer = Committer(pool, relay)
        topics = Topics(hub, settings.durable_topics, settings.durable_topic_names)
        refusals = Refusals()
        access = Access(verifier, settings, refusals, time.time)
        session = Session(access, refusals, hub, history, read_extent, topics, settings)
        registry = Registry.of(Tokens(pool), Graph(pool), Paths(pool), Experiences(pool), topics, session)
        retention = Retention(
            pool, hub, settings.retention_age_s, settings.retention_events, settings.retention_replies_s
        )
        door = Door(settings, refusals)
        connections = Connections(access, door, refusals, registry, committer, hub, settings, now_ms)

        async def unready() -> list[str]:
            if connections.draining:
                return ["draining"]
            if verifier is not None and (reason := verifier.unready()):
                return [reason]
            try:
                async with pool.connection(query_s=READY_S) as conn:
                    await store.read_extent(conn, "tokens", settings.durable_topic_names)
            except StorageUnavailable:
                return ["the database does not answer"]
            return []

        parts = Parts(
            settings=settings,
            gate=Gate(settings, access, door),
            connections=connections,
            hub=hub,
            once=Once(registry, committer),
            collector=Collector(connections, committer, hub, session, retention, pool),
            unready=unready,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            await nursery.start(relay.run)
            await nursery.start(committer.run)
            await nursery.start(retention.run)
            if verifier is not None:
                await nursery.start(verifier.run)
            nursery.start_soon(connections.tell_status)
            await nursery.start(guard.run)
            yield App(settings, make_site(parts), connections, pool)
            nursery.cancel_scope.cancel()


def _auth_terms(settings: Settings) -> AuthTerms:
    return AuthTerms(
        secret_file=settings.auth_secret_file,
        keys_file=settings.auth_keys_file,
        jwks_url=settings.auth_jwks_url,
        algorithms=settings.auth_algorithms,
        issuer=settings.auth_issuer,
        audience=settings.auth_audience,
        leeway_s=settings.auth_leeway_s,
        claim=settings.auth_claim,
        jwks_age_s=settings.auth_jwks_age_s,
        jwks_timeout_s=settings.auth_jwks_timeout_s,
    )


async def _migrate(conninfo: str, settings: Settings) -> Guard:
    try:
        report = await migrate(conninfo, connect_s=settings.database_connect_s, lock_s=MIGRATE_LOCK_S)
    except StorageUnavailable as exc:
        raise SetupError(f"can't use the database: {exc}") from exc
    if report.applied:
        _log.info("schema.migrated", version=report.to_version, applied=list(report.applied))
    kept = report.kept
    assert kept is not None
    if kept.renewed is not None:
        _log.warning("log.epochs_renewed", reason=kept.renewed, topics=kept.topics)
    if unknown := kept.identity.unknown():
        _log.warning("database.identity_unknown", parts=unknown, hint="a restore may go unseen: see docs/operating.md")
    return Guard(kept.identity)
