"""What `/metrics` shows of a server that has met everything: all, plausible, and nothing that a client made up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from attrs import define
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ngos.auth.refusals import Refusal
from ngos.cache.answers import SOURCES
from ngos.distribution import Distribution
from ngos.gateway.limits import Limit
from ngos.gateway.nodes import KINDS
from ngos.lag import SLEEP_S, LoopLag
from ngos.log import wakeup
from ngos.logs import INCIDENTS, LINES, OTHER
from ngos.protocol.catalog import COMMANDS, OWN_DURABLE_TOPICS, OWN_TOPICS
from ngos.protocol.close import CloseCode
from ngos.protocol.faults import ErrorCode
from tests.databases import TestServer
from tests.everything import ODD, server_that_met_everything

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| (.+) \|$", re.MULTILINE)
ALLOWED = {
    "code": {str(int(code)) for code in CloseCode},
    "status": {"400", "401", "403", "404", "426", "429", "431", "500", "503"},
    "limit": set(Limit),
    "reason": set(Refusal),
    "type": {*COMMANDS, "unknown"},
    "topic": {*OWN_TOPICS, "custom"},
    "state": {"used", "idle"},
    "kind": {wakeup.KIND, *KINDS},
    "source": set(SOURCES),
    "event": {*LINES, *INCIDENTS, OTHER},
}
"""What a label may say; `outcome` means two things, and the builds are told by their own."""
ZERO = {
    *("ngos_commit_failures_total", "ngos_committer_waiting_bytes", "ngos_events_pruned_total", "ngos_mailbox_bytes"),
    *("ngos_replies_forgotten_total", "ngos_pool_waiting", "ngos_connections", "ngos_subscriptions", "ngos_topics"),
    # There is no other node: tests/test_nodes.py has some.
    *("ngos_backplane_breaks_total", "ngos_backplane_sent_total", "ngos_backplane_heard_total"),
    *("ngos_backplane_dropped_total", "ngos_backplane_forged_total", "ngos_ephemeral_dropped_total"),
    *("ngos_relay_holes_total", "ngos_relay_found_total"),
    # There is no Redis: tests/cache has some.
    *("ngos_cache_redis_failures_total", "ngos_cache_forged_total", "ngos_cache_dropped_total"),
}
"""What a healthy server whose clients have all left shows as 0."""
TIMED = {"ngos_cache_invalidated_total", "ngos_cache_questions_total", "ngos_cache_bytes"}
"""What depends on how long a read took."""


@define
class Shown:
    text: str
    families: dict[str, Metric]

    def samples(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """A sample's values by its labels."""
        return {
            frozenset(sample.labels.items()): sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name
        }

    def value(self, name: str, **labels: str) -> float:
        return self.samples(name)[frozenset(labels.items())]


@pytest.fixture(scope="module")
def shown(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """What a server shows that has met everything."""
    url = postgres_server.create_database()

    async def meet() -> str:
        async with server_that_met_everything(url, tmp_path_factory.mktemp("secret")) as met:
            return met.after

    text = trio.run(meet)
    yield Shown(text, {name_of(family): family for family in text_string_to_metric_families(text)})
    postgres_server.drop_database(url)


def name_of(family: Metric) -> str:
    """As it is written in queries."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels by name."""
    rows = ROW.findall(DOCUMENT.read_text())
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}


def test_the_document_has_what_is_shown(shown: Shown) -> None:
    """Tries to find a metric that docs/metrics.md has not, has with another type or labels, or has for nothing."""
    found = {}
    for name, family in shown.families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    assert documented() == found
    assert len(ROW.findall(DOCUMENT.read_text())) == len(documented())


