"""The actor of the Trio shell: `python -m tests.conformance.actor_trio`."""

from __future__ import annotations

import os
import sys

import trio

from ngos.client.trio import connect
from tests.conformance.actor import Actor


async def main() -> None:
    actor = Actor("trio", connect, trio.lowlevel.ParkingLot)
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin, trio.open_nursery() as nursery:
        async for data in stdin:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                nursery.start_soon(actor.do, line)
                # Trio starts the tasks of one round in any order; orders are to begin in theirs.
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
