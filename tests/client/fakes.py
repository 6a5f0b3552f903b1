"""A scripted WebSocket server: greets as protocol.md section 1 says, then does what the test's script says."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

LIMITS = {"message_bytes": 65536, "subscriptions": 128, "in_flight": 256}
TIME = "2026-01-01T00:00:00.000000Z"


def greeting(**payload: Any) -> dict[str, Any]:
    """`connection.established` as an envelope; `payload` replaces fields."""
    return {
        "id": "g",
        "type": "connection.established",
        "timestamp": 1760000000000,
        "payload": {
            "connection_id": str(uuid4()),
            "client_id": "me",
            "timestamp": 1760000000000,
            "server": {"name": "ngos", "version": "0.1.0", "protocol": 1},
            "heartbeat": {"interval_ms": 25000, "timeout_ms": 10000},
            "limits": LIMITS,
            **payload,
        },
    }


def envelope(type_: str, payload: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A server's message; `fields` go into the envelope."""
    return {"id": str(uuid4()), "type": type_, "timestamp": 1760000000000, "payload": payload, **fields}


def subscribed(topic: str, **payload: Any) -> dict[str, Any]:
    """The payload of `subscribed`: the server's own topics are durable, but for `system`."""
    durable = topic in ("tokens", "graph", "experience")
    position = {"epoch": "0000000a", "seq": 0} if durable else {"epoch": None, "seq": None}
    return {
        "topic": topic,
        "success": True,
        "durable": durable,
        **position,
        "recovered": False,
        "replay": 0,
        **payload,
    }


def token(**payload: Any) -> dict[str, Any]:
    """A TOKEN."""
    zeros = [0.0] * 8
    defaults = {"type": "default", "weight": 1.0, "flags": 0, "metadata": {}, "version": 1}
    times = {"created_at": TIME, "updated_at": TIME}
    return {
        "token_id": str(uuid4()),
        **defaults,
        "coordinates": {"x": zeros, "y": zeros, "z": zeros},
        **times,
        **payload,
    }


class Peer:
    """The server's end of one connection."""

    def __init__(self, request: WebSocketRequest) -> None:
        self.request = request
        self.path = request.path
        self.headers = dict(request.headers)
        self.socket: WebSocketConnection

    async def accept(self, **payload: Any) -> None:
        self.socket = await self.request.accept()
        await self.send(greeting(**payload))

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send_message(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        command = json.loads(await self.socket.get_message())
        assert isinstance(command, dict)
        return command

    async def command(self) -> dict[str, Any]:
        """The next command that is no `ping`; those are answered: some clients measure by them."""
        while (command := await self.receive())["type"] == "ping":
            await self.reply(command, "pong", {"message_id": command["id"]})
        return command

    async def reply(self, command: dict[str, Any], type_: str, payload: dict[str, Any]) -> None:
        await self.send(envelope(type_, payload, reply_to=command["id"]))

    async def fail(
        self, command: dict[str, Any], code: str, message: str = "no", *, retryable: bool = False, **details: Any
    ) -> None:
        payload = {"code": code, "message": message, "original_message_id": command["id"], "retryable": retryable}
        await self.reply(command, "error", {**payload, "details": details})

    async def event(self, topic: str, type_: str, seq: int | None = None, **payload: Any) -> None:
        position = {} if seq is None else {"seq": seq, "epoch": "0000000a"}
        await self.send(envelope(type_, payload, topic=topic, sender_id="other", **position))

    async def agree(self, command: dict[str, Any], **payload: Any) -> None:
        """Answer a `subscribe` or an `unsubscribe`."""
        topic = command["payload"]["topic"]
        if command["type"] == "subscribe":
            await self.reply(command, "subscribed", subscribed(topic, **payload))
        else:
            await self.reply(command, "unsubscribed", {"topic": topic, "success": True})


Script = Callable[[Peer], Awaitable[None]]


async def serve(nursery: trio.Nursery, script: Script, *, accept: bool = True) -> str:
    """Run `script` for every connection, and then wait until the client leaves. Returns the URL."""

    async def handle(request: WebSocketRequest) -> None:
        peer = Peer(request)
        try:
            if accept:
                await peer.accept()
            await script(peer)
            while True:
                await peer.receive()
        except (ConnectionClosed, AttributeError):
            pass

    server = await nursery.start(serve_websocket, handle, "127.0.0.1", 0, None)
    return f"ws://127.0.0.1:{server.port}/ws"


async def idle(_peer: Peer) -> None:
    """Do nothing."""
    await trio.lowlevel.checkpoint()


async def pongs(peer: Peer) -> None:
    """Answer each command by `pong`."""
    while True:
        command = await peer.receive()
        await peer.reply(command, "pong", {"message_id": command["id"]})
