"""The actor of the asyncio shell: `python -m tests.conformance.actor_asyncio`."""

from __future__ import annotations

import asyncio
import sys

from ngos.client.asyncio import _Lot, connect
from tests.conformance.actor import Actor

LINE_BYTES = 1 << 24


async def main() -> None:
    actor = Actor("asyncio", connect, _Lot)
    stdin = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    tasks: set[asyncio.Task[None]] = set()
    while line := await stdin.readline():
        task = asyncio.create_task(actor.do(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(main())
