"""What `/metrics` shows: the counts that the parts keep anyway, read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

import trio
from attrs import define
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from ngos.gateway.connections import Connections
from ngos.gateway.session import Session
from ngos.log.committer import Committer
from ngos.log.hub import Hub
from ngos.log.retention import Retention
from ngos.postgres.pool import Pool


@define(eq=False)
class Collector:
    """A prometheus-client collector over the running parts."""

    _connections: Connections
    _committer: Committer
    _hub: Hub
    _session: Session
    _retention: Retention
    _pool: Pool

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("ngos_connections", "Open connections.", len(self._connections.open))
        yield CounterMetricFamily("ngos_connections_accepted", "Connections accepted.", self._connections.accepted)
        closes = CounterMetricFamily("ngos_connections_closed", "Connections closed, by code.", labels=["code"])
        for code, count in sorted(self._connections.closes.items()):
            closes.add_metric([str(int(code))], count)
        yield closes
        refused = CounterMetricFamily("ngos_refused", "What met a limit, by its setting.", labels=["limit"])
        for limit, count in self._connections.refusals.counts.items():
            refused.add_metric([limit], count)
        yield refused
        if (verifier := self._connections.access.verifier) is not None:
            tokens = CounterMetricFamily("ngos_tokens_refused", "Tokens that were not valid.", labels=["reason"])
            for reason, count in verifier.refusals.items():
                tokens.add_metric([reason], count)
            yield tokens
        yield GaugeMetricFamily("ngos_sockets", "TCP connections.", self._connections.door.open)
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield GaugeMetricFamily("ngos_trio_tasks", "Tasks of the event loop.", tasks)
        waiting = self._connections.backlog.bytes
        yield GaugeMetricFamily("ngos_mailbox_bytes", "Bytes that wait for clients.", waiting)
        yield GaugeMetricFamily("ngos_subscriptions", "Subscriptions.", sum(self._hub.counts().values()))
        yield CounterMetricFamily("ngos_events_published", "Events that subscribers were there for.", self._hub.events)
        yield CounterMetricFamily("ngos_events_delivered", "Events put into mailboxes.", self._hub.deliveries)
        stats = self._committer.stats
        yield CounterMetricFamily("ngos_commits", "Transactions of the committer.", stats.batches)
        yield CounterMetricFamily("ngos_commit_seconds", "Time in them.", stats.commit_s)
        yield CounterMetricFamily("ngos_commit_failures", "Transactions that the database failed.", stats.failures)
        yield CounterMetricFamily("ngos_writes_committed", "Commands committed or refused.", stats.writes)
        yield CounterMetricFamily("ngos_events_logged", "Events appended to the log.", stats.events)
        yield CounterMetricFamily("ngos_commands_replayed", "Commands sent again, with a reply.", stats.replayed)
        resumes = CounterMetricFamily("ngos_resumes", "Subscriptions with `since`.", labels=["outcome"])
        resumes.add_metric(["recovered"], self._session.recovered)
        resumes.add_metric(["not_recovered"], self._session.not_recovered)
        yield resumes
        yield CounterMetricFamily("ngos_events_pruned", "Events deleted.", self._retention.events_pruned)
        yield CounterMetricFamily("ngos_replies_forgotten", "Replies deleted.", self._retention.replies_forgotten)
        pool = self._pool.stats()
        yield GaugeMetricFamily("ngos_pool_connections", "Connections to Postgres.", pool.size)
        yield GaugeMetricFamily("ngos_pool_waiting", "Tasks that wait for one.", pool.waiting)

    def text(self) -> bytes:
        """The Prometheus text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)
