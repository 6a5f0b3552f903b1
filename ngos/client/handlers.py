"""Handlers of messages by their types, called one after another, on asyncio. May import `ngos.client.messages`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

from ngos.client.messages import Message

Handler = Callable[[Message], Awaitable[object] | object]

ALL: Final = "*"
"""The type whose handlers hear every message."""

_in_handler: ContextVar[bool] = ContextVar("in_handler", default=False)


def in_handler() -> bool:
    """Whether a handler, or a task that one has started, is who asks."""
    return _in_handler.get()


class Handlers:
    """Who hears which messages: those of its type first, then those of all, each in the order they were added."""

    def __init__(self) -> None:
        self._of: dict[str, list[Handler]] = {}
        self._turn = asyncio.Lock()

    def add(self, type_: str, handler: Handler) -> None:
        self._of.setdefault(type_, []).append(handler)

    def remove(self, type_: str, handler: Handler) -> None:
        """Nothing happens where it was not there."""
        handlers = self._of.get(type_, [])
        if handler in handlers:
            handlers.remove(handler)

    async def hear(self, message: Message) -> None:
        """Call the handlers of a message, when those of the ones before are done; asyncio's locks are fair."""
        async with self._turn:
            token = _in_handler.set(True)
            try:
                for handler in (*self._of.get(message["type"], ()), *self._of.get(ALL, ())):
                    await self._call(handler, message)
            finally:
                _in_handler.reset(token)

    async def _call(self, handler: Handler, message: Message) -> None:
        try:
            result = handler(message)
            if isinstance(result, Awaitable):
                await result
        except Exception as exc:
            text = f"a handler of {message['type']!r} failed"
            asyncio.get_running_loop().call_exception_handler({"message": text, "exception": exc, "handler": handler})
