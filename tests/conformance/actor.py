"""The actor of both Python shells, all but the loop: orders in, reports out (see `tests.conformance`)."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from attrs import define, field

from ngos import __version__
from ngos.client import (
    Callbacks,
    CommandError,
    ConnectFailed,
    ConnectionLost,
    Event,
    GapError,
    NotFound,
    SessionError,
)
from ngos.client.backoff import Backoff
from ngos.client.client import Client
from ngos.client.loop import Lot
from ngos.client.subscription import Subscription
from ngos.protocol.codec import Envelope, MessageError
from ngos.protocol.converters import WRITER

Order = dict[str, Any]
OPTIONS = ("client_id", "token", "reconnect", "request_s", "connect_s", "queue_bytes")
EVENT = ("type", "topic", "seq", "epoch", "sender_id", "payload")
OPENING = ("durable", "epoch", "seq", "recovered", "replay")


@define
class _Followed:
    """A subscription, and whether it is read."""

    events: Subscription
    lot: Lot
    held: bool = False


@define
class _Held:
    """A client, until it is told to go."""

    client: Client
    lot: Lot
    leaving: bool = False
    subscriptions: dict[str, _Followed] = field(factory=dict)


class Actor:
    """Does what orders say, with the clients of one shell."""

    def __init__(
        self, name: str, connect: Callable[..., AbstractAsyncContextManager[Client]], lot: Callable[[], Lot]
    ) -> None:
        """`lot` makes one of the shell's loop."""
        self._connect = connect
        self._lot = lot
        self._held: dict[str, _Held] = {}
        report({"ready": {"client": name, "version": __version__, "tells_refusals": True}})

    async def do(self, line: bytes) -> None:
        """Do one order; what it does before it waits is in the order of the calls."""
        order = orjson.loads(line)
        try:
            match order["do"]:
                case "connect":
                    await self._hold(order)
                case "subscribe":
                    await self._follow(order)
                case _:
                    answer(order, await getattr(self, "_" + order["do"])(order))
        except Exception as exc:
            report({"n": order["n"], "error": described(exc)})

    async def _hold(self, order: Order) -> None:
        """Be connected until `disconnect`, whose answer this is too."""
        name = order["client"]
        waits = order.get("wait", True)
        if not waits:
            answer(order, {})
        options = {key: order[key] for key in OPTIONS if order.get(key) is not None}
        dice = order.get("dice", 0.0)
        backoff = Backoff(lambda low, high: low + dice * (high - low))
        if tokens := order.get("tokens"):
            options["token"] = asked(name, tokens)
        async with self._connect(order["url"], backoff=backoff, callbacks=told(name), **options) as client:
            held = self._held[name] = _Held(client, self._lot())
            if waits:
                answer(order, {"connection_id": str(client.connection_id), "client_id": client.client_id})
            while not held.leaving:
                await held.lot.park()
        del self._held[name]
        held.lot.unpark_all()

    async def _disconnect(self, order: Order) -> Any:
        held = self._held[order["client"]]
        held.leaving = True
        held.lot.unpark_all()
        await held.lot.park()
        return {}

    async def _state(self, order: Order) -> Any:
        return self._held[order["client"]].client.state.value

    async def _request(self, order: Order) -> Any:
        client = self._held[order["client"]].client
        reply = await client.request(order["type"], order.get("payload") or {}, id=order.get("id"))
        return envelope(reply)

    async def _call(self, order: Order) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._held[order["client"]].client, order["method"])
        return WRITER.unstructure(await method(**order["args"]))

    async def _follow(self, order: Order) -> None:
        """Subscribe, and report events until the subscription is over."""
        held, name = self._held[order["client"]], order["sub"]
        events = held.client.subscribe(order["topic"], since=order.get("since"), epoch=order.get("epoch"))
        followed = _Followed(events, self._lot())
        async with events:
            held.subscriptions[name] = followed
            answer(order, {key: getattr(events.opening, key) for key in OPENING})
            try:
                while True:
                    while followed.held:
                        await followed.lot.park()
                    event: Event = await anext(events)
                    told_of = {key: getattr(event, key) for key in EVENT}
                    report({"client": order["client"], "sub": name, "event": told_of})
            except StopAsyncIteration:
                pass
            except SessionError as exc:
                report({"client": order["client"], "sub": name, "ended": described(exc)})

    async def _unsubscribe(self, order: Order) -> Any:
        await self._held[order["client"]].subscriptions[order["sub"]].events.aclose()
        return {}

    async def _read(self, order: Order) -> Any:
        followed = self._held[order["client"]].subscriptions[order["sub"]]
        followed.held = order["hold"]
        followed.lot.unpark_all()
        return {}


def report(what: dict[str, Any]) -> None:
    """Write a line at once."""
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


def answer(order: Order, value: Any) -> None:
    report({"n": order["n"], "ok": value})


def envelope(reply: Envelope) -> dict[str, Any]:
    fields = WRITER.unstructure(reply)
    return {name: value for name, value in fields.items() if value is not None and value is not False}


def asked(name: str, tokens: list[str]) -> Callable[[], Awaitable[str]]:
    """A function that has one token after the other, and the last for ever."""

    async def token() -> str:
        report({"client": name, "callback": "asked"})
        return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    return token


def told(name: str) -> Callbacks:
    """Callbacks that are reports."""

    def disconnected(lost: ConnectionLost | ConnectFailed, next_s: float | None) -> None:
        code = lost.code if isinstance(lost, ConnectionLost) else (lost.lost.code if lost.lost else 1006)
        report({"client": name, "callback": "disconnected", "code": code, "next_s": next_s})

    return Callbacks(
        connected=lambda greeting: report(
            {"client": name, "callback": "connected", "connection_id": str(greeting.connection_id)}
        ),
        disconnected=disconnected,
        resumed=lambda topic, replay: report({"client": name, "callback": "resumed", "topic": topic, "replay": replay}),
        gap=lambda error: report({"client": name, "callback": "gap", **gap(error)}),
    )


def gap(error: GapError) -> dict[str, Any]:
    now = None if error.now is None else {"epoch": error.now[0], "seq": error.now[1]}
    return {"topic": error.topic, "seq": error.seq, "epoch": error.epoch, "now": now}


def described(exc: Exception) -> dict[str, Any]:
    """An exception as a report has it."""
    fields: dict[str, Any] = {}
    kind = type(exc).__name__
    match exc:
        case ConnectFailed():
            fields = {"status": exc.status}
        case ConnectionLost():
            fields = {"code": exc.code}
        case CommandError():
            fields = {
                "code": exc.code,
                "retryable": exc.retryable,
                "details": exc.details,
                "retry_after_s": exc.retry_after_s,
            }
        case NotFound():
            fields = {"token_id": str(exc.token_id)}
        case GapError():
            fields = gap(exc)
        case MessageError():
            pass
        case ValueError() | TypeError():
            kind = "BadArgument"
        case _:
            pass
    return {"kind": kind, "message": str(exc), **fields}
