"""A client that writes down when each event came, in a process of its own: `python -m chaos_parts.listener`.

Promises: a line for each event that says whose command it is, `{"id": "w0.7", "at": 1234.5}`, on the clock of the
journals. Whether it saw all of them is not its concern. Ends with SIGTERM. Runs on Trio. Imports ngos.client.
"""

from __future__ import annotations

import argparse
import signal
import time
from contextlib import AsyncExitStack
from io import RawIOBase
from pathlib import Path

import orjson
import trio

from chaos_parts.mix import MARK, WATCHED
from ngos.client.trio import Subscription, connect

READY = "listens"


async def main(given: argparse.Namespace) -> None:
    """Listen until SIGTERM."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals, given.journal.open("ab", buffering=0) as journal:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connect(given.url, client_id=given.client_id))
            subscribed = [await stack.enter_async_context(client.subscribe(topic)) for topic in WATCHED]
            async with trio.open_nursery() as nursery:
                for events in subscribed:
                    nursery.start_soon(_write_down, events, journal)
                print(READY, flush=True)
                async for _ in signals:
                    nursery.cancel_scope.cancel()


async def _write_down(events: Subscription, journal: RawIOBase) -> None:
    async for event in events:
        at = time.monotonic()
        mark = event.payload.get("metadata", event.payload).get(MARK)
        if isinstance(mark, str):
            journal.write(orjson.dumps({"id": mark, "at": round(at, 6)}) + b"\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--client-id", required=True)
    trio.run(main, parser.parse_args())
