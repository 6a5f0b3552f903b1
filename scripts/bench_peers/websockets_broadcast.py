"""The `websockets` library's asyncio server on uvloop, with its own `broadcast`, the fast way of its documentation.

`broadcast` writes to all without waiting; texts stay bytes both ways (`decode=False`, `text=True`), and compression
is off. Less than ngos: no envelope, no topics; a client that does not read is cut only by the keepalive, and until
then its messages pile up in memory.
"""

import sys

import uvloop
from websockets import ConnectionClosed
from websockets.asyncio.server import ServerConnection, broadcast, serve

subscribers: set[ServerConnection] = set()


async def handle(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    role = websocket.request.path.rpartition("=")[2]
    if role == "sub":
        subscribers.add(websocket)
    try:
        while True:
            message = await websocket.recv(decode=False)
            if role == "pub":
                broadcast(subscribers, message, text=True)
            else:
                await websocket.send(message, text=True)
    except ConnectionClosed:
        pass
    finally:
        subscribers.discard(websocket)


async def main(port: int) -> None:
    async with serve(handle, "127.0.0.1", port, compression=None, backlog=1000) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
