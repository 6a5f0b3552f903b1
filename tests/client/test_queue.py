"""The bound of what waits for replies."""

from __future__ import annotations

from typing import Any

import pytest

from ngos.client.backoff import Backoff
from ngos.client.errors import ConnectionLost, QueueFull
from ngos.client.session import Session
from tests.client.fakes import greeting
from tests.client.sessions import feed, receive, reconnected, sent, types


def queueing(queue_bytes: int) -> Session:
    session = Session(backoff=Backoff(lambda _a, _b: 0.0), queue_bytes=queue_bytes)
    receive(session, "connection.established", greeting()["payload"])
    return session


def test_one_more_is_refused_and_not_queued() -> None:
    """Tries to queue over the bound, online and offline, or to lose what was queued before."""
    session = queueing(200)
    done: list[Any] = []
    session.request("ping", {"text": "x" * 60}, done.append, id_="a")
    session.disconnected(ConnectionLost(1006, ""))
    with pytest.raises(QueueFull) as caught:
        session.request("ping", {"text": "x" * 100}, done.append, id_="b")
    assert ("ping", 200) == (caught.value.command, caught.value.queue_bytes)
    session.request("ping", {}, done.append, id_="c")
    receive(session, "connection.established", greeting()["payload"])
    assert ["a", "c"] == [command["id"] for command in sent(session)]
    assert [] == done


def test_an_empty_queue_takes_one() -> None:
    """Tries to make a command that is bigger than the bound impossible for ever."""
    session = queueing(1)
    session.request("ping", {"text": "x" * 100}, lambda _: None, id_="a")
    with pytest.raises(QueueFull):
        session.request("ping", {}, lambda _: None)


@pytest.mark.parametrize("how", ["reply", "error", "forget"])
def test_what_is_done_makes_room(how: str) -> None:
    """Tries to count a command for ever, though it has its reply, or nobody waits for it any more."""
    session = queueing(1)
    for id_ in ("a", "b", "c"):
        session.request("ping", {}, lambda _: None, id_=id_)
        match how:
            case "reply":
                receive(session, "pong", {}, reply_to=id_)
            case "error":
                receive(session, "error", {"code": "internal"}, reply_to=id_)
            case _:
                session.forget(id_)


def test_what_the_session_asks_is_not_counted() -> None:
    """Tries to keep subscriptions from coming back because the program has filled the queue."""
    session = queueing(1)
    session.attach(feed("tokens"))
    session.request("ping", {}, lambda _: None)
    assert ["subscribe", "ping"] == types(sent(session))
    assert ["subscribe", "ping"] == types(reconnected(session))
