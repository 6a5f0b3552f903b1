"""What `/metrics` shows: the counts that the parts keep anyway, read when somebody asks.

docs/metrics.md lists them all. No label has a value that a client can make up.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Any

import trio
from attrs import define, field
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from ngos import __version__
from ngos.cache.answers import Cache
from ngos.distribution import Distribution
from ngos.gateway.bulletin import Bulletin
from ngos.gateway.connections import Connections
from ngos.gateway.nodes import KINDS, Nodes
from ngos.gateway.session import Session
from ngos.lag import LoopLag
from ngos.log import wakeup
from ngos.log.committer import Committer
from ngos.log.hub import Hub
from ngos.log.relay import Relay
from ngos.log.retention import Retention
from ngos.logs import LIMITER
from ngos.postgres.pool import Pool
from ngos.protocol.catalog import SYSTEM_TOPIC


@define(eq=False)
class Collector:
    """A prometheus-client collector over the running parts."""

    _connections: Connections
    _bulletin: Bulletin
    _committer: Committer
    _relay: Relay
    _hub: Hub
    _nodes: Nodes
    _session: Session
    _retention: Retention
    _pool: Pool
    _lag: LoopLag
    _cache: Cache
    _registry: CollectorRegistry = field(init=False, factory=CollectorRegistry)

    def __attrs_post_init__(self) -> None:
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._of_the_server()
        yield from self._of_connections()
        yield from self._of_commands()
        yield from self._of_the_log()
        yield from self._of_delivery()
        yield from self._of_the_nodes()
        yield from self._of_the_cache()

    def _of_the_server(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("ngos_build_info", "What runs here.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield GaugeMetricFamily("ngos_uptime_seconds", "Since the start.", self._bulletin.uptime_s())
        yield GaugeMetricFamily("ngos_ready", "Whether commands can be expected to succeed.", self._bulletin.ready)
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield GaugeMetricFamily("ngos_trio_tasks", "Tasks of the event loop.", tasks)
        suppressed = LIMITER.suppressed
        yield _counter("ngos_log_lines_suppressed", "Lines, or tracebacks, left out of the log.", "event", suppressed)
        yield _histogram("ngos_loop_lag_seconds", "How late the event loop comes to what is due.", self._lag.seconds)

    def _of_connections(self) -> Iterator[Metric]:
        connections, door = self._connections, self._connections.door
        yield GaugeMetricFamily("ngos_connections", "Open connections.", len(connections.open))
        yield GaugeMetricFamily("ngos_sockets", "TCP connections.", door.open)
        yield CounterMetricFamily("ngos_connections_accepted", "Connections accepted.", connections.accepted)
        closes = {str(int(code)): count for code, count in connections.closes.items()}
        yield _counter("ngos_connections_closed", "Connections closed, by code.", "code", closes)
        slow = connections.backlog.slow
        yield CounterMetricFamily("ngos_slow_consumers", "Connections closed because they read too slowly.", slow)
        rejected = {str(status): count for status, count in door.rejections.items()}
        yield _counter("ngos_handshakes_rejected", "Connections refused before the upgrade.", "status", rejected)
        refused = connections.refusals.counts
        yield _counter("ngos_refused", "What met a limit, by its setting.", "limit", refused)
        if (verifier := connections.access.verifier) is not None:
            yield _counter("ngos_tokens_refused", "Tokens that were not valid.", "reason", verifier.refusals)
        waiting = connections.backlog.bytes
        yield GaugeMetricFamily("ngos_mailbox_bytes", "Bytes that wait for clients.", waiting)

    def _of_commands(self) -> Iterator[Metric]:
        tally = self._connections.tally
        commands = CounterMetricFamily("ngos_commands", "Commands answered.", labels=["type", "outcome"])
        for (type_, outcome), count in sorted(tally.counts.items()):
            commands.add_metric([type_, outcome], count)
        yield commands
        seconds = HistogramMetricFamily("ngos_command_seconds", "From read to answered.", labels=["type"])
        for type_, distribution in tally.seconds.items():
            seconds.add_metric([type_], distribution.cumulated(), distribution.total)
        yield seconds
        replayed = self._committer.stats.replayed
        yield CounterMetricFamily("ngos_commands_replayed", "Commands sent again, with a reply.", replayed)
        outcomes = {"recovered": self._session.recovered, "not_recovered": self._session.not_recovered}
        yield _counter("ngos_resumes", "Subscriptions with `since`.", "outcome", outcomes)

    def _of_the_log(self) -> Iterator[Metric]:
        stats = self._committer.stats
        yield CounterMetricFamily("ngos_commits", "Transactions of the committer.", stats.batches)
        yield _histogram("ngos_commit_seconds", "A transaction of the committer.", stats.commit_s)
        yield _histogram("ngos_commit_writes", "Commands in one.", stats.batch_writes)
        yield CounterMetricFamily("ngos_commit_failures", "Transactions that the database failed.", stats.failures)
        waiting = self._committer.waiting_bytes
        yield GaugeMetricFamily("ngos_committer_waiting_bytes", "Commands that wait to be committed.", waiting)
        yield CounterMetricFamily("ngos_writes_committed", "Commands committed or refused.", stats.writes)
        yield CounterMetricFamily("ngos_events_logged", "Events appended to the log.", stats.events)
        head = GaugeMetricFamily("ngos_log_head", "Number of the last event.", labels=["topic"])
        for topic, seq in sorted(self._relay.heads.items()):
            head.add_metric([topic], seq)
        yield head
        yield CounterMetricFamily("ngos_events_pruned", "Events deleted.", self._retention.events_pruned)
        yield CounterMetricFamily("ngos_replies_forgotten", "Replies deleted.", self._retention.replies_forgotten)
        pool = self._pool.stats()
        states = {"used": pool.size - pool.idle, "idle": pool.idle}
        yield _gauge("ngos_pool_connections", "Connections to Postgres.", "state", states)
        yield GaugeMetricFamily("ngos_pool_size_max", "As many as there may be.", self._pool.max_size)
        yield GaugeMetricFamily("ngos_pool_waiting", "Tasks that wait for one.", pool.waiting)
        yield _histogram("ngos_pool_wait_seconds", "Until a connection was there.", self._pool.wait_s)

    def _of_delivery(self) -> Iterator[Metric]:
        hub = self._hub
        events = self._committer.stats.events_of + hub.ephemeral_of
        yield _counter("ngos_events", "Events published, by topic.", "topic", {SYSTEM_TOPIC: 0, **events})
        yield GaugeMetricFamily("ngos_subscriptions", "Subscriptions.", sum(hub.counts().values()))
        yield GaugeMetricFamily("ngos_topics", "Topics with subscribers.", len(hub.counts()))
        yield CounterMetricFamily("ngos_events_published", "Events that subscribers were there for.", hub.events)
        yield CounterMetricFamily("ngos_events_delivered", "Events put into mailboxes.", hub.deliveries)
        yield _histogram("ngos_delivery_seconds", "From the commit to the sockets of all subscribers.", hub.lag_s)

    def _of_the_nodes(self) -> Iterator[Metric]:
        line, relay = self._nodes.line, self._relay
        present = len(self._nodes.roster.present()) + 1
        yield GaugeMetricFamily("ngos_nodes", "Nodes that are known to be there, this one included.", present)
        yield GaugeMetricFamily("ngos_backplane_works", "Whether this node hears the others.", line.lost is None)
        yield CounterMetricFamily("ngos_backplane_breaks", "How often that ended.", line.breaks)
        none = dict.fromkeys((wakeup.KIND, *KINDS), 0)
        sent, heard, dropped = none | line.outbox.sent, none | line.heard, none | line.outbox.dropped
        yield _counter("ngos_backplane_sent", "Messages to the other nodes.", "kind", sent)
        yield _counter("ngos_backplane_heard", "Messages of the other nodes.", "kind", heard)
        yield _counter("ngos_backplane_dropped", "Messages that could not be sent.", "kind", dropped)
        yield CounterMetricFamily("ngos_backplane_forged", "Messages that none of the nodes has sent.", line.forged)
        yield CounterMetricFamily("ngos_relay_holes", "Times that events before one were not heard of.", relay.holes)
        yield CounterMetricFamily("ngos_relay_found", "Events found only by asking the log.", relay.compared)
        dropped_events = self._hub.ephemeral_dropped
        yield CounterMetricFamily("ngos_ephemeral_dropped", "Ephemeral events of others, without room.", dropped_events)

    def _of_the_cache(self) -> Iterator[Metric]:
        cache, shared = self._cache, self._cache.shared
        yield _counter("ngos_cache_answers", "Reads answered, by where that came from.", "source", cache.answers)
        past = cache.invalidated
        yield CounterMetricFamily("ngos_cache_invalidated", "Kept answers that did not hold any more.", past)
        yield CounterMetricFamily("ngos_cache_questions", "Times that the log was asked.", cache.heads.asked)
        yield GaugeMetricFamily("ngos_cache_bytes", "Kept answers in this process.", cache.memory.size_bytes)
        failures, forged, dropped = (shared.failures, shared.forged, shared.dropped) if shared else (0, 0, 0)
        yield CounterMetricFamily("ngos_cache_redis_failures", "What Redis did not do.", failures)
        yield CounterMetricFamily("ngos_cache_forged", "What in Redis none of the nodes wrote.", forged)
        yield CounterMetricFamily("ngos_cache_dropped", "Answers that were not written to Redis.", dropped)


def _counter(name: str, what: str, label: str, counts: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, what, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _gauge(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for value, amount in sorted(values.items()):
        family.add_metric([value], amount)
    return family


def _histogram(name: str, what: str, distribution: Distribution) -> Metric:
    return HistogramMetricFamily(name, what, buckets=distribution.cumulated(), sum_value=distribution.total)
