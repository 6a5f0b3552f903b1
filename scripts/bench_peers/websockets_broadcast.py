"""The `websockets` library's asyncio server on uvloop, with its own `broadcast`, the fast way of its documentation.

`broadcast` makes the frame once per connection and writes without waiting; compression is off, as its page on
memory and broadcast advises. Less than ngos: no envelope, no topics; a client that does not read is cut only by the
keepalive, and until then its messages pile up in memory.
"""

import argparse

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

subscribers: set[ServerConnection] = set()


async def handle(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    role = websocket.request.path.rpartition("=")[2]
    if role == "sub":
        subscribers.add(websocket)
    try:
        if role == "pub":
            async for message in websocket:
                broadcast(subscribers, message)
        else:
            async for message in websocket:
                await websocket.send(message)
    finally:
        subscribers.discard(websocket)


async def main(port: int) -> None:
    async with serve(handle, "127.0.0.1", port, compression=None, backlog=1000) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    uvloop.run(main(parser.parse_args().port))
