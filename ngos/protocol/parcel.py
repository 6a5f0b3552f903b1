"""Encoded messages on their way out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define


@define(eq=False)
class Parcel:
    """Messages that go out together, shared by all that they go to: encoded once, and framed once.

    `frames` is filled in by the first transport that wants wire bytes. Where only a part of those is left to be sent,
    `messages` is empty.
    """

    messages: tuple[bytes, ...]
    size_bytes: int
    frames: bytes | None = None

    @classmethod
    def of(cls, messages: Sequence[bytes]) -> Parcel:
        """Messages, none of which has been sent."""
        return cls(tuple(messages), sum(map(len, messages)))
