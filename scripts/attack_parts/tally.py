"""What each kind of attack did, and what it got. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs


@attrs.define
class Tally:
    """One kind's counts. An outcome is what the server did, in two words, as in `closed 1009` or `HTTP 400`."""

    attempts: int = 0
    sent_bytes: int = 0
    outcomes: Counter[str] = attrs.field(factory=Counter)

    def did(self, attempts: int, sent_bytes: int = 0) -> None:
        self.attempts += attempts
        self.sent_bytes += sent_bytes

    def got(self, outcome: str, times: int = 1) -> None:
        self.outcomes[outcome] += times

    def record(self) -> dict[str, Any]:
        """It as JSON, the most frequent outcome first."""
        return {
            "attempts": self.attempts,
            "sent_bytes": self.sent_bytes,
            "outcomes": dict(self.outcomes.most_common()),
        }

    @classmethod
    def of(cls, record: dict[str, Any]) -> Tally:
        """Read back a record."""
        return cls(record["attempts"], record["sent_bytes"], Counter(record["outcomes"]))
