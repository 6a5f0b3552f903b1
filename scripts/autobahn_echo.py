"""An echo on our transport, and nothing more: what `scripts/autobahn` tests. `autobahn_echo.py [--plain-asgi]`.

Promises: text comes back as text and binary as binary, over the FrameChannel, or with `--plain-asgi` over ASGI's
receive and send. Listens on a free port of the loopback, says its URL in the first line of stdout, and ends when its
stdin does: so it cannot outlive who started it.
"""

from __future__ import annotations

import socket
import sys
from functools import partial
from typing import Any

import structlog
import trio
from websockets.frames import Frame, Opcode

from ngos.gateway import frames
from ngos.gateway.channel import FrameChannel
from ngos.gateway.listener import serve
from ngos.gateway.server import ServerConfig
from ngos.gateway.wire import text_frame

MESSAGE_BYTES = 64 * 1024 * 1024
"""Four times the largest message of any case."""
CLOSE_S = 5.0


async def over_frames(scope: Any, receive: Any, send: Any) -> None:
    """Echo over the extension."""
    assert scope["type"] == "websocket"  # to raise is how an ASGI app says that it has no lifespan
    channel: FrameChannel = scope["extensions"][frames.EXTENSION].take()
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    try:
        while True:
            message = await channel.receive()
            if message.is_text:
                await channel.sender.send(text_frame(message.data, channel.deflate_bits))
            else:
                await channel.sender.send(Frame(Opcode.BINARY, message.data).serialize(mask=False))
    except trio.EndOfChannel:
        await send({"type": "websocket.close"})


async def over_asgi(scope: Any, receive: Any, send: Any) -> None:
    """Echo as any ASGI app would, knowing nothing of the extension."""
    assert scope["type"] == "websocket"  # as above
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(message | {"type": "websocket.send"})


async def main(app: Any) -> None:
    """Serve `app` until stdin ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    frames.install(deflate=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        config = ServerConfig()
        config.loglevel = "ERROR"
        config.graceful_timeout = CLOSE_S
        config.websocket_max_message_size = MESSAGE_BYTES
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, app, config, listener, trio.sleep_forever))
            sys.stdout.write(f"ws://127.0.0.1:{listener.getsockname()[1]}\n")
            sys.stdout.flush()
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, over_asgi if "--plain-asgi" in sys.argv[1:] else over_frames)
