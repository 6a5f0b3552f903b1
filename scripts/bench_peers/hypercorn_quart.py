"""Hypercorn and Quart-Trio as they come: what ngos stands on, without its own frames.

Fan-out is a memory channel per client, as Quart's documentation shows it with queues. When a client's channel is
full, the publisher waits: nothing is lost, and a client that does not read holds up all others. Less than ngos: no
envelope, no topics.
"""

import trio
from quart import websocket
from quart_trio import QuartTrio

app = QuartTrio(__name__)
subscribers: set[trio.MemorySendChannel[str]] = set()
CHANNEL = 100


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}


@app.websocket("/ws")
async def ws() -> None:
    await websocket.accept()
    role = websocket.args.get("role", "echo")
    if role == "sub":
        await deliver()
    while True:
        text = await websocket.receive()
        if role == "pub":
            for subscriber in list(subscribers):
                await subscriber.send(text)
        else:
            await websocket.send(text)


async def deliver() -> None:
    send, receive = trio.open_memory_channel[str](CHANNEL)
    async with send, receive:
        subscribers.add(send)
        try:
            async for text in receive:
                await websocket.send(text)
        finally:
            subscribers.discard(send)
