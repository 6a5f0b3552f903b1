"""What one connection sends: replies and events, each at once if it can, else by way of the mailbox and its writer.

Everything goes out in the order in which it comes in here. What can't be sent at once holds up what follows: while
anything waits, the transport's outlet is closed. Nothing here waits, but for the writer's task.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from ngos.gateway.mailbox import SEND_BYTES, Mailbox
from ngos.gateway.transport import Transport
from ngos.log.write import Encoded
from ngos.protocol import codec
from ngos.protocol.parcel import Parcel

_PREFIX: Final = secrets.token_hex(4)
_numbers = itertools.count(1)


def _nothing() -> None:
    pass


@define(eq=False)
class Outbox:
    """See the module. `clock_ms` is Unix time; nothing waits in `mailbox` for longer than `age_s`.

    `on_slow` is called when the peer reads too slowly: too much, or too old, is what waits (section 9).
    """

    _transport: Transport
    mailbox: Mailbox
    _age_s: float
    _on_slow: Callable[[], None]
    _clock_ms: Callable[[], int]
    is_shut: bool = field(init=False, default=False)
    _nursery: trio.Nursery | None = field(init=False, default=None)
    _has_writer: bool = field(init=False, default=False)
    _gathered: list[bytes] = field(init=False, factory=list)
    _gathered_bytes: int = field(init=False, default=0)

    def open(self, nursery: trio.Nursery) -> None:
        """From here on the writer can be started, in this nursery."""
        self._nursery = nursery
        if self.mailbox:
            self._start_writer()

    def close(self) -> None:
        """Start no writer any more: the nursery is about to close."""
        self._nursery = None

    def shut(self) -> None:
        """Send nothing more, for good: neither what waits, nor what comes."""
        self.is_shut = True
        self._transport.hold(True)
        self.mailbox.clear()
        self._on_slow = _nothing  # who is shut is not slow any more; and it is a cycle less, for the collector

    def gather(self, type_: str, payload: bytes, reply_to: str | None) -> None:
        """Take a reply of the reader's, to go out with its neighbours at the next `flush`, or before that."""
        message = self._encode(type_, payload, reply_to)
        self._gathered.append(message)
        self._gathered_bytes += len(message)
        if self._gathered_bytes >= SEND_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered. To be called before the reader waits for anything."""
        if self._gathered:
            parcel = Parcel(tuple(self._gathered), self._gathered_bytes)
            self._gathered.clear()
            self._gathered_bytes = 0
            self._put(parcel)

    def answer(self, reply: Encoded, reply_to: str | None, *, more_follow: bool) -> None:
        """Send the reply to a write; with others about to follow, the writer sends them together."""
        message = self._encode(reply.type, reply.payload, reply_to, replayed=reply.replayed)
        self._put(Parcel((message,), len(message)), more_follow=more_follow)

    def offer_events(self, parcel: Parcel) -> None:
        """Take events from the hub; if more wait than may, the peer is slow."""
        if not self.is_shut:
            rest = parcel if self.mailbox else self._transport.try_send(parcel)
            if rest is not None:
                self._queue_events(rest)

    def offer_rest(self, parcel: Parcel, sent_bytes: int) -> None:
        """Take what the outlet did not: it was given these events, and took only so many bytes of their frames."""
        self._queue_events(self._transport.rest(parcel, sent_bytes))

    def abandon(self) -> None:
        """The socket takes nothing more, and what is lost must not be followed by anything."""
        self.shut()
        self._transport.abort()

    def _encode(self, type_: str, payload: bytes, reply_to: str | None, *, replayed: bool = False) -> bytes:
        message_id = f"{_PREFIX}-{next(_numbers):x}"
        return codec.encode(
            type_, payload, id_=message_id, timestamp_ms=self._clock_ms(), reply_to=reply_to, replayed=replayed
        )

    def _put(self, parcel: Parcel, *, more_follow: bool = False) -> None:
        if self.is_shut:
            return
        rest = parcel if more_follow or self.mailbox else self._transport.try_send(parcel)
        if rest is not None:
            self._hold()
            self.mailbox.put_reply(rest)
            self._start_writer()

    def _queue_events(self, parcel: Parcel) -> None:
        self._hold()
        if self.mailbox.put_events(parcel):
            self._start_writer()
        else:
            self._on_slow()

    def _hold(self) -> None:
        """Let nothing go ahead of what is about to wait. While anything waits, this is done already."""
        if not self.mailbox:
            self._transport.hold(True)

    def _start_writer(self) -> None:
        """Start the writer when there is something for it: most connections never have anything wait."""
        if self._nursery is not None and not self._has_writer and not self.is_shut:
            self._has_writer = True
            self._nursery.start_soon(self._write)

    async def _write(self) -> None:
        """Send what waits until nothing does; then the task ends, as most connections have nothing wait for long."""
        while self.mailbox:
            parcels, since = self.mailbox.peek()
            # Where it was we who were late, as when a flood held all of us up, it is offered before it is judged.
            offered = trio.current_time() + self._age_s / 40
            with trio.CancelScope(deadline=max(since + self._age_s, offered)) as scope:
                await self._transport.send(parcels)
            del parcels  # the largest thing that an idle connection would hold on to
            if scope.cancelled_caught:
                self._on_slow()
                return
            self.mailbox.sent()
        self._has_writer = False
        if not self.is_shut:
            self._transport.hold(False)
