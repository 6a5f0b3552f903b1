"""How long to wait, and after what: no clock, loaded dice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngos.client.backoff import Backoff
from ngos.client.errors import ConnectFailed, ConnectionLost
from ngos.client.session import Session, State
from ngos.protocol.close import CloseCode
from tests.client.fakes import envelope, greeting

LOST = ConnectionLost(1006, "")


def low(a: float, _b: float) -> float:
    return a


def high(_a: float, b: float) -> float:
    return b


def connected(session: Session, **limits: Any) -> Session:
    session.receive(json.dumps(greeting(**limits)))
    assert session.state is State.CONNECTED
    return session


def failed(status: int | None = None, **fields: Any) -> ConnectFailed:
    return ConnectFailed("ws://h/ws", "no", status=status, **fields)


def test_full_jitter_from_the_first_wait_on() -> None:
    """Tries to break section 8: each wait is random(0, min(20, 0.5 * 2^n)), n from 0, without overflow."""
    asked: list[tuple[float, float]] = []

    def dice(a: float, b: float) -> float:
        asked.append((a, b))
        return b / 2

    backoff = Backoff(dice)
    waits = [backoff.next_s() for _ in range(2000)]
    assert [(0.0, most) for most in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0)] == asked[:8]
    assert waits == [most / 2 for _, most in asked]
    backoff.reset()
    backoff.next_s()
    assert (0.0, 0.5) == asked[-1]


@given(n=st.integers(0, 50), at_least_s=st.floats(0, 100))
def test_waits_stay_in_their_bounds(n: int, at_least_s: float) -> None:
    """Tries to find a wait, with true dice, below what the server asked for or over 20 s more."""
    backoff = Backoff()
    for _ in range(n):
        backoff.next_s()
    assert at_least_s <= backoff.next_s(at_least_s=at_least_s) <= at_least_s + 20


@pytest.mark.parametrize("proof", ["message", "time"])
def test_only_a_good_connection_shortens_the_wait(proof: str) -> None:
    """Tries to get a short wait from a server that greets and dies, and a long one after a connection that served."""
    session = Session(backoff=Backoff(high))
    waits = [connected(session).disconnected(LOST, 0.1) for _ in range(4)]
    assert [0.5, 1.0, 2.0, 4.0] == waits
    connected(session)
    if proof == "message":
        session.receive(json.dumps(envelope("notice", {})))
    assert 0.5 == session.disconnected(LOST, 0.1 if proof == "message" else 6.0)


def test_draining_names_the_least_wait() -> None:
    """Tries to come back before the time that system.draining named, and to be held to it a second time."""
    session = connected(Session(backoff=Backoff(low)))
    session.receive(json.dumps(envelope("system.draining", {"reconnect_after_ms": 3000}, topic="system")))
    assert 3.0 == session.disconnected(ConnectionLost(1012, ""))
    assert 0.0 == session.refused(failed())
    assert 0.0 == connected(session).disconnected(ConnectionLost(1012, ""))


def test_a_pause_after_too_many_messages() -> None:
    """Tries to come back at once after 4429."""
    assert 1.0 == connected(Session(backoff=Backoff(low))).disconnected(ConnectionLost(4429, ""))


@pytest.mark.parametrize("code", [*CloseCode, 1005, 3000, 4999])
def test_codes(code: int) -> None:
    """Tries each close code of section 8 and some others: what forbids it ends the session, the rest does not.

    4401 wants a new token, which a client does not have by itself.
    """
    session = connected(Session(backoff=Backoff(low)))
    wait_s = session.disconnected(ConnectionLost(code, "why"))
    comes_back = code in {1001, 1006, 1011, 1012, 1013, 4408, 4429}
    assert comes_back == (wait_s is not None)
    assert (State.RECONNECTING if comes_back else State.ENDED) is session.state
    assert comes_back == (session.ended is None)


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1008), (401, 4401), (403, 4403), (404, 1008), (426, 1008), (302, 1008)]
)
def test_refusals_that_end_it(status: int, code: int) -> None:
    """Tries to go on after a refusal that will not change: it ends, and says what the server said."""
    session = connected(Session(backoff=Backoff(low)))
    session.disconnected(LOST)
    assert session.refused(failed(status)) is None
    assert session.ended is not None
    assert code == session.ended.code
    assert "ws://h/ws: no" in str(session.ended)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (failed(), 0.0),
        (failed(500), 0.0),
        (failed(503, retry_after_s=7.0), 7.0),
        (failed(429, retry_after_s=1e9), 300.0),
        (failed(lost=ConnectionLost(1013, "full")), 0.0),
    ],
)
def test_refusals_that_pass(error: ConnectFailed, expected: float) -> None:
    """Tries to end, or to come back too early or never, after a refusal that may be over soon."""
    session = connected(Session(backoff=Backoff(low)))
    session.disconnected(LOST)
    assert expected == session.refused(error)
    assert session.ended is None


def test_without_reconnect_the_first_break_is_the_end() -> None:
    """Tries to come back although the program did not want to."""
    session = connected(Session(reconnect=False))
    assert session.disconnected(LOST) is None
    assert LOST is session.ended
