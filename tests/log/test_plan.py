"""The cut of a batch into groups: pure."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import example, given
from hypothesis import strategies as st

from ngos.log.plan import plan

Entry = tuple[str, int, int | None, int]
"""Kind, lane, key, and the place in the batch."""

BATCHES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.none() | st.integers(0, 2)), max_size=60
).map(lambda entries: [(kind, lane, key, index) for index, (kind, lane, key) in enumerate(entries)])


def kinds_and_writes(batch: list[Entry]) -> list[tuple[str, list[int]]]:
    return [(group.kind, group.writes) for group in plan(batch)]


@given(BATCHES)
def test_nothing_lost(batch: list[Entry]) -> None:
    """Every write is in exactly one group, of its own kind, and no group is empty."""
    groups = kinds_and_writes(batch)
    assert list(range(len(batch))) == sorted(index for _, writes in groups for index in writes)
    assert all(batch[index][0] == kind for kind, writes in groups for index in writes)
    assert all(writes for _, writes in groups)


@given(BATCHES)
def test_lanes_never_overtake(batch: list[Entry]) -> None:
    """In the order of application, each lane's writes are in the order they came."""
    by_lane = defaultdict(list)
    for _, writes in kinds_and_writes(batch):
        for index in writes:
            by_lane[batch[index][1]].append(index)
    assert all(sorted(order) == order for order in by_lane.values())


@given(BATCHES)
def test_a_key_once_in_a_group(batch: list[Entry]) -> None:
    """Within a group nothing is touched twice; and what one kind does to a key, it does in the order it came."""
    by_key = defaultdict(list)
    for kind, writes in kinds_and_writes(batch):
        keys = [batch[index][2] for index in writes if batch[index][2] is not None]
        assert len(set(keys)) == len(keys)
        for index in writes:
            if batch[index][2] is not None:
                by_key[kind, batch[index][2]].append(index)
    assert all(sorted(order) == order for order in by_key.values())


@given(st.lists(st.integers(0, 200), max_size=200))
@example(list(range(200)))
def test_one_kind_is_one_group(lanes: list[int]) -> None:
    """Writes of one kind without a common key are one statement, however many lanes they come from."""
    groups = plan(("kind", lane, None, index) for index, lane in enumerate(lanes))
    assert bool(lanes) == len(groups)
