"""What ngos is measured against: FastAPI and asyncpg, one row inserted per message, committed before its reply.

Promises: the fast way of their documentation. uvicorn on uvloop with `--ws websockets-sansio`, orjson, asyncpg's pool
and its automatically prepared statement, autocommit. Each message is a task, as many at once as the pool has
connections; replies come in any order. Also tried: lock-step per connection, a third of the rate at 1x16 and about even
at 64x16; unbounded tasks, twice the p99 at 64x16 and rates within the noise; pools of 10, 24 and 64, not better.
Checks nothing that it is sent, writes no event, keeps no order: it does less than ngos.
"""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import orjson
from fastapi import FastAPI, WebSocket

INSERT = """insert into tokens (token_id, type, weight, flags, x, y, z, metadata, version, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, 1, now(), now()) returning version, created_at, updated_at"""
POOL, free = 16, asyncio.Semaphore(16)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=POOL, max_size=POOL) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
def readyz() -> dict[str, str]:
    return {"status": "ready"}


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    async def create(text: str) -> None:
        message = orjson.loads(text)
        given, token_id = message["payload"], uuid.uuid4()
        kind, weight, flags = given.get("type", "default"), given.get("weight", 1.0), given.get("flags", 0)
        points, metadata = [given[f"coord_{axis}"] for axis in "xyz"], given.get("metadata", {})
        row = await websocket.app.state.pool.fetchrow(
            INSERT, token_id, kind, weight, flags, *points, orjson.dumps(metadata).decode()
        )
        token = {"token_id": token_id, "type": kind, "weight": weight, "flags": flags, "metadata": metadata}
        token |= {"coordinates": dict(zip("xyz", points, strict=True)), **row}
        reply = {"id": str(uuid.uuid4()), "type": "token.created", "timestamp": time.time_ns() // 1_000_000}
        await websocket.send_text(orjson.dumps(reply | {"reply_to": message["id"], "payload": token}).decode())

    await websocket.accept()
    async with asyncio.TaskGroup() as tasks:
        async for text in websocket.iter_text():
            await free.acquire()
            tasks.create_task(create(text)).add_done_callback(lambda _: free.release())
