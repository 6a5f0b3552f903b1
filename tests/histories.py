"""A history with every kind of change, made by a real server, and the journal of somebody who watched it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import trio
from attrs import frozen

from ngos.client.errors import CommandError
from ngos.client.feed import Event
from ngos.client.trio import Client, connect
from ngos.journal import Journal, open_journal
from ngos.protocol.messages import Subscribed
from ngos.verify import Report, verify
from ngos.watch import watch
from tests.servers import running_server

TOPICS: Final = ("tokens", "graph", "experience", "chat.x", "fleeting")
LAST: Final = {"tokens": 7, "graph": 8, "experience": 5, "chat.x": 3}
"""The last number of each durable topic."""
REPLIES: Final = 24
NUL: Final = {"nul": "\0", "big": 2**64 - 1, "f": 1e300, "ü": [None, {"a": -0.0}]}
DURABLE: Final = ("chat.*",)


class Noticing:
    """A journal that also sets an event when it has opened the last of the topics."""

    def __init__(self, journal: Journal, last: str, ready: trio.Event) -> None:
        self._journal = journal
        self._last = last
        self._ready = ready
        self.start = journal.start
        self.write = journal.write

    def opened(self, topic: str, opening: Subscribed) -> None:
        self._journal.opened(topic, opening)
        if topic == self._last:
            self._ready.set()


@frozen
class History:
    """A database with a history in it, this test's own, and the journal of it."""

    url: str
    journal: Path

    def execute(self, statement: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute(statement)

    def verify(self, *journals: Path, complete: bool = False) -> Report:
        return trio.run(partial(verify, self.url, journals, complete=complete))


def faults(report: Report) -> dict[str, int]:
    return {check.name: check.faults for check in report.checks if check.faults}


def texts(report: Report) -> str:
    return "\n".join(text for check in report.checks for text in check.first)


async def make_history(database_url: str, journal_file: Path) -> None:
    """Make it; the journal has all of it."""

    def nothing(_event: Event) -> None: ...

    with open_journal(journal_file, TOPICS) as journal:
        async with (
            running_server(database_url, durable_topics=DURABLE) as server,
            connect(server.url) as watcher,
            connect(server.url, client_id="maker") as maker,
            trio.open_nursery() as nursery,
        ):
            ready = trio.Event()
            noticing: Any = Noticing(journal, TOPICS[-1], ready)
            total = sum(LAST.values()) + 1
            nursery.start_soon(lambda: watch(watcher, TOPICS, total, nothing, journal=noticing))
            await ready.wait()
            await live_through(maker)


async def live_through(client: Client) -> None:
    """Every kind of change, and every kind of refusal."""
    a, b, c, d = [(await client.create_token(type=name, coord_x=[0.1, 2], metadata=NUL)).token_id for name in "abcd"]
    await client.update_token(a, weight=2, flags=2**32 - 1)
    await client.update_token(a, metadata={"nul": "\0", "then": True}, coord_z=[3.0])
    edge = await client.connect_tokens(a, b)
    await client.connect_tokens(b, c, type="next", weight=0.1, bidirectional=True, metadata=NUL)
    await client.connect_tokens(c, d)
    await client.connect_tokens(d, a)
    await client.disconnect_tokens(connection_id=edge.connection_id)
    await client.connect_tokens(a, b, metadata={"again": "\0"})
    for state in (None, {"nul": "\0"}, [1, 2.5]):
        await client.record_experience("step", token_id=d, trajectory_id="way", state_before=state, action="go")
    await client.record_experience("alone", reward=1, state_after=False, metadata=NUL)
    await client.record_experience("alone")
    await client.delete_token(d)  # and the edges c-d and d-a
    for text in ("one", "\0", "three"):
        await client.publish("chat.x", "said", {"text": text})
    assert not await client.delete_token(d)
    assert await client.disconnect_tokens(c, a) is None
    try:
        await client.connect_tokens(a, b)
    except CommandError as exc:
        assert "conflict" == exc.code
    await client.publish("fleeting", "said")
