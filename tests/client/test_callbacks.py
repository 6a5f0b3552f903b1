"""What the core tells a program of its connections, and when."""

from __future__ import annotations

from typing import Any

import pytest

from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectFailed, ConnectionLost
from ngos.client.session import Session, State
from tests.client.fakes import greeting
from tests.client.sessions import EPOCH, agree, event, feed, opened, receive, reconnected, sent, subscribed, taken


class Told:
    """A session, and what it told by callbacks, as (name, what)."""

    def __init__(self, *, reconnect: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []
        callbacks = Callbacks(
            connected=lambda established: self.calls.append(("connected", established.client_id)),
            disconnected=lambda lost, next_s: self.calls.append(("disconnected", getattr(lost, "code", None), next_s)),
            resumed=lambda topic, replay: self.calls.append(("resumed", topic, replay)),
            gap=lambda error: self.calls.append(("gap", error.seq, error.now)),
        )
        self.session = Session(reconnect=reconnect, backoff=Backoff(lambda _a, b: b), callbacks=callbacks)
        receive(self.session, "connection.established", greeting()["payload"])

    def since(self) -> list[tuple[Any, ...]]:
        self.session.tell()
        calls, self.calls = self.calls, []
        return calls


def test_each_connection_and_each_try_is_told() -> None:
    """Tries to keep a connection, a loss or a failed try from the program, or to tell one twice."""
    told = Told()
    assert [("connected", "me")] == told.since()
    reconnected(told.session, 1012)
    assert [("disconnected", 1012, 0.5), ("connected", "me")] == told.since()
    told.session.disconnected(ConnectionLost(1006, ""))
    told.session.refused(ConnectFailed("ws://x", "no", retry_after_s=3.0))
    told.session.refused(ConnectFailed("ws://x", "no", status=401))
    assert [
        ("disconnected", 1006, 1.0),
        ("disconnected", None, 5.0),
        ("disconnected", 4401, None),
    ] == told.since()
    assert [] == told.since()


@pytest.mark.parametrize("code", [1002, 1008, 4403])
def test_an_end_is_told_once(code: int) -> None:
    """Tries to tell a loss that has no successor never, twice, or with a time to wait."""
    told = Told()
    told.since()
    assert told.session.disconnected(ConnectionLost(code, "")) is None
    assert [("disconnected", code, None)] == told.since()


def test_nonsense_is_told() -> None:
    """Tries to end a client on a message that is none without a word to its program."""
    for data in ("{", b"{}", '{"id": "1", "type": 3}'):
        told = Told()
        told.since()
        told.session.receive(data)
        told.session.disconnected(ConnectionLost(1006, ""))
        assert [("disconnected", 1002, None)] == told.since()


def test_who_leaves_hears_nothing() -> None:
    """Tries to tell the program of the loss that is its own doing."""
    told = Told()
    told.session.leave()
    assert State.ENDED is told.session.state
    assert [] == told.since()


def test_a_topic_resumes_once() -> None:
    """Tries to tell a resumption twice, for a topic that was not followed, or for the first subscription."""
    told = Told()
    one, other = feed("tokens"), feed("chat")
    opened(told.session, one, other)
    event(told.session, 1)
    told.since()
    for command in reconnected(told.session):
        durable = command["payload"]["topic"] == "tokens"
        agree(told.session, command, **({"seq": 4, "recovered": True, "replay": 3} if durable else {}))
    assert [("disconnected", 1006, 0.5), ("connected", "me"), ("resumed", "tokens", 3)] == told.since()
    opened(told.session, feed("tokens", since=1), seq=4, recovered=True, replay=3)
    assert [] == told.since()


def test_a_gap_is_told_with_both_positions() -> None:
    """Tries to call a hole a resumption, or to keep it from who does not read its subscription."""
    told = Told()
    one = feed("tokens")
    opened(told.session, one)
    event(told.session, 1)
    told.since()
    (command,) = reconnected(told.session)
    agree(told.session, command, seq=9)
    assert [("disconnected", 1006, 0.5), ("connected", "me"), ("gap", 1, (EPOCH, 9))] == told.since()
    assert 1 == one._waiting[0][0].seq  # what came before is still there


def test_what_a_callback_does_comes_after() -> None:
    """Tries to catch the core half done: a callback asks and follows as if nothing was under way."""
    done: list[Any] = []
    late = feed("graph")

    def connected(_established: object) -> None:
        if len(done) == 0:
            session.request("ping", None, done.append)
            session.attach(late)

    session = Session(backoff=Backoff(lambda _a, _b: 0.0), callbacks=Callbacks(connected=connected))
    receive(session, "connection.established", greeting()["payload"])
    assert [] == sent(session)
    session.tell()
    ping, subscribe = sent(session)
    receive(session, "pong", {"message_id": ping["id"]}, reply_to=ping["id"])
    receive(session, "subscribed", subscribed("graph"), reply_to=subscribe["id"])
    event(session, 1, "graph")
    assert "pong" == done[0].type
    assert [1] == [event.seq for event in taken(late)]


def test_a_callback_that_raises_is_not_called_again_for_it() -> None:
    """Tries to swallow what a callback raises, or to raise it for ever."""

    def connected(_established: object) -> None:
        raise LookupError

    session = Session(callbacks=Callbacks(connected=connected))
    receive(session, "connection.established", greeting()["payload"])
    with pytest.raises(LookupError):
        session.tell()
    session.leave()
    session.tell()
