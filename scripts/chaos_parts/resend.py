"""A client that sends a command, with the same id, until it is answered.

Promises: what is unanswered is sent again on a new connection or after a retryable error, with bounded backoff and
jitter, for as long as the caller waits; each sending and each reply is in the journal first. Nothing else is sent.
Where there are several nodes, each new connection is to the next one.

There are two ways to send again after a lost connection: by ourselves, on a connection that ends when it breaks; or
by `ngos.client`, which comes back by itself. A journal says which (`steady`), and each writer tests one.

Runs on Trio. Imports ngos.client.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from random import Random
from typing import Any

import trio

from chaos_parts.journal import Answer, Journal, Record
from chaos_parts.mix import MARK, TWIST
from ngos.client.errors import CommandError, ConnectFailed, ConnectionLost, RequestTimeout
from ngos.client.trio import Client, connect
from ngos.protocol.codec import Envelope

CONNECT_S = 3.0
REQUEST_S = 4.0
STEADY_S = 15.0
BACKOFF_S = 0.05
BACKOFF_AT_MOST_S = 1.0


class Line:
    """A connection to the server, or the next one. `run` keeps it; any number of tasks send over it."""

    def __init__(self, urls: Sequence[str], journal: Journal, rng: Random) -> None:
        self._urls = urls
        self._node = 0
        self._journal = journal
        self._rng = rng
        self._client: Client | None = None
        self._up = trio.Event()
        self._broken = trio.Event()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        for node, url in cycle(enumerate(self._urls)):
            self._node = node
            try:
                async with connect(
                    url,
                    client_id=self._journal.client_id,
                    connect_s=CONNECT_S,
                    request_s=STEADY_S if self._journal.steady else REQUEST_S,
                    reconnect=self._journal.steady,
                ) as client:
                    failures = 0
                    self._client = client
                    self._up.set()
                    try:
                        await self._broken.wait()
                    finally:
                        self._client = None
                        self._up, self._broken = trio.Event(), trio.Event()
            except ConnectFailed:
                failures += 1
            await self._back_off(failures)

    async def first(self, id_: str, type_: str, payload: dict[str, Any]) -> Answer:
        """Send a command for the first time; return when it is answered."""
        self._journal.append(send=id_, type=type_, payload=payload)
        return await self._settle(self._journal.records[id_])

    async def again(self, record: Record) -> Answer:
        """Send a command once more, answered or not; return when it is answered."""
        self._journal.append(again=record.id)
        return await self._settle(record)

    async def twist(self, record: Record) -> None:
        """Use the id of a command for another one, and write down what the server thinks of it."""
        payload = {"metadata": {MARK: record.id, TWIST: True}, "weight": 0.125}
        reply = await self._request(record.id, "token.create", payload)
        if reply is not None:
            self._journal.append(twist=record.id, code=reply.payload.get("code", reply.type))

    async def _settle(self, record: Record) -> Answer:
        failures = 0
        while True:
            reply = await self._request(record.id, record.type, record.payload)
            if reply is not None:
                answer = {"type": reply.type, "payload": reply.payload, "replayed": reply.replayed}
                self._journal.append(answer=record.id, **answer, node=self._node)
                return record.answers[-1]
            failures += 1
            await self._back_off(failures)
            self._journal.append(again=record.id)

    async def _request(self, id_: str, type_: str, payload: dict[str, Any]) -> Envelope | None:
        """Send it once. None: no reply, or one that says to send it again."""
        while self._client is None:
            await self._up.wait()
        client = self._client
        try:
            return await client.request(type_, payload, id=id_)
        except CommandError as exc:
            if not exc.retryable:
                return exc.reply
            why = exc.code
        except ConnectionLost as exc:
            why = f"lost {exc.code}"
            self._drop(client)
        except RequestTimeout:
            why = "timeout"
            if not self._journal.steady:
                self._drop(client)
        self._journal.append(trouble=id_, why=why)
        return None

    def _drop(self, client: Client) -> None:
        """This connection is no good. Another task may have said so before."""
        if self._client is client:
            self._broken.set()

    async def _back_off(self, failures: int) -> None:
        await trio.sleep(self._rng.uniform(0, min(BACKOFF_AT_MOST_S, BACKOFF_S * 2**failures)))
