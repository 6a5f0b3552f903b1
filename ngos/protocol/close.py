"""Close codes of protocol.md section 8, and what a client does on each."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why a connection ended; `reason` is what the close frame says (RFC 6455 section 7.4).

    VANISHED is never sent: the peer left without a Close.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    BINARY_MESSAGE = 1003
    NOT_UTF8 = 1007
    VANISHED = 1006
    POLICY = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL = 1011
    RESTARTING = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    NO_SIGN_OF_LIFE = 4408
    TOO_MANY_MESSAGES = 4429

    @classmethod
    def of_peer(cls, code: int) -> CloseCode:
        """Why a connection ended that the peer ended, by the Close code that it or its fault caused.

        What it chose to say itself is its own affair: NORMAL.
        """
        return cls(code) if code in _OF_PEER else cls.NORMAL

    @property
    def reason(self) -> str:
        """The text of the close frame, under the 123 bytes that it can hold."""
        return _REASONS[self]

    @property
    def is_misdeed(self) -> bool:
        """Whether an honest client does not bring this about, whatever happens to it."""
        return self in _MISDEEDS

    @property
    def may_reconnect(self) -> bool:
        """Whether a client may connect again by itself."""
        return self in _MAY_RECONNECT


_REASONS = {
    CloseCode.NORMAL: "",
    CloseCode.GOING_AWAY: "going away",
    CloseCode.PROTOCOL_ERROR: "protocol error",
    CloseCode.BINARY_MESSAGE: "send text, not binary",
    CloseCode.NOT_UTF8: "not UTF-8",
    CloseCode.VANISHED: "gone without a word",
    CloseCode.POLICY: "policy",
    CloseCode.MESSAGE_TOO_BIG: "message over the limit",
    CloseCode.INTERNAL: "a defect in the server",
    CloseCode.RESTARTING: "restarting: reconnect after the time that system.draining named",
    CloseCode.TRY_AGAIN_LATER: "too slow, or the server is full: reconnect and resume",
    CloseCode.UNAUTHENTICATED: "not, or no longer, authenticated",
    CloseCode.FORBIDDEN: "not allowed",
    CloseCode.NO_SIGN_OF_LIFE: "no sign of life",
    CloseCode.TOO_MANY_MESSAGES: "too many messages for too long",
}

_MAY_RECONNECT = frozenset(
    {
        CloseCode.GOING_AWAY,
        CloseCode.INTERNAL,
        CloseCode.RESTARTING,
        CloseCode.TRY_AGAIN_LATER,
        CloseCode.UNAUTHENTICATED,
        CloseCode.NO_SIGN_OF_LIFE,
        CloseCode.TOO_MANY_MESSAGES,
    }
)

_MISDEEDS = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.BINARY_MESSAGE,
        CloseCode.NOT_UTF8,
        CloseCode.MESSAGE_TOO_BIG,
        CloseCode.TOO_MANY_MESSAGES,
    }
)

_OF_PEER = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.VANISHED,
        CloseCode.NOT_UTF8,
        CloseCode.MESSAGE_TOO_BIG,
    }
)
