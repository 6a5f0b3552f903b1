"""When to Ping a server that is silent, and when to leave it (protocol.md section 9). Pure: the clock is the caller's.

May import `ngos.client.errors` and the protocol.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ngos.client.errors import ConnectionLost
from ngos.protocol.close import CloseCode
from ngos.protocol.messages import HeartbeatTerms

LATE_S: Final = 1.0
"""Who looks so much later than it should could not read either, and looks once more."""


@frozen
class Look:
    """What to do now: Ping, and look again at `next_s` on the caller's clock; or leave, where `lost` is set."""

    next_s: float
    ping: bool = False
    lost: ConnectionLost | None = None


class Heartbeat:
    """Pings after an interval without a sign of life, and gives up when the timeout passes too; any byte is a sign.

    The terms are the greeting's.
    """

    def __init__(self, terms: HeartbeatTerms) -> None:
        self._interval_s = max(terms.interval_ms, 1) / 1000
        self._timeout_s = max(terms.timeout_ms, 1) / 1000
        self._asked_s: float | None = None

    def look(self, now_s: float, received_s: float) -> Look:
        """Say what to do at `now_s`, when something last came at `received_s`."""
        if self._asked_s is not None and received_s >= self._asked_s:
            self._asked_s = None
        if self._asked_s is not None:
            due_s = self._asked_s + self._timeout_s
            if now_s >= due_s + LATE_S:
                # The program held up the loop: what came meanwhile may be unread yet.
                self._asked_s = now_s - self._timeout_s
                return Look(now_s + LATE_S / 2)
            if now_s >= due_s:
                reason = f"nothing came from the server for {now_s - received_s:.3g} s"
                return Look(now_s, lost=ConnectionLost(CloseCode.NO_SIGN_OF_LIFE, reason))
            return Look(due_s)
        if now_s >= received_s + self._interval_s:
            self._asked_s = now_s
            return Look(now_s + self._timeout_s, ping=True)
        return Look(received_s + self._interval_s)
