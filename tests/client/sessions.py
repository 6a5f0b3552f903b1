"""The sans-I/O core in the hands of a test: what it sends, what it is sent, what its feeds have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ngos.client.backoff import Backoff
from ngos.client.errors import ConnectionLost, GapError
from ngos.client.feed import Event, Feed, Position
from ngos.client.session import Session, State
from tests.client.fakes import envelope, greeting, subscribed

EPOCH = "0000000a"


def feed(
    topic: str | None = "tokens",
    since: int | None = None,
    epoch: str | None = EPOCH,
    *,
    limit_events: int = 100,
    limit_bytes: int = 100_000,
) -> Feed:
    start = None if since is None else Position(epoch, since)
    return Feed(topic, limit_events=limit_events, limit_bytes=limit_bytes, wake=lambda: None, start=start)


def established(**payload: Any) -> Session:
    session = Session(backoff=Backoff(lambda _a, _b: 0.0))
    session.receive(json.dumps(greeting(**payload)))
    assert session.established is not None
    return session


def sent(session: Session) -> list[dict[str, Any]]:
    messages = []
    while (message := session.take_output()) is not None:
        messages.append(json.loads(message))
    return messages


def receive(session: Session, type_: str, payload: dict[str, Any], **fields: Any) -> None:
    session.receive(json.dumps(envelope(type_, payload, **fields)))


def opened(session: Session, *feeds: Feed, **payload: Any) -> None:
    for one in feeds:
        session.attach(one)
    for command in sent(session):
        receive(session, "subscribed", subscribed(command["payload"]["topic"], **payload), reply_to=command["id"])


def taken(one: Feed) -> list[Event]:
    events = []
    while (event := one.take()) is not None:
        events.append(event)
    return events


def reconnected(session: Session, code: int = 1006, **payload: Any) -> list[dict[str, Any]]:
    """Break the connection, bring another, and return what is sent on it at once."""
    assert session.disconnected(ConnectionLost(code, "")) is not None
    assert [] == sent(session)
    session.receive(json.dumps(greeting(**payload)))
    assert session.state is State.CONNECTED
    return sent(session)


def agree(session: Session, command: dict[str, Any], **payload: Any) -> None:
    """Answer a `subscribe`."""
    receive(session, "subscribed", subscribed(command["payload"]["topic"], **payload), reply_to=command["id"])


def event(session: Session, seq: int | None, topic: str = "tokens", epoch: str = EPOCH) -> None:
    position = {} if seq is None else {"seq": seq, "epoch": epoch}
    receive(session, "x", {}, topic=topic, **position)


def seqs(one: Feed) -> list[int | None]:
    """The numbers of what waits, which is taken."""
    return [event.seq for event in taken(one)]


def types(commands: list[dict[str, Any]]) -> list[str]:
    return [command["type"] for command in commands]


def starts(commands: list[dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    """What each `subscribe` or `unsubscribe` asks."""
    payloads = [command["payload"] for command in commands]
    return [(payload["topic"], payload.get("since"), payload.get("epoch")) for payload in payloads]


def gap_of(one: Feed) -> GapError:
    with pytest.raises(GapError) as caught:
        taken(one)
    return caught.value
