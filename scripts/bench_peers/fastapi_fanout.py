"""FastAPI's WebSockets as its documentation has them, on uvicorn with uvloop and `--ws websockets-sansio`.

Fan-out is a loop of awaits over a set of connections (a `ConnectionManager`); `asyncio.gather` over them was tried
and gave two thirds of the rate: a task per send. Less than ngos: no envelope, no topics, no limits; a client that
does not read holds up all others, or fills the memory.
"""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()
subscribers: set[WebSocket] = set()


@app.get("/readyz")
def readyz() -> dict[str, str]:
    return {"status": "ready"}


@app.websocket("/ws")
async def ws(websocket: WebSocket, role: str = "echo") -> None:
    await websocket.accept()
    if role == "sub":
        subscribers.add(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            if role == "pub":
                for subscriber in list(subscribers):
                    await subscriber.send_text(text)
            else:
                await websocket.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        subscribers.discard(websocket)
