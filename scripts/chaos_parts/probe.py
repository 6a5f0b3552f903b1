"""When it works again: a fresh command at each node, over fresh connections, is answered, and its event is at all.

Promises: each try is new connections through the proxies, as a client's would be; what it sends is in a journal and
in the account like any writer's. Runs on Trio. Imports ngos.client.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from random import Random

import trio

from chaos_parts.journal import Journal
from chaos_parts.mix import MARK, TOPICS, command_id
from chaos_parts.processes import NotRecovered
from chaos_parts.resend import Line
from ngos.client.errors import SessionError
from ngos.client.trio import Client, Subscription, connect

TOPIC = TOPICS[0]
TRY_S = 3.0
AGAIN_S = 0.02
SETTLE_S = 30.0
SHOUTS = 80
SHOUT_BYTES = 30_000


class Probe:
    """One at a time asks with `works`."""

    def __init__(self, urls: Sequence[str], journal: Path) -> None:
        self._urls = urls
        self._journal = Journal.open(journal, "probe")

    @property
    def journal(self) -> Journal:
        return self._journal

    async def works(self, seconds: float, *, without: int | None = None) -> int:
        """Wait until each node answers a command whose event arrives at all; return the last one's number on TOPIC.

        `without`: the place of a node of which nothing is expected. Raises NotRecovered after so many seconds.
        """
        urls = [url for place, url in enumerate(self._urls) if place != without]
        reason = "no answer"
        with trio.move_on_after(seconds):
            while True:
                with trio.move_on_after(TRY_S):
                    try:
                        return await self._try(urls)
                    except SessionError as exc:
                        reason = str(exc)
                await trio.sleep(AGAIN_S)
        raise NotRecovered(f"no command was answered, and its event seen, within {seconds:g} s: {reason}")

    async def shout(self) -> None:
        """Publish so much that who does not read is noticed. Returns when all is answered; may be cancelled."""
        async with trio.open_nursery() as nursery:
            line = Line(self._urls, self._journal, Random())
            nursery.start_soon(line.run)
            for _ in range(SHOUTS):
                id_ = self._next_id()
                payload = {"topic": TOPIC, "type": "shouted", "payload": {MARK: id_, "text": "x" * SHOUT_BYTES}}
                await line.first(id_, "publish", payload)
            nursery.cancel_scope.cancel()

    async def settle(self) -> None:
        """Send again what was never answered, until it is. Raises NotRecovered."""
        with trio.move_on_after(SETTLE_S):
            async with trio.open_nursery() as nursery:
                line = Line(self._urls, self._journal, Random())
                nursery.start_soon(line.run)
                for record in self._journal.unanswered():
                    await line.again(record)
                nursery.cancel_scope.cancel()
            return
        raise NotRecovered(f"the probe's commands were not all answered within {SETTLE_S:g} s")

    async def _try(self, urls: Sequence[str]) -> int:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._connect(url)) for url in urls]
            subscribed = [await stack.enter_async_context(client.subscribe(TOPIC)) for client in clients]
            ids = {await self._publish(client) for client in clients}
            return max([await _last_of(ids, events) for events in subscribed])

    def _connect(self, url: str) -> AbstractAsyncContextManager[Client]:
        return connect(url, client_id=self._journal.client_id, connect_s=TRY_S, request_s=TRY_S, reconnect=False)

    async def _publish(self, client: Client) -> str:
        id_ = self._next_id()
        payload = {"topic": TOPIC, "type": "probed", "payload": {MARK: id_}}
        self._journal.append(send=id_, type="publish", payload=payload)
        reply = await client.request("publish", payload, id=id_)
        self._journal.append(answer=id_, type=reply.type, payload=reply.payload, replayed=reply.replayed)
        return id_

    def _next_id(self) -> str:
        return command_id("probe", len(self._journal.records))


async def _last_of(ids: set[str], events: Subscription) -> int:
    """Read until all of these have come; return the number of the last."""
    missing = set(ids)
    async for event in events:
        missing.discard(event.payload.get(MARK, ""))
        if not missing:
            assert event.seq is not None
            return event.seq
    raise AssertionError("a subscription does not end")