def test_every_value_is_plausible(shown: Shown) -> None:
    """Tries to find a metric that does not tell of what happened."""
    for name, family in shown.families.items():
        if name == "ngos_log_lines_suppressed_total":
            continue  # of the process, where other tests log too: tests/test_logs.py has a process of its own
        if name in TIMED:
            continue
        total = sum(sample.value for sample in family.samples)
        assert (total == 0) == (name in ZERO), f"{name} {total}"
    for code, count in (("1013", 1), ("1000", 2)):
        assert count == shown.value("ngos_connections_closed_total", code=code)
    for status in ("400", "401", "404", "426"):
        assert 1 == shown.value("ngos_handshakes_rejected_total", status=status)
    assert {1.0} == set(shown.samples("ngos_resumes_total").values())
    assert 1 == shown.value("ngos_slow_consumers_total")
    assert 1 == shown.value("ngos_commands_replayed_total")
    assert 2 == shown.value("ngos_log_head", topic="graph") == shown.value("ngos_events_total", topic="graph")
    assert shown.value("ngos_connections_accepted_total") == sum(
        shown.samples("ngos_connections_closed_total").values()
    )
    assert shown.value("ngos_commits_total") == shown.value("ngos_commit_writes_count")
    assert shown.value("ngos_writes_committed_total") == shown.value("ngos_commit_writes_sum")
    assert shown.value("ngos_delivery_seconds_count") >= 1
    assert 0 < shown.value("ngos_delivery_seconds_sum") < 60


def test_commands_by_outcome(shown: Shown) -> None:
    """Tries to find a command, or an outcome, that is not counted as what it is."""
    counts = {
        (dict(labels)["type"], dict(labels)["outcome"]): value
        for labels, value in shown.samples("ngos_commands_total").items()
    }
    assert set(COMMANDS) == {type_ for (type_, outcome), value in counts.items() if outcome == "ok" and value}
    expected = {
        *(("unknown", code) for code in ("invalid_json", "invalid_message", "unknown_type", "rate_limited")),
        *(("ping", code) for code in ("invalid_payload", "unauthenticated")),
        ("authenticate", "unauthenticated"),
        ("token.update", "conflict"),
        ("publish", "forbidden"),
        ("subscribe", "too_many_subscriptions"),
    }
    assert expected == {key for key, value in counts.items() if value and key[1] != "ok"}
    for type_ in COMMANDS:
        # Whatever was let through is timed: of these, all but what needed a token, or could not be read.
        not_timed = sum(value for (of, code), value in counts.items() if of == type_ and code in UNTIMED.get(type_, ()))
        all_of_it = sum(value for (of, _), value in counts.items() if of == type_)
        assert all_of_it - not_timed == shown.value("ngos_command_seconds_count", type=type_), type_


UNTIMED = {"ping": ("invalid_payload", "unauthenticated")}


def test_no_label_comes_from_a_client(shown: Shown) -> None:
    """Tries to find in a label a topic, a type, an id or a path that a client has made up."""
    assert ODD not in shown.text
    for family in shown.families.values():
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label == "outcome" and "resumes" in family.name:
                    assert value in ("recovered", "not_recovered")
                elif label == "outcome":
                    assert value in {"ok", *ErrorCode}
                elif label not in ("le", "version", "python"):
                    assert value in ALLOWED[label], f"{family.name} {label}={value}"
    assert {*OWN_DURABLE_TOPICS} == {dict(labels)["topic"] for labels in shown.samples("ngos_log_head")}


def test_histograms_are_cumulated(shown: Shown) -> None:
    """Tries to find buckets that fall, that end before all, or whose bounds don't rise."""
    for name, family in shown.families.items():
        if family.type != "histogram":
            continue
        series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
        for labels, value in shown.samples(f"{name}_bucket").items():
            key = frozenset(pair for pair in labels if pair[0] != "le")
            series.setdefault(key, []).append((float(dict(labels)["le"]), value))
        for key, buckets in series.items():
            bounds, counts = zip(*buckets, strict=True)
            assert list(bounds) == sorted(set(bounds))
            assert list(counts) == sorted(counts)
            assert float("inf") == bounds[-1]
            assert counts[-1] == shown.samples(f"{name}_count")[key]


def test_a_distribution() -> None:
    """Tries to have a value counted beside its bucket: on a bound, below all, above all."""
    spread = Distribution((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 3.0):
        spread.observe(value)
    assert [("1", 2.0), ("2", 4.0), ("+Inf", 5.0)] == spread.cumulated()
    assert (5, 7.5) == (spread.count, spread.total)


async def test_the_lag_of_the_loop(mock_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    """Tries to have a task that is woken up late called in time."""
    lag = LoopLag()
    await nursery.start(lag.run)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(SLEEP_S + 0.5)
    await trio.testing.wait_all_tasks_blocked()
    assert 0.5 == pytest.approx(lag.seconds.total)
    assert 1 == lag.seconds.count
