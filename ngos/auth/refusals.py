"""Why a token is refused: known to the log and the metrics, and to nobody else. Pure."""

from __future__ import annotations

from enum import StrEnum

from ngos.errors import NgosError


class Refusal(StrEnum):
    """The reason for which a token is refused."""

    EXPIRED = "expired"
    NOT_YET = "not_yet"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    ALGORITHM = "algorithm"
    SIGNATURE = "signature"
    KEY = "key"
    MALFORMED = "malformed"
    CLAIMS = "claims"
    SUBJECT = "subject"


class Refused(NgosError):
    """A token is refused, its holder's fault. The text is the same for all; `reason` is not for the holder."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__("the token is not valid")
        self.reason = reason


class Fault(Exception):
    """Inside this package: something about a token is wrong."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason
