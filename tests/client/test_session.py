"""The sans-I/O core: no loop, no socket, no clock."""

from __future__ import annotations

from functools import partial

import pytest

from ngos.client.errors import CommandError, ConnectionLost, RequestTooBig, SlowSubscriber
from ngos.client.feed import Event, Position
from ngos.client.requests import Outcome
from ngos.client.session import Session
from ngos.protocol.codec import Envelope
from ngos.protocol.commands import Ping, TokenCreate
from ngos.protocol.messages import TokenDeleted
from tests.client.fakes import subscribed
from tests.client.sessions import EPOCH, established, feed, opened, receive, sent, taken


def test_replies_are_matched_by_id_not_by_order() -> None:
    """Replies in another order than the commands still reach who asked."""
    session = established()
    outcomes: dict[str, Outcome] = {}
    ids = [session.request(Ping(), None, partial(outcomes.__setitem__, n)) for n in "abc"]
    assert ids == [command["id"] for command in sent(session)]
    for id_ in reversed(ids):
        receive(session, "pong", {"message_id": id_}, reply_to=id_)
    assert ids == [outcome.reply_to for outcome in map(outcomes.get, "abc") if isinstance(outcome, Envelope)]


def test_an_error_answers_only_its_command() -> None:
    """An error reply is an error to its sender and leaves all others waiting."""
    session = established()
    first: list[Outcome] = []
    second: list[Outcome] = []
    id_ = session.request(TokenCreate(weight=2.0), None, first.append)
    session.request(Ping(), None, second.append)
    payload = {"code": "conflict", "message": "exists", "retryable": False, "details": {"connection_id": "x"}}
    receive(session, "error", payload, reply_to=id_)
    (error,) = first
    assert isinstance(error, CommandError)
    assert ("conflict", "exists", {"connection_id": "x"}, False) == (
        error.code,
        error.message,
        error.details,
        error.retryable,
    )
    assert [] == second
    assert session.ended is None


def test_what_nobody_waits_for_is_not_sent() -> None:
    """A command that is given up before it was taken never goes out, and its late reply hurts nobody."""
    session = established()
    id_ = session.request(Ping(), None, lambda _: pytest.fail("nobody waits"))
    session.forget(id_)
    assert [] == sent(session)
    receive(session, "pong", {"message_id": id_}, reply_to=id_)


def test_ids_differ_between_sessions() -> None:
    """Two connections of one client_id never share a command id: it would be taken for a repetition."""
    assert Session().request(Ping(), None, lambda _: None) != Session().request(Ping(), None, lambda _: None)


def test_too_big_is_refused_before_sending() -> None:
    """A command over message_bytes would end the connection with 1009; it is the caller's error instead."""
    session = established(limits={"message_bytes": 1024, "subscriptions": 1, "in_flight": 1})
    with pytest.raises(RequestTooBig):
        session.request("publish", {"topic": "t", "type": "x", "payload": {"text": "x" * 1024}}, lambda _: None)
    assert [] == sent(session)


@pytest.mark.parametrize("first", ["[]", "{", '{"id":"1","type":"pong","timestamp":1}', b"\xff", "null"])
def test_whatever_comes_first_never_raises(first: str | bytes) -> None:
    """A server that does not greet ends the session with 1002, and raises nowhere."""
    session = Session()
    session.receive(first)
    assert session.ended is not None
    assert 1002 == session.ended.code


def test_the_end_is_heard_by_all_who_wait() -> None:
    """A lost connection fails every pending command and every feed, after the events that came before."""
    session = established()
    one = feed()
    opened(session, one)
    outcomes: list[Outcome] = []
    session.request(Ping(), None, outcomes.append)
    receive(session, "token.created", {}, topic="tokens", seq=1, epoch="0000000a")
    session.end(ConnectionLost(1013, "slow"))
    assert [session.ended] == outcomes
    event = one.take()
    assert event is not None
    assert 1 == event.seq
    with pytest.raises(ConnectionLost, match="slow"):
        one.take()
    with pytest.raises(ConnectionLost):
        session.request(Ping(), None, outcomes.append)


