"""One attacker: a conversation over a WebSocket, a socket that is watched, and the counting of both.

Promises: every conversation ends, by the server or after CONVERSATION_S; what the server did is counted once. Runs on
Trio; raises OSError and trio.BrokenResourceError where a connection fails, which is for the caller to count.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from random import Random

import attrs
import trio

from attack_parts.blocks import Block
from attack_parts.tally import Tally
from attack_parts.wire import CLOSE, RECEIVE_BYTES, Frames, Target, cut_at_end, failure_of, outcome_of, read_head

CONVERSATION_S = 8.0
HEAD_S = 8.0


@attrs.define(eq=False)
class Attacker:
    """Who does one kind of attack: where to, with which dice, and what came of it."""

    target: Target
    rng: Random
    tally: Tally

    async def send(self, stream: trio.SocketStream, data: bytes, attempts: int = 0) -> None:
        """Send, and count it."""
        self.tally.did(attempts, len(data))
        await stream.send_all(data)

    async def converse(
        self,
        blocks: Iterable[Block],
        *,
        reads: bool = True,
        headers: Mapping[str, str] | None = None,
        then: Callable[[trio.SocketStream], Awaitable[None]] | None = None,
        seconds: float = CONVERSATION_S,
    ) -> None:
        """Open a WebSocket, send the blocks, do `then`, and stay until the server ends it or the time is over."""
        with cut_at_end(await self.target.connect()) as stream:
            await self.send(stream, self.target.upgrade(headers=headers))
            with trio.move_on_after(HEAD_S) as patience:
                status, rest = await read_head(stream)
            if patience.cancelled_caught:
                self.tally.got("no answer")
                return
            if status != 101:
                self.tally.did(1)
                self.tally.got(f"HTTP {status}" if status else "cut")
                return
            with trio.move_on_after(seconds) as limit:
                async with trio.open_nursery() as nursery:
                    if reads:
                        nursery.start_soon(self._read, stream, rest, nursery.cancel_scope)
                    try:
                        for attempts, data in blocks:
                            await self.send(stream, data, attempts)
                        if then is not None:
                            await then(stream)
                            nursery.cancel_scope.cancel()
                        if not reads:
                            await trio.sleep_forever()
                    except trio.BrokenResourceError as exc:
                        if not reads:
                            self.tally.got(failure_of(exc))
                            nursery.cancel_scope.cancel()
                        # Else the reader is about to see it too, behind what the server said before.
            if limit.cancelled_caught:
                self.tally.got("not ended")

    async def watch(self, stream: trio.SocketStream) -> None:
        """Read until the server ends it, and count how."""
        status, _ = await read_head(stream)
        self.tally.got(f"HTTP {status}" if status else "cut")
        while await stream.receive_some(RECEIVE_BYTES):
            pass

    async def _read(self, stream: trio.SocketStream, data: bytes, scope: trio.CancelScope) -> None:
        frames = Frames()
        try:
            while True:
                for opcode, payload in frames.feed(data):
                    self.tally.got(outcome_of(opcode, payload))
                    if opcode == CLOSE:
                        return
                data = bytes(await stream.receive_some(RECEIVE_BYTES))
                if not data:
                    self.tally.got("cut")
                    return
        except trio.BrokenResourceError as exc:
            self.tally.got(failure_of(exc))
        except trio.ClosedResourceError:
            pass  # by ourselves
        finally:
            scope.cancel()
