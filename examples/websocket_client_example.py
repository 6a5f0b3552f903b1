"""Follow the tokens of a server, and create one: `python examples/websocket_client_example.py [URL]`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from ngos.client.websocket import NeuroGraphWebSocketClient

__all__ = ["NeuroGraphWebSocketClient"]


async def main(url: str) -> None:
    client = NeuroGraphWebSocketClient(url)
    came = asyncio.Event()

    def created(message: dict[str, Any]) -> None:
        # The reply to our own command and the event have the same type; an event has a topic.
        if "topic" in message:
            print("event", message["seq"], message["payload"]["token_id"])  # noqa: T201
            came.set()

    client.on("token.created", created)
    client.on("error", lambda message: print("error", message["payload"]["message"]))  # noqa: T201
    await client.connect()
    await client.send("subscribe", {"topic": "tokens"})
    await client.send("token.create", {"type": "demo", "coord_x": [1.0] + [0.0] * 7, "weight": 1.0})
    await came.wait()
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8000/ws"))
