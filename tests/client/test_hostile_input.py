"""The sans-I/O core, given what no server should say, and no program ask."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from ngos.client.errors import ConnectionLost, RequestTooBig
from ngos.client.heartbeat import Heartbeat
from ngos.protocol.commands import Command, GraphConnect, TokenCreate, TokenList
from ngos.protocol.messages import HeartbeatTerms
from tests.client.fakes import LIMITS, greeting
from tests.client.sessions import (
    established,
    event,
    feed,
    opened,
    receive,
    reconnected,
    sent,
    taken,
    types,
)

ID = UUID(int=1)


@pytest.mark.parametrize(
    ("topic", "since", "error"),
    [("\ud800", None, ValueError), ("tokens", 2**63, ValueError), ("tokens", -1, ValueError)],
)
def test_what_can_not_be_asked_for_is_not_kept(topic: str, since: int | None, error: type[Exception]) -> None:
    """Tries to leave a subscription behind that was refused to its caller, and is asked for after the next break."""
    session = established()
    with pytest.raises(error):
        session.attach(feed(topic, since=since))
    assert [] == sent(session)
    assert [] == reconnected(session)


def test_a_topic_over_the_limit() -> None:
    """Tries to crash the reader of a connection by a topic's name that is longer than the server takes."""
    session = established()
    one, other = feed("x" * 70_000), feed("y")
    session.attach(one)
    session.attach(other)
    assert ["subscribe"] == types(sent(session))
    with pytest.raises(RequestTooBig):
        taken(one)
    assert session.disconnected(ConnectionLost(1006, "")) is not None
    away = feed("z" * 70_000)
    session.attach(away)
    session.receive(json.dumps(greeting()))
    assert ["subscribe"] == types(sent(session))
    with pytest.raises(RequestTooBig):
        taken(away)


def test_a_proof_over_the_limit() -> None:
    """Tries to crash the reader by a server that takes no proof so long, or to go on there as nobody."""
    session = established()
    id_ = session.request("authenticate", {"token": "t" * 1000}, lambda _: None)
    assert ["authenticate"] == types(sent(session))
    receive(session, "authenticated", {"subject": "s", "expires_at": None}, reply_to=id_)
    opened(session, feed("x"))
    assert session.disconnected(ConnectionLost(1006, "")) is not None
    session.receive(json.dumps(greeting(limits={**LIMITS, "message_bytes": 500})))
    assert [] == sent(session)
    assert session.ended is not None
    assert 1009 == session.ended.code


@pytest.mark.parametrize("seq", [-1, 2**62, 10**300])
def test_numbers_that_no_log_counts_to(seq: float) -> None:
    """Tries to have a client ask since a number that it can't write, by a position, a replay or an event."""
    for said in ({"seq": seq}, {"replay": seq}, {}):
        session = established()
        one = feed()
        opened(session, one, **said)
        if not said:
            event(session, int(seq))
        assert session.ended is not None
        assert 1002 == session.ended.code
        with pytest.raises(ConnectionLost):
            taken(one)


@pytest.mark.parametrize("id_", ["", "x" * 129, "a\0"])
def test_ids_that_no_server_takes(id_: str) -> None:
    """Tries to wait for a reply that can't be told to be this command's."""
    session = established()
    with pytest.raises(ValueError, match="not an id"):
        session.request("ping", None, lambda _: None, id_=id_)
    assert [] == sent(session)


@pytest.mark.parametrize(
    "command",
    [
        TokenCreate(weight=True),
        TokenCreate(flags=False),
        TokenCreate(coord_x=(0.0, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
        TokenList(offset=False),
        TokenList(full=0),  # type: ignore[arg-type]
        GraphConnect(source_id=ID, target_id=ID, weight=True),
    ],
)
def test_what_equals_a_default_and_is_none(command: Command) -> None:
    """Tries to have a boolean sent as the number that it equals, or the other way round: as the default it is not."""
    session = established()
    with pytest.raises(TypeError, match="numbers and booleans"):
        session.request(command, None, lambda _: None)
    assert [] == sent(session)


def test_what_equals_a_default_and_is_one() -> None:
    """Tries to refuse an integer where a float is due."""
    session = established()
    session.request(TokenCreate(weight=1, coord_x=(0,) * 8), None, lambda _: None)
    assert [{}] == [command["payload"] for command in sent(session)]


def test_a_program_that_held_up_its_loop() -> None:
    """Tries to have a good connection left because nobody looked: what came meanwhile may be unread."""
    heartbeat = Heartbeat(HeartbeatTerms(interval_ms=1000, timeout_ms=1000))
    assert heartbeat.look(1.0, 0.0).ping
    late = heartbeat.look(60.0, 0.0)
    assert late.lost is None
    assert not late.ping
    assert heartbeat.look(late.next_s, 60.0).lost is None

    assert heartbeat.look(70.0, 60.0).ping
    late = heartbeat.look(130.0, 60.0)
    assert heartbeat.look(late.next_s, 60.0).lost is not None
