"""Several feeds on one topic, at different positions and paces: the sans-I/O core."""

from __future__ import annotations

import pytest

from tests.client.sessions import (
    EPOCH,
    agree,
    established,
    event,
    feed,
    gap_of,
    opened,
    sent,
    seqs,
    starts,
    types,
)

NEW = "0000000b"


def test_a_slow_consumer_of_a_durable_topic_loses_nothing() -> None:
    """Tries to fill a consumer's memory, to lose what it had no room for, or to ask for it at every turn."""
    session = established()
    slow = feed(limit_events=4)
    opened(session, slow)
    for seq in range(1, 8):
        event(session, seq)
    assert ["unsubscribe"] == types(sent(session))  # nobody follows: what comes would come in vain
    assert [1] == [found.seq for found in [slow.take()] if found is not None]
    assert [] == sent(session)
    slow.take()
    (command,) = sent(session)
    assert [("tokens", 4, EPOCH)] == starts([command])
    slow.take()
    event(session, 8)  # the old subscription's tail
    agree(session, command, seq=8, recovered=True, replay=4)
    for seq in range(5, 9):
        event(session, seq)
    assert [4, 5, 6, 7] == seqs(slow)
    (unsubscribe, command) = sent(session)
    assert ("unsubscribe", "subscribe") == (unsubscribe["type"], command["type"])
    assert [("tokens", 7, EPOCH)] == starts([command])
    agree(session, command, seq=8, recovered=True, replay=1)
    event(session, 8)
    assert [8] == seqs(slow)
    assert [] == sent(session)


def test_a_slow_consumer_does_not_hold_up_a_quick_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to make a quick consumer sit through, or see, all that a slow one of the same topic has missed."""
    monkeypatch.setattr("ngos.client.topic.REPEATS", 3)
    session = established()
    slow, quick = feed(limit_events=2), feed()
    opened(session, slow, quick)
    for seq in range(1, 11):
        event(session, seq)
    assert [] == sent(session)
    assert [1, 2] == seqs(slow)
    (command,) = sent(session)
    assert [("tokens", 2, EPOCH)] == starts([command])
    event(session, 11)
    agree(session, command, seq=11, recovered=True, replay=9)
    for seq in (3, 4, 5):
        event(session, seq)
    (command,) = sent(session)  # the slow one is full again, and 6 to 11 are known to the quick one
    assert [("tokens", 11, EPOCH)] == starts([command])
    event(session, 6)
    agree(session, command, seq=11, recovered=True)
    event(session, 12)
    assert list(range(1, 13)) == seqs(quick)
    assert [3, 4] == seqs(slow)
    assert [("tokens", 4, EPOCH)] == starts(sent(session))


def test_a_second_feed_with_a_position() -> None:
    """Tries to have a second feed's `since` lose or repeat events of the first, and a bad one end it."""
    session = established()
    first, second = feed(), feed("tokens", 3)
    opened(session, first, seq=5)
    event(session, 6)
    session.attach(second)
    (command,) = sent(session)
    assert [("tokens", 3, EPOCH)] == starts([command])
    event(session, 7)
    agree(session, command, seq=7, recovered=True, replay=4)
    for seq in range(4, 9):
        event(session, seq)
    assert ([6, 7, 8], [4, 5, 6, 7, 8]) == (seqs(first), seqs(second))
    assert second.opening is not None
    assert (True, 4, 3) == (second.opening.recovered, second.opening.replay, second.opening.seq)
    session.attach(pruned := feed("tokens", 1))
    (command,) = sent(session)
    agree(session, command, seq=9)  # 1 is gone; the first feeds are at 8, and 9 did not come to them
    gap_of(pruned)
    (command,) = sent(session)
    assert [("tokens", 8, EPOCH)] == starts([command])
    event(session, 10)
    agree(session, command, seq=10, recovered=True, replay=2)
    event(session, 9)
    event(session, 10)
    assert ([9, 10], [9, 10]) == (seqs(first), seqs(second))


def test_a_start_from_another_log() -> None:
    """Tries to have a number that this log has not reached wait for it in silence, beside a start that is right."""
    session = established()
    right, wrong = feed("tokens", 3), feed("tokens", 30, None)
    session.attach(right)
    session.attach(wrong)
    (command,) = sent(session)
    agree(session, command, seq=5, recovered=True, replay=2)
    (command,) = sent(session)
    assert [("tokens", 3, EPOCH)] == starts([command])
    agree(session, command, seq=5, recovered=True, replay=2)
    assert (30, (EPOCH, 5)) == (gap_of(wrong).seq, gap_of(wrong).now)
    event(session, 4)
    assert [4] == seqs(right)


def test_who_comes_later_than_the_question() -> None:
    """Tries to end a feed over an answer that is older than it: its own epoch is newer than that."""
    session = established()
    session.attach(first := feed())
    (command,) = sent(session)
    session.attach(later := feed("tokens", 2, NEW))
    agree(session, command, seq=9)
    assert first.opening is not None
    assert later.ended is None
    assert [("tokens", 2, NEW)] == [starts(sent(session))[0]]


def test_one_epoch_is_gone_and_another_goes_on() -> None:
    """Tries to have a feed that knows an older log take the numbers of the new one, or end who knows the new."""
    session = established()
    old, new = feed("tokens", 5, EPOCH), feed("tokens", 2, NEW)
    session.attach(old)
    (command,) = sent(session)
    session.attach(new)
    agree(session, command, seq=9, epoch=NEW)
    assert (5, (NEW, 9)) == (gap_of(old).seq, gap_of(old).now)
    (command,) = sent(session)
    assert [("tokens", 2, NEW)] == starts([command])
    agree(session, command, seq=9, epoch=NEW, recovered=True, replay=7)
    for seq in range(3, 10):
        event(session, seq, epoch=NEW)
    assert list(range(3, 10)) == seqs(new)
