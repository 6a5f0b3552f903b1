"""scripts/bench of ngos alone: what it writes makes sense. How fast anything is, is not tested."""

from __future__ import annotations

from tests.scripts.benches import all_written, contestants, written


def test_replay_gets_every_event(bench):
    """Tries to have a replay count other events than those of the log, or a slow reader cut or given all at once."""
    document = written(
        bench("replay", "--events", "3000", "--repeats", "1", "--seconds", "0.5", "--slow-kb-per-s", "100")
    )
    fast, slow = (run["numbers"] for run in document["runs"])
    assert 3000 == fast["counted"]
    assert 0 < slow["counted"] * slow["event_bytes"] < 100_000
    for numbers in (fast, slow):
        assert 200 < numbers["event_bytes"] < 600
        for phase in ("before", "during"):
            assert 0 < numbers[f"{phase}_p50_ms"] <= numbers[f"{phase}_p99_ms"]
        assert all(5 < numbers[name] < 2000 for name in ("before_rss_mb", "during_rss_mb", "left_mb"))


def test_resume_brings_everybody_back(bench):
    """Tries to have a client not come back, or miss what was written while it was away."""
    document = written(
        bench(
            *("resume", "--clients", "20", "--rate", "100", "--away", "1.5", "--seconds", "0.8"),
            *("--jitter", "0,0.2"),
        )
    )
    assert ["at once", "in 0.2 s"] == [run["cell"] for run in document["runs"]]
    for run in document["runs"]:
        numbers = run["numbers"]
        assert 20 == numbers["resumed"]
        assert 40 < numbers["missed_mean"] < numbers["written"]
        for which in ("first", "median", "last"):
            subscribed, replayed, level = (numbers[f"{what}_{which}_s"] for what in ("subscribed", "replayed", "level"))
            assert 0 < subscribed <= replayed <= level < 10
        assert 0 < numbers["back_p50_ms"] <= numbers["back_p99_ms"]


def test_log_compares_a_long_log_with_an_empty_one(bench):
    """Tries to have the logs hold something else than they should, in both of its tables."""
    append, replay = all_written(
        bench(
            *("log", "--events", "2000", "--replayed", "500", "--repeats", "1", "--seconds", "0.8"),
            *("--cells", "2x2"),
        )
    )
    assert {"ngos, 2,000", "ngos, 0"} == contestants(append)
    assert {"ngos, 2,000", "ngos, 500"} == contestants(replay)
    assert append["ratios"]["2x2"]["ngos, 0"] > 0
    for run in replay["runs"]:
        assert 500 == run["numbers"]["counted"]
