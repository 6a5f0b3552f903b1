"""Honest clients that come while others attack, in a process of their own: `python -m attack_parts.arrivals`.

Promises: one comes every second, whether or not the last one was let in; what is measured is from before it connects to
its greeting, and it leaves at once. Ends by itself, at most PATIENCE_S after its time. Runs on Trio.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from time import monotonic

import attrs
import orjson
import trio

from attack_parts.wire import TEXT, Frames, Target, cut_at_end, failure_of, read_head

EVERY_S = 1.0
PATIENCE_S = 10.0


@attrs.define
class Arrivals:
    """Seconds until each was greeted, and why others were not."""

    greeted_s: list[float] = attrs.field(factory=list)
    turned_away: Counter[str] = attrs.field(factory=Counter)

    async def come(self, target: Target) -> None:
        """One comes."""
        at, why = monotonic(), "no answer"
        with trio.move_on_after(PATIENCE_S):
            why = await _greeted(target)
        if why:
            self.turned_away[why] += 1
        else:
            self.greeted_s.append(monotonic() - at)


async def _greeted(target: Target) -> str:
    """Empty when the greeting is here, else what came instead."""
    try:
        with cut_at_end(await target.connect()) as stream:
            await stream.send_all(target.upgrade())
            status, data = await read_head(stream)
            if status != 101:
                return f"HTTP {status}"
            frames = Frames()
            while True:
                if found := frames.feed(data):
                    return "" if found[0][0] == TEXT else "closed"
                data = bytes(await stream.receive_some())
                if not data:
                    return "cut"
    except (OSError, trio.BrokenResourceError) as exc:
        return failure_of(exc)


async def _all(target: Target, seconds: float) -> Arrivals:
    arrivals = Arrivals()
    async with trio.open_nursery() as nursery:
        for _ in range(max(1, int(seconds / EVERY_S))):
            nursery.start_soon(arrivals.come, target)
            await trio.sleep(EVERY_S)
    return arrivals


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tokens", type=Path, help="a token a line; the first is used")
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    headers = {"Authorization": f"Bearer {given.tokens.read_text().split()[0]}"} if given.tokens else {}
    arrivals = trio.run(_all, Target(given.port, given.source, headers=headers), given.seconds)
    given.report.write_bytes(orjson.dumps(attrs.asdict(arrivals)))


if __name__ == "__main__":
    main()
