"""`ngos watch`: events of topics as a live table, as lines, or as JSON for pipes. May import `ngos.client`,
`ngos.journal` and `ngos.terminal`.

What other clients sent is shown with control characters replaced: it could steer the terminal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from typing import Any, Final

import orjson
import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ngos.client import Callbacks, ConnectFailed, ConnectionLost
from ngos.client.feed import Event
from ngos.client.trio import Client, Subscription
from ngos.journal import Journal
from ngos.terminal import harmless

Show = Callable[[Event], None]
_SUMMARY_CHARACTERS: Final = 200


async def watch(
    client: Client, topics: tuple[str, ...], count: int | None, show: Show, *, journal: Journal | None = None
) -> None:
    """Call `show` for each event, in the order of its topic, until `count` were shown or for ever.

    With a journal each event is in it before it is shown, and the topics that it knows go on after its last ones.

    Raises, in a group, what subscribing and reading raise (CommandError, ConnectionLost, GapError, SlowSubscriber), and
    SetupError for a journal that can't be gone on with.
    """
    left = count

    async def follow(events: Subscription) -> None:
        nonlocal left
        async for event in events:
            if left == 0:
                return  # another topic's task had the last one
            if journal is not None:
                journal.write(event)
            show(event)
            if left is not None:
                left -= 1
                if left == 0:
                    nursery.cancel_scope.cancel()

    async def subscribe(topic: str) -> Subscription:
        start = None if journal is None else journal.start(topic)
        since, epoch = (None, None) if start is None else (start.seq, start.epoch)
        events = await subscriptions.enter_async_context(client.subscribe(topic, since=since, epoch=epoch))
        if journal is not None:
            journal.opened(topic, events.opening)
        return events

    async with AsyncExitStack() as subscriptions:
        # All are subscribed before the first is read, so that none is missed because of another.
        followed = [await subscribe(topic) for topic in topics]
        async with trio.open_nursery() as nursery:
            for events in followed:
                nursery.start_soon(follow, events)


def telling(say: Callable[[str], object]) -> Callbacks:
    """Call `say` with a line when the connection is lost, when it is there again, and for each topic that goes on.

    What ends the watching is not said here: it is raised.
    """
    connections = 0

    def connected(_established: object) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            say("connected again")

    def disconnected(lost: ConnectionLost | ConnectFailed, next_s: float | None) -> None:
        if next_s is not None:
            say(f"{harmless(str(lost))}; trying again in {next_s:.1f} s")

    def resumed(topic: str, replay: int) -> None:
        missed = "nothing was missed" if replay == 0 else f"{replay} missed event{'s' * (replay > 1)} first"
        say(f"{topic} goes on where it was, {missed}")

    return Callbacks(connected=connected, disconnected=disconnected, resumed=resumed)


def cells(event: Event) -> list[str]:
    """Return time, topic, seq, type, sender and summary, safe for a terminal."""
    try:
        time = datetime.fromtimestamp(event.timestamp_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, OSError, ValueError):
        time = "?"
    seq = "" if event.seq is None else str(event.seq)
    texts = (time, event.topic or "", seq, event.type, event.sender_id or "", summary(event.payload))
    return [harmless(text) for text in texts]


def summary(payload: dict[str, Any]) -> str:
    """Return the payload's fields in brief: ids shortened, inner objects left out."""
    parts = []
    length = 0
    for name, value in payload.items():
        if isinstance(value, dict | list):
            continue
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if name.endswith("_id") and len(text) == 36:
            text = text[:8]
        parts.append(f"{name}={text[:_SUMMARY_CHARACTERS]}")
        length += len(parts[-1])
        if length > _SUMMARY_CHARACTERS:
            break
    return "  ".join(parts)[:_SUMMARY_CHARACTERS]


def plain_line(event: Event) -> str:
    """Return the event as a line for people, without a table around it."""
    return "  ".join(cell for cell in cells(event) if cell)


@contextmanager
def live_table(console: Console, title: str) -> Iterator[Show]:
    """Draw the latest events, as many as the terminal has room for; what is called with each new one is yielded."""
    rows: deque[Event] = deque(maxlen=200)
    seen = 0

    def draw() -> Table:
        table = Table(title=Text(f"{title}: {seen} events"), title_justify="left", expand=True)
        for name, widest in (("time", 12), ("topic", 20), ("seq", 12), ("type", 24), ("sender", 20)):
            table.add_column(name, max_width=widest, no_wrap=True, overflow="ellipsis")
        table.add_column("summary", ratio=1, no_wrap=True, overflow="ellipsis")
        room = max(1, console.size.height - 6)
        for event in list(rows)[-room:]:
            table.add_row(*map(Text, cells(event)))
        return table

    with Live(get_renderable=draw, console=console, refresh_per_second=8):

        def show(event: Event) -> None:
            nonlocal seen
            rows.append(event)
            seen += 1

        yield show
