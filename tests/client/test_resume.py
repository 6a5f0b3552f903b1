"""Subscriptions over breaks, holes and slow consumers: the sans-I/O core, one promise at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ngos.client.errors import CommandError, ConnectionLost
from ngos.client.feed import Position
from ngos.client.session import Session, State
from tests.client.fakes import greeting
from tests.client.sessions import (
    EPOCH,
    agree,
    established,
    event,
    feed,
    gap_of,
    opened,
    receive,
    reconnected,
    sent,
    seqs,
    starts,
    taken,
    types,
)

NEW = "0000000b"


def test_after_a_break_it_goes_on() -> None:
    """Tries to lose or repeat events around a break; what was not yet taken counts as had."""
    session = established()
    one = feed()
    opened(session, one, seq=4)
    event(session, 5)
    event(session, 6)
    (command,) = reconnected(session)
    assert [("tokens", 6, EPOCH)] == starts([command])
    event(session, 6)  # before the agreement: of no subscription of this connection
    agree(session, command, seq=8, recovered=True, replay=2)
    for seq in (6, 7, 8, 9):
        event(session, seq)
    assert [5, 6, 7, 8, 9] == seqs(one)
    assert Position(EPOCH, 9) == one.taken


@pytest.mark.parametrize(
    ("reply", "is_gap"),
    [
        ({"seq": 5}, False),
        ({"seq": 6}, True),
        ({"seq": 5, "epoch": NEW}, True),
        ({"seq": 0, "epoch": NEW}, True),
        ({"seq": 3}, False),  # a server that has yet to hear of 4 and 5, which we had of another
        ({"durable": False, "seq": None, "epoch": None}, True),
    ],
)
def test_what_can_not_be_recovered_is_told(reply: dict[str, Any], is_gap: bool) -> None:
    """Tries to hide a hole behind `recovered: false`, or to find one where nothing was missed."""
    session = established()
    one = feed()
    opened(session, one, seq=4)
    event(session, 5)
    (command,) = reconnected(session)
    agree(session, command, **reply)
    if is_gap:
        assert [5] == [found.seq for found in [one.take()] if found is not None]
        gap = gap_of(one)
        now = None if reply.get("durable") is False else (reply.get("epoch", EPOCH), reply["seq"])
        assert ("tokens", 5, EPOCH, now) == (gap.topic, gap.seq, gap.epoch, gap.now)
        assert "fetch the state anew and subscribe since its position" in str(gap)
        assert ["unsubscribe"] == types(sent(session))
    else:
        for seq in (4, 5, 6):
            event(session, seq)
        assert [5, 6] == seqs(one)


@pytest.mark.parametrize(("seq", "epoch"), [(7, EPOCH), (6, NEW), (1, NEW)])
def test_a_hole_in_the_stream_is_told(seq: int, epoch: str) -> None:
    """Tries to skip a number, or to change the epoch, on a connection that stays."""
    session = established()
    one = feed()
    opened(session, one, seq=5)
    event(session, seq, epoch=epoch)
    gap = gap_of(one)
    assert (5, EPOCH, (epoch, seq)) == (gap.seq, gap.epoch, gap.now)


@pytest.mark.parametrize(("epoch", "seq"), [(EPOCH, 9), (None, 9), (None, 3), (EPOCH, 2)])
def test_a_start_that_the_log_does_not_hold(epoch: str | None, seq: int) -> None:
    """Tries to start silently at another place than `since` asked for; nobody else is hurt."""
    session = established()
    other, one = feed("graph"), feed("tokens", 3, epoch)
    opened(session, other)
    session.attach(one)
    (command,) = sent(session)
    agree(session, command, seq=seq)
    gap = gap_of(one)
    assert (3, epoch, (EPOCH, seq)) == (gap.seq, gap.epoch, gap.now)
    assert one.opening is None
    event(session, 1, "graph")
    assert [1] == seqs(other)


def test_ephemeral_topics_go_on() -> None:
    """Tries to end a subscription to a topic where missing something is in its nature, or to give it a position."""
    session = established()
    one, late, broadcasts = feed("chat"), feed("chat", 7), feed(None)
    opened(session, one, late, broadcasts)
    assert (None, None) == (one.position, late.position)
    (command,) = reconnected(session)
    assert [("chat", None, None)] == starts([command])
    agree(session, command)
    event(session, None, "chat")
    receive(session, "notice", {})
    assert [1, 1, 1] == [len(taken(each)) for each in (one, late, broadcasts)]


def test_order_on_a_new_connection() -> None:
    """Tries to have a command overtake a subscription, its elders, or the proof of who sends it."""
    session = established()
    session.request("authenticate", {"token": "secret"}, lambda _: None)
    receive(session, "authenticated", {"subject": "me", "expires_at": None}, reply_to=sent(session)[0]["id"])
    outcomes: list[Any] = []
    ids = [session.request("token.create", {"type": f"t{n}"}, outcomes.append) for n in range(3)]
    opened_late = feed("chat"), feed("tokens")
    for one in opened_late:
        session.attach(one)
    sent(session)
    receive(session, "token.created", {}, reply_to=ids[0])
    session.forget(ids[1])
    session.disconnected(ConnectionLost(1006, ""))
    ids.append(session.request("token.create", {"type": "t3"}, outcomes.append))
    session.receive(json.dumps(greeting()))
    again = sent(session)
    assert ["authenticate", "subscribe", "subscribe", "token.create", "token.create"] == types(again)
    assert ["chat", "tokens"] == [command["payload"]["topic"] for command in again[1:3]]
    assert [ids[2], ids[3]] == [command["id"] for command in again[3:]]
    receive(session, "token.created", {}, reply_to=ids[2], replayed=True)
    assert [False, True] == [outcome.replayed for outcome in outcomes]


def test_a_proof_that_is_no_longer_taken() -> None:
    """Tries to go on as nobody, when the server refuses who we were."""
    session = established()
    session.request("authenticate", {"token": "secret"}, lambda _: None)
    receive(session, "authenticated", {"subject": "me", "expires_at": None}, reply_to=sent(session)[0]["id"])
    (command,) = reconnected(session)
    error = {"code": "unauthenticated", "message": "expired", "retryable": False, "details": {}}
    receive(session, "error", error, reply_to=command["id"])
    assert session.ended is not None
    assert (4401, State.ENDED) == (session.ended.code, session.state)


def test_smaller_limits_after_a_break() -> None:
    """Tries to send a new server more at once, or more in one message, than it takes."""
    session = established()
    outcomes: list[Any] = []
    big = session.request("publish", {"topic": "t", "type": "x", "payload": {"text": "x" * 2000}}, outcomes.append)
    small = [session.request("ping", None, lambda _: None) for _ in range(4)]
    assert 5 == len(sent(session))
    again = reconnected(session, limits={"message_bytes": 1024, "subscriptions": 1, "in_flight": 2})
    assert small[:2] == [command["id"] for command in again]
    assert [("publish", 1024)] == [(error.command, error.limit_bytes) for error in outcomes]
    receive(session, "pong", {"message_id": None}, reply_to=small[0])
    session.forget(small[1])
    assert small[2:] == [command["id"] for command in sent(session)]
    receive(session, "pong", {"message_id": None}, reply_to=big)


@pytest.mark.parametrize("retryable", [True, False])
def test_a_server_that_can_not_subscribe_us_again(retryable: bool) -> None:
    """Tries to end subscriptions over a fault that passes, or to ask for ever for what is forbidden."""
    session = established()
    one = feed()
    opened(session, one)
    (command,) = reconnected(session)
    error = {"code": "rate_limited", "message": "no", "retryable": retryable, "details": {"retry_after_ms": 7000}}
    receive(session, "error", error, reply_to=command["id"])
    if retryable:
        assert session.verdict is not None
        assert [] == sent(session)
        assert 7.0 == session.disconnected(ConnectionLost(1000, ""))
        session.receive(json.dumps(greeting()))
        assert [("tokens", 0, EPOCH)] == starts(sent(session))
    else:
        with pytest.raises(CommandError):
            one.take()
        assert [] == reconnected(session)


def test_a_refusal_hurts_only_who_it_is_for() -> None:
    """Tries to end those who follow over a start that another wanted, or to have a start that is none sent at all."""
    session = established()
    first = feed()
    opened(session, first)
    for start in (feed("tokens", -1), feed("tokens", 1, "nonsense")):
        with pytest.raises(ValueError, match="not a position"):
            session.attach(start)
    session.attach(second := feed("tokens", 0))
    (command,) = sent(session)
    error = {"code": "forbidden", "message": "no", "retryable": False, "details": {}}
    receive(session, "error", error, reply_to=command["id"])
    with pytest.raises(CommandError):
        second.take()
    event(session, 1)
    assert [1] == seqs(first)
    assert [] == sent(session)


def test_a_durable_event_without_a_position_is_the_servers_fault() -> None:
    """Tries to slip an event past the count."""
    session = established()
    one = feed()
    opened(session, one)
    event(session, None)
    assert session.ended is not None
    assert 1002 == session.ended.code


def test_attached_and_detached_without_a_connection() -> None:
    """Tries to lose a subscription that was asked for during a break, or to keep one that was given up in it."""
    session = established()
    kept, dropped = feed("graph"), feed("tokens")
    opened(session, dropped)
    session.disconnected(ConnectionLost(1006, ""))
    session.attach(kept)
    session.detach(dropped)
    session.receive(json.dumps(greeting()))
    assert [("graph", None, None)] == starts(sent(session))


def test_a_program_that_wants_no_other_connection() -> None:
    """Tries to end all of it, where one topic can't be asked for again and nothing comes back by itself."""
    session = Session(reconnect=False)
    session.receive(json.dumps(greeting()))
    slow = feed(limit_events=1)
    opened(session, slow)
    event(session, 1)
    event(session, 2)
    slow.take()
    command = sent(session)[-1]
    error = {"code": "unavailable", "message": "no", "retryable": True, "details": {}}
    receive(session, "error", error, reply_to=command["id"])
    assert session.ended is None
    with pytest.raises(CommandError):
        slow.take()
