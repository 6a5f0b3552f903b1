"""Encoded messages on their way out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define

_NONE: Final[Mapping[int, bytes]] = {}


@define(eq=False)
class Parcel:
    """Messages that go out together, shared by all that they go to: encoded once, and framed once.

    `frames` is filled in by the first transport that wants wire bytes, `deflated` by the first that wants them
    compressed, by the size of the window. Where only a part of those is left to be sent, `messages` is empty and
    `frames` is that part.
    """

    messages: tuple[bytes, ...]
    size_bytes: int
    frames: bytes | None = None
    deflated: Mapping[int, bytes] = _NONE

    @classmethod
    def of(cls, messages: Sequence[bytes]) -> Parcel:
        """Messages, none of which has been sent."""
        return cls(tuple(messages), sum(map(len, messages)))
