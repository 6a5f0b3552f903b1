"""How fast the driver is: `python -m tests.postgres.bench [conninfo]`. Not a test."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.pool import open_pool

ROUNDS = 10_000


async def repeat(work: Callable[[], Awaitable[object]], rounds: int) -> None:
    for _ in range(rounds):
        await work()


async def measure(name: str, work: Callable[[], Awaitable[object]], rounds: int = ROUNDS) -> None:
    started = time.perf_counter()
    await repeat(work, rounds)
    print(f"{name:42} {rounds / (time.perf_counter() - started):10,.0f} /s")


async def bench(conninfo: str) -> None:
    async with open_pool(conninfo, max_size=8, connect_s=5, query_s=600) as pool:
        async with pool.connection() as connection:
            cursor = connection.cursor()
            query = "select relname, relkind from pg_class where oid = %s and relkind = %s"
            for threshold in (None, 5, 1, 0):
                connection.prepare_threshold = threshold
                await measure(f"select 1, prepare_threshold={threshold}", lambda: connection.execute("select 1"))
                await measure(
                    f"select by key, prepare_threshold={threshold}", lambda: connection.execute(query, [1259, "r"])
                )
            await measure("select 1, same cursor", lambda: cursor.execute("select 1"))
            started = time.perf_counter()
            async with connection.pipeline():
                for _ in range(ROUNDS):
                    await connection.execute("select 1")
            print(f"{'pipeline of select 1':42} {ROUNDS / (time.perf_counter() - started):10,.0f} /s")

        async def borrow() -> None:
            async with pool.connection() as connection:
                await connection.execute("select 1")

        await measure("pool.connection() and select 1", borrow)

        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(repeat, borrow, ROUNDS // 16)
        print(f"{'16 tasks on 8 connections':42} {ROUNDS / (time.perf_counter() - started):10,.0f} /s")


async def main() -> None:
    if sys.argv[1:]:
        await bench(sys.argv[1])
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        async with embedded_postgres(Path(directory) / "data", start_s=30) as conninfo:
            await bench(conninfo)


if __name__ == "__main__":
    trio.run(main)
