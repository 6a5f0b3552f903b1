"""scripts/bench of several nodes and of the cache: what it writes makes sense. How fast they are, is not tested."""

from __future__ import annotations

import shutil

from tests.scripts.benches import all_written, contestants


def test_nodes_hears_on_one_what_was_written_on_another(bench):
    """Tries to have an event not come to the other node, or its way timed as none, however nodes hear of each other."""
    backplane = "redis" if shutil.which("redis-server") else "postgres"
    durable, ephemeral = all_written(
        bench(
            *("nodes", "--seconds", "0.8", "--repeats", "1", "--paces", "50/s", "--subscribers", "5"),
            *("--backplanes", f"{backplane},lost"),
        )
    )
    assert {backplane, "lost"} == contestants(durable)
    assert {backplane} == contestants(ephemeral)
    for run in durable["runs"]:
        numbers = run["numbers"]
        assert 0 < numbers["written_per_s"] * 0.8 < numbers["written"] + 1
        assert 0 < numbers["reply_p50_ms"]
        for who in ("reply", "here", "there"):
            assert numbers[f"{who}_p50_ms"] <= numbers[f"{who}_p99_ms"] <= numbers[f"{who}_max_ms"] < 10_000
        assert numbers["there_max_ms"] > 0
        assert 0 <= numbers["level_s"] < 10
        if run["contestant"] == "lost":
            assert numbers["found"] > 0
    for run in ephemeral["runs"]:
        assert 0 < run["numbers"]["counted"] < run["numbers"]["published"] * 5


def test_workers_compares_two_with_one(bench):
    """Tries to have the workers commit, or deliver, something else than what is counted."""
    documents = all_written(
        bench("workers", "--seconds", "0.8", "--repeats", "1", "--cells", "2x2", "--subscribers", "9")
    )
    assert ["workers-create", "workers-fanout"] == [document["benchmark"] for document in documents]
    for document in documents:
        assert {"2 workers", "1 worker"} == contestants(document)
        for run in document["runs"]:
            numbers = run["numbers"]
            assert 0 < numbers["counted"]
            assert 0 < numbers["server_cpu"] < 4


def test_cache_tells_where_answers_came_from(bench):
    """Tries to have reads come out of a cache that is off, or none out of one that is on."""
    (cache,) = all_written(
        bench(
            *("cache", "--tokens", "1000", "--edges", "3000", "--hub", "300", "--kinds", "hub:1000"),
            *("--writes-per-s", "5", "--seconds", "0.5", "--repeats", "1"),
        )
    )
    of = cache["medians"]["hub:1000"]
    assert of["ngos, cached"]["memory_share"] > 0
    assert 0 == of["ngos, not"]["memory_share"] + of["ngos, not"]["joined_share"]
