"""The honest clients, all in one process: `python -m attack_parts.honest`.

Promises: each sends about a command a second whether or not the last was answered, none in step with another, and
follows `tokens`; what is measured is from the moment before a command's first byte is handed to the kernel to when
the message is read and understood. Errors, closes and lost replies are counted, whoever is closed comes back. Ready
when all are subscribed; on SIGTERM sends no more, waits a little for what is owed, and writes its report. Runs on Trio.
"""

from __future__ import annotations

import argparse
import gc
import signal
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import attrs
import orjson
import trio

from attack_parts.wire import CLOSE, PING, PONG, TEXT, Frames, Target, cut_at_end, failure_of, frame, read_head

EVERY_S = 1.0
OWED_S = 5.0
CONNECT_S = 10.0
BACK_AFTER_S = 0.5
MARK = "sent_at"
MIX = ("ping", "token.create", "token.get", "publish")


@attrs.define
class Seen:
    """What all of them saw. A sample is when its command was sent, by the system's monotonic clock, and seconds."""

    replies: dict[str, list[tuple[float, float]]] = attrs.field(factory=lambda: {name: [] for name in MIX})
    deliveries: list[tuple[float, float]] = attrs.field(factory=list)
    sent: int = 0
    unanswered: int = 0
    foreign_events: int = 0
    errors: Counter[str] = attrs.field(factory=Counter)
    closes: Counter[str] = attrs.field(factory=Counter)
    reconnects: int = 0


@attrs.define(eq=False)
class Honest:
    """One client."""

    number: int
    of: int
    target: Target
    seen: Seen
    stopping: trio.Event
    _owed: dict[str, tuple[str, float]] = attrs.field(factory=dict)
    _token_id: str | None = None
    _sent: int = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be connected, and come back as often as one is not. Started means subscribed for the first time."""
        subscribed = False

        def on_subscribed() -> None:
            nonlocal subscribed
            if not subscribed:
                task_status.started()
            subscribed = True

        while True:
            try:
                why = await self._connected(on_subscribed)
            except OSError as exc:
                why = failure_of(exc)
            except trio.TooSlowError:
                why = "no answer"
            self.seen.unanswered += len(self._owed)
            self._owed.clear()
            if why is None:
                return
            self.seen.closes[why] += 1
            await trio.sleep(BACK_AFTER_S)
            self.seen.reconnects += 1

    async def _connected(self, on_subscribed: Any) -> str | None:
        """One connection's life; returns why the server ended it, None if we did."""
        with cut_at_end(await self._open()) as stream:
            request = self.target.upgrade(f"/ws?client_id=honest-{self.number}")
            why: list[str] = []
            try:
                with trio.fail_after(CONNECT_S):
                    await stream.send_all(request)
                    status, rest = await read_head(stream)
                if status != 101:
                    return f"HTTP {status}"
                async with trio.open_nursery() as nursery:
                    ready = trio.Event()
                    nursery.start_soon(self._read, stream, rest, ready, why, nursery.cancel_scope)
                    subscribe = {"type": "subscribe", "id": "follow", "payload": {"topic": "tokens"}}
                    await stream.send_all(frame(TEXT, orjson.dumps(subscribe)))
                    await ready.wait()
                    on_subscribed()
                    await self._write(stream)
                    with trio.move_on_after(OWED_S):
                        while self._owed:  # noqa: ASYNC110 - twenty times a second, once, at the end
                            await trio.sleep(0.05)
                    nursery.cancel_scope.cancel()
            except* trio.BrokenResourceError as group:
                why += [failure_of(exc) for exc in group.exceptions if isinstance(exc, trio.BrokenResourceError)][:1]
        return why[0] if why else None

    async def _open(self) -> trio.SocketStream:
        with trio.fail_after(CONNECT_S):
            return await self.target.connect()

    async def _write(self, stream: trio.SocketStream) -> None:
        """A command every second, at this client's own place within it."""
        rng = Random(self.number)
        # From here on, so that none are made up for that a break has cost.
        due = trio.current_time() + (self.number + rng.random()) / self.of * EVERY_S
        while not self.stopping.is_set():
            with trio.move_on_at(due):
                await self.stopping.wait()
                return
            due += EVERY_S
            type_, payload = self._command()
            id_ = f"h{self.number}-{self._sent}"
            self._sent += 1
            self.seen.sent += 1
            at = monotonic()
            if type_ == "token.create":
                payload["metadata"] = {MARK: at}
            data = frame(TEXT, orjson.dumps({"type": type_, "id": id_, "payload": payload}))
            self._owed[id_] = (type_, at)
            await stream.send_all(data)

    def _command(self) -> tuple[str, dict[str, Any]]:
        type_ = MIX[(self.number + self._sent) % len(MIX)]
        if type_ == "token.get":
            if self._token_id is not None:
                return type_, {"token_id": self._token_id}
            type_ = "ping"
        if type_ == "publish":
            return type_, {"topic": f"honest.{self.number}", "type": "said", "payload": {"by": self.number}}
        return type_, {}

    async def _read(
        self, stream: trio.SocketStream, data: bytes, ready: trio.Event, why: list[str], scope: trio.CancelScope
    ) -> None:
        frames = Frames()
        try:
            while True:
                for opcode, payload in frames.feed(data):
                    if opcode == TEXT:
                        self._hear(orjson.loads(payload), ready)
                    elif opcode == PING:
                        await stream.send_all(frame(PONG, payload))
                    elif opcode == CLOSE:
                        why.append(f"closed {int.from_bytes(payload[:2], 'big')}")
                        return
                data = bytes(await stream.receive_some())
                if not data:
                    why.append("cut")
                    return
        finally:
            scope.cancel()

    def _hear(self, message: dict[str, Any], ready: trio.Event) -> None:
        now = monotonic()
        if "topic" in message:
            at = message["payload"].get("metadata", {}).get(MARK)
            if at is None:
                self.seen.foreign_events += 1
            else:
                self.seen.deliveries.append((at, now - at))
            return
        if message["type"] == "error":
            self.seen.errors[message["payload"]["code"]] += 1
        if message.get("reply_to") == "follow":
            ready.set()
        owed = self._owed.pop(message.get("reply_to", ""), None)
        if owed is None:
            return
        type_, at = owed
        self.seen.replies[type_].append((at, now - at))
        if message["type"] == "token.created":
            self._token_id = message["payload"]["token_id"]


async def _all(clients: int, targets: list[Target], ready: Path) -> Seen:
    seen, stopping = Seen(), trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for number in range(clients):
                honest = Honest(number, clients, targets[number % len(targets)], seen, stopping)
                await nursery.start(honest.run)
            # A pause to tidy up would be taken for the server's.
            gc.collect()
            gc.freeze()
            gc.disable()
            ready.touch()
            async for _ in signals:
                break
            stopping.set()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--tokens", type=Path, help="a token a line")
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    tokens = given.tokens.read_text().split() if given.tokens else []
    headers = [{"Authorization": f"Bearer {token}"} for token in tokens] or [{}]
    targets = [Target(given.port, given.source, headers=header) for header in headers]
    seen = trio.run(_all, given.clients, targets, given.ready)
    made = given.report.with_suffix(".part")
    made.write_bytes(orjson.dumps(attrs.asdict(seen)))
    made.replace(given.report)


if __name__ == "__main__":
    main()