def test_events_reach_only_their_topic() -> None:
    """An event of one topic is not seen by the feeds of another, and a broadcast only by broadcasts."""
    session = established()
    tokens, graph, broadcasts = feed("tokens"), feed("graph"), feed(None)
    opened(session, tokens, graph, broadcasts)
    receive(session, "token.deleted", {}, topic="tokens", seq=1, epoch="0000000a")
    receive(session, "notice", {"text": "hi"})
    assert ["token.deleted"] == [event.type for event in taken(tokens)]
    assert [] == taken(graph)
    assert ["notice"] == [event.type for event in taken(broadcasts)]


def test_two_feeds_share_one_subscription() -> None:
    """The second feed costs no command and joins where the topic is; only the last one unsubscribes."""
    session = established()
    first, second = feed(), feed()
    opened(session, first, seq=4)
    receive(session, "token.deleted", {}, topic="tokens", seq=5, epoch="0000000a")
    session.attach(second)
    assert [] == sent(session)
    assert Position(EPOCH, 5) == second.taken
    receive(session, "token.deleted", {}, topic="tokens", seq=6, epoch="0000000a")
    assert ([5, 6], [6]) == ([event.seq for event in taken(first)], [event.seq for event in taken(second)])
    session.detach(first)
    assert [] == sent(session)
    session.detach(second)
    assert ["unsubscribe"] == [command["type"] for command in sent(session)]


def test_the_tail_of_an_old_subscription_is_not_delivered() -> None:
    """After unsubscribe and subscribe, events of the old subscription come before `subscribed`: not the new one's."""
    session = established()
    old, new = feed(), feed()
    opened(session, old)
    session.detach(old)
    session.attach(new)
    receive(session, "token.deleted", {}, topic="tokens", seq=1, epoch="0000000a")
    (unsubscribe, subscribe) = sent(session)
    assert ("unsubscribe", "subscribe") == (unsubscribe["type"], subscribe["type"])
    receive(session, "subscribed", subscribed("tokens", seq=1), reply_to=subscribe["id"])
    receive(session, "token.deleted", {}, topic="tokens", seq=2, epoch="0000000a")
    assert [2] == [event.seq for event in taken(new)]


def test_a_refused_subscription_can_be_tried_again() -> None:
    """An error to `subscribe` ends the feeds that waited for it, and the next attach asks again."""
    session = established()
    first, second = feed(), feed()
    session.attach(first)
    session.attach(second)
    (command,) = sent(session)
    receive(session, "error", {"code": "forbidden", "message": "no", "retryable": False}, reply_to=command["id"])
    assert isinstance(first.ended, CommandError)
    assert isinstance(second.ended, CommandError)
    opened(session, third := feed())
    assert third.opening is not None


@pytest.mark.parametrize("limits", [{"limit_events": 3}, {"limit_bytes": 700}])
def test_a_full_feed_ends_alone(limits: dict[str, int]) -> None:
    """A full feed of an ephemeral topic, where no log can help, ends after what it has; the others go on."""
    session = established()
    slow, quick = feed("chat", **limits), feed("chat")
    opened(session, slow, quick)
    for number in range(1, 11):
        receive(session, "x", {"text": "y" * 80, "number": number}, topic="chat")
    kept = []
    with pytest.raises(SlowSubscriber):
        while (event := slow.take()) is not None:
            kept.append(event.payload["number"])
    assert [1, 2, 3] == kept
    assert 10 == len(taken(quick))
    assert [] == sent(session)


def test_an_abandoned_feed_is_unsubscribed_at_the_next_event() -> None:
    """A consumer that is gone without a word does not hold its subscription for ever."""
    session = established()
    one = feed()
    opened(session, one)
    one.abandoned = True
    receive(session, "x", {}, topic="tokens", seq=1, epoch="0000000a")
    assert ["unsubscribe"] == [command["type"] for command in sent(session)]


def test_an_event_knows_its_class_only_on_its_own_topic() -> None:
    """A custom topic's event of a type like ours, with another payload, is not taken for ours."""
    payload = {"token_id": "0198c0de-0000-7000-8000-000000000000"}
    own = Event(id="1", type="token.deleted", topic="tokens", timestamp_ms=1, payload=payload)
    assert isinstance(own.message, TokenDeleted)
    assert Event(id="1", type="token.deleted", topic="chat", timestamp_ms=1, payload={"what": 1}).message is None
