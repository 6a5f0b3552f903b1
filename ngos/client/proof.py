"""Who a client says that it is, over all its connections: the token that it shows to each. No I/O.

May import nothing of ngos.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Token = str | Callable[[], str | Awaitable[str | None] | None]
"""A token, or a function that is asked for one before each connection, plain or async; None from it: none is shown."""


class Proof:
    """The token that is shown to each connection, and the one that was refused."""

    def __init__(self, given: Token | None = None) -> None:
        self._given = given
        self._shown: str | None = None
        self._accepted: str | None = None
        self._refused: tuple[str | None, ...] = ()

    @property
    def renewable(self) -> bool:
        """Whether there may be another token after one that was refused."""
        return callable(self._given)

    def next(self) -> str | Awaitable[str | None] | None:
        """The token for the next connection: the last that `authenticate` was accepted with, else the program's.

        Raises what the program's function raises.
        """
        if self._accepted is not None:
            return self._accepted
        return self._given() if callable(self._given) else self._given

    @property
    def in_band(self) -> str | None:
        """The token to show by `authenticate`: one that came that way. What was given is in the handshake."""
        return self._accepted

    def show(self, token: str | None) -> bool:
        """Show this one to the next connection. False: it is the one that was refused."""
        self._shown = token
        return token not in self._refused

    def accept(self, token: str) -> None:
        """The server took this one from the program: it takes the place of what was given, until it is refused."""
        self._shown = self._accepted = token

    def refuse(self) -> None:
        """The server did not, or no longer, take what was shown."""
        self._refused = (self._shown,)
        if self._accepted == self._shown:
            self._accepted = None
