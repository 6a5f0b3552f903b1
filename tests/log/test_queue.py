"""The committer's queue: in order for each connection, fair between them, and never more than fits."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ngos.log.plan import plan
from ngos.log.queue import BATCH_BYTES, BATCH_GROUPS, BATCH_WRITES, FairQueue
from ngos.log.write import Handler, Write


async def nothing(*_: Any) -> Any:
    raise AssertionError("nothing is applied here")


HANDLERS = {name: Handler(name, nothing, lambda command: command) for name in ("a", "b", "c")}


def write(lane: str, kind: str = "a", key: int | None = None, size_bytes: int = 1) -> Write[Any]:
    command: Any = key
    return Write(HANDLERS[kind], command, lane, "me", size_bytes, lambda _answer: None)


writes = st.builds(
    write,
    st.sampled_from("ABCDEF"),
    st.sampled_from("abc"),
    st.none() | st.integers(0, 2),
    st.sampled_from([1, 1, 1, BATCH_BYTES // 3]),
)


@given(st.lists(st.lists(writes, max_size=120), max_size=6))
def test_each_once_in_order_and_no_more_than_fits(arrivals: list[list[Write[Any]]]) -> None:
    """Tries to lose a write, to take one twice or out of its order, or to have a batch that is too much."""
    queue = FairQueue()
    taken: list[Write[Any]] = []

    def take() -> None:
        batch = queue.take()
        assert len(batch) <= BATCH_WRITES
        assert sum(write.size_bytes for write in batch[:-1]) < BATCH_BYTES
        assert len(plan((w.handler, w.lane, w.handler.key(w.command), w) for w in batch)) <= BATCH_GROUPS
        taken.extend(batch)

    for some in arrivals:
        for one in some:
            queue.put(one)
        take()
    while queue:
        take()
    assert 0 == queue.size_bytes
    sent = [one for some in arrivals for one in some]
    assert len(sent) == len(taken)
    for lane in "ABCDEF":
        assert [one for one in sent if one.lane == lane] == [one for one in taken if one.lane == lane]


def test_nobody_waits_for_a_crowd() -> None:
    """Tries to hold up one who sends a single write, by thousands that came before it from others."""
    queue = FairQueue()
    for n in range(5000):
        queue.put(write(f"crowd {n % 40}"))
    mine = write("me")
    queue.put(mine)
    assert mine in queue.take()


def test_updates_of_one_token_leave_room() -> None:
    """Tries to fill a batch with writes that can't be applied together, so that it takes longer than may be."""
    queue = FairQueue()
    for n in range(500):
        queue.put(write(f"crowd {n % 4}", "a", key=7))
    mine = write("me", "b")
    queue.put(mine)
    batch = queue.take()
    assert mine in batch
    assert BATCH_GROUPS == len(batch)
    assert f"crowd {(BATCH_GROUPS - 1) % 4}" == queue.take()[0].lane, "whose turn it was"


def test_all_at_once() -> None:
    """Tries to leave something behind where everything has to be answered at once."""
    queue = FairQueue()
    sent = [write("a"), write("b"), write("a")]
    for one in sent:
        queue.put(one)
    assert [sent[0], sent[2], sent[1]] == queue.take_all()
    assert not queue
    assert [] == queue.take()
