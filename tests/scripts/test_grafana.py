"""The dashboard: every query is answered by a server that has met everything, and each panel says what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.databases import TestServer
from tests.everything import server_that_met_everything
from tests.promql import QueryError, Scrapes, evaluate

DASHBOARD = json.loads((Path(__file__).parents[2] / "scripts" / "grafana.json").read_text())
ROWS = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}".replace(" ", "_"))
    for panel in PANELS
    for target in panel["targets"]
]


@pytest.fixture(scope="module")
def scrapes(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrapes]:
    """What a server showed before and after it has met everything."""
    url = postgres_server.create_database()

    async def meet() -> Scrapes:
        async with server_that_met_everything(url, tmp_path_factory.mktemp("secret")) as met:
            return Scrapes.of(met.before, met.after, 10.0)

    yield trio.run(meet)
    postgres_server.drop_database(url)


@pytest.mark.parametrize(("query", "legend"), QUERIES)
def test_every_query_is_answered(scrapes: Scrapes, query: str, legend: str) -> None:
    """Tries to find a query for what the server does not show, or a legend with a label that its answer has not."""
    answer = evaluate(query, scrapes)
    assert isinstance(answer, dict)
    for labels in answer:
        assert set(re.findall(r"{{(\w+)}}", legend)) <= dict(labels).keys()


@pytest.mark.parametrize(
    "query",
    [
        "sum by (instance) (ngos_conections)",
        'ngos_connections{instanze=~"$instance"}',
        "sum by (instanze) (ngos_connections)",
        "sum by (cod) (rate(ngos_connections_closed_total[$__rate_interval]))",
        'rate(ngos_commands_total{outcome="okay"}[$__rate_interval])',
        "rate(ngos_connections[$__rate_interval])",
        "sum(ngos_connections_accepted_total)",
        "rate(ngos_connections_accepted_total)",
        "rate(ngos_connections_accepted_total[$interval])",
        "histogram_quantile(0.5, sum by (instance) (rate(ngos_commit_seconds_bucket[5m])))",
        "histogram_quantile(0.5, sum by (le) (rate(ngos_commit_seconds[5m])))",
        "histogram_quantile(5, sum by (le) (rate(ngos_commit_seconds_bucket[5m])))",
        "ngos_connections / on (x) ngos_sockets",
        "sum by (instance) (ngos_connections) / sum by (job) (ngos_sockets)",
        "sum by (instance) (ngos_connections",
        "ngos_connections)",
        "avg_over_time(ngos_connections[5m])",
    ],
)
def test_a_wrong_query_is_found(scrapes: Scrapes, query: str) -> None:
    """Tries to have a misspelt metric or label, or what makes no sense, pass for a query that is answered."""
    with pytest.raises(QueryError):
        evaluate(query, scrapes)


def test_what_queries_come_to() -> None:
    """The evaluator's own sums, by hand."""
    text = "# TYPE a_total counter\n{}# TYPE h histogram\n{}# TYPE g gauge\ng 7\n"
    buckets = 'h_bucket{{le="1"}} {}\nh_bucket{{le="2"}} {}\nh_bucket{{le="+Inf"}} {}\n'
    before = text.format('a_total{x="1"} 10\n', buckets.format(0, 0, 0))
    after = text.format('a_total{x="1"} 30\na_total{x="2"} 5\n', buckets.format(2, 4, 4))
    found = Scrapes.of(before, after, 10.0)
    assert {frozenset(): 2.5} == evaluate("sum(rate(a_total[5m]))", found)
    assert {frozenset({("x", "2")}): 5.0} == evaluate('sum by (x) (increase(a_total{x!~"1"}[5m]))', found)
    assert {frozenset(): 2.0} == evaluate("max(rate(a_total[5m]))", found)
    assert {frozenset(): 1.5} == evaluate("histogram_quantile(0.75, sum by (le) (rate(h_bucket[1m])))", found)
    assert [3.5 + 1] == list(evaluate("sum(g) / 2 + (3 - 2) * 1", found).values())  # type: ignore[union-attr]


def histograms(scrapes: Scrapes) -> set[str]:
    return {name.removesuffix("_bucket") for name in scrapes.after if name.endswith("_bucket")}


def test_every_histogram_is_shown_by_its_buckets(scrapes: Scrapes) -> None:
    """Tries to find a histogram that no panel shows as such: as `_bucket`, by `le`."""
    queries = [query.values[0] for query in QUERIES]
    for name in histograms(scrapes):
        using = [query for query in queries if re.search(rf"\b{name}_bucket\b", str(query))]
        assert using, name
        assert all("histogram_quantile(" in str(query) and " le)" in str(query) for query in using)


def test_every_metric_is_shown(scrapes: Scrapes) -> None:
    """Tries to find a metric of ours that no panel shows."""
    shown = " ".join(str(query.values[0]) for query in QUERIES)
    for name in scrapes.after:
        if name.startswith("ngos_") and not name.endswith(("_bucket", "_sum", "_count", "_created")):
            assert re.search(rf"\b{name}\b", shown), name


def test_panels_say_what_they_show() -> None:
    """Tries to find a panel without title, unit or description, with a data source of its own, or on top of another."""
    assert [
        "Clients",
        "Commands",
        "Log and commits",
        "Delivery",
        "Limits",
        "Process and loop",
        "Nodes",
        "Cache",
    ] == ROWS
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert "datasource" == variables["datasource"]["type"]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["title"]
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
