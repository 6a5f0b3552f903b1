"""Promise 2 as a client needs it: list, subscribe since the position of the list, and miss nothing."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import trio

from ngos.client.errors import CommandError, NotFound
from ngos.client.trio import Client, connect
from tests.servers import Running

State = dict[str, Any]
WRITES = 150


class Writers:
    """Tasks that change everything, for as long as a test needs them, and then a little."""

    def __init__(self, url: str, hub: str) -> None:
        self._url = url
        self._hub = hub
        self.progress = 0

    async def write(self, seed: int) -> None:
        source = random.Random(seed)
        tokens: list[str] = []
        async with connect(self._url) as client:
            for n in range(WRITES):
                try:
                    await self._change(client, source, tokens, n)
                except (NotFound, CommandError):
                    pass  # deleted, or connected, by another
                self.progress += 1

    async def _change(self, client: Client, source: random.Random, tokens: list[str], n: int) -> None:
        kind = source.choice(["create", "create", "update", "delete", "connect", "connect", "disconnect", "record"])
        if kind == "create" or not tokens:
            tokens.append(str((await client.create_token(metadata={"n": n})).token_id))
        elif kind == "update":
            await client.update_token(source.choice(tokens), weight=source.random())
        elif kind == "delete":
            await client.delete_token(tokens.pop(source.randrange(len(tokens))))
        elif kind == "connect":
            ends = [self._hub, source.choice(tokens)]
            source.shuffle(ends)
            await client.connect_tokens(ends[0], ends[1], type=source.choice("ab"))
        elif kind == "disconnect":
            await client.disconnect_tokens(self._hub, source.choice(tokens))
        else:
            await client.record_experience(event_type="step", trajectory_id=source.choice("xyz"), reward=float(n))


async def follow(client: Client, topic: str, since: Any, state: State, apply: Callable[[State, Any], None]) -> None:
    """Apply the events behind a position to what was listed at it."""
    async with client.subscribe(topic, since=since.seq, epoch=since.epoch) as events:
        async for event in events:
            apply(state, event)
            state["seq"] = event.seq


async def list_tokens(client: Client, state: State) -> Any:
    page = await client.list_tokens(limit=20, full=True)
    position = page.position
    while True:
        for token in page.tokens:
            state[str(token.token_id)] = (token.version, token.weight)
        if page.next is None:
            return position
        page = await client.list_tokens(limit=20, full=True, after=page.next)


def apply_token(state: State, event: Any) -> None:
    token_id, version = event.payload["token_id"], event.payload.get("version", 0)
    if event.type == "token.deleted":
        state.pop(token_id, None)
    elif version >= state.get(token_id, (0,))[0]:
        state[token_id] = (version, event.payload["weight"])


def lister_of_edges(hub: str) -> Callable[[Client, State], Awaitable[Any]]:
    async def list_edges(client: Client, state: State) -> Any:
        listed = await client.neighbors(hub, limit=1000)
        for edge in listed.neighbors:
            state[str(edge.connection_id)] = edge.type
        return listed.position

    return list_edges


def apply_edge(state: State, event: Any) -> None:
    if event.type == "graph.connected":
        state[event.payload["connection_id"]] = event.payload["type"]
    else:
        state.pop(event.payload["connection_id"], None)


async def list_experiences(client: Client, state: State) -> Any:
    page = await client.list_experiences(limit=5)
    position = page.position
    while True:
        for step in page.events:
            state[str(step.event_id)] = (step.trajectory_id, step.sequence_number)
        if page.next is None:
            return position
        page = await client.list_experiences(limit=5, after=page.next)


def apply_experience(state: State, event: Any) -> None:
    state[event.payload["event_id"]] = (event.payload["trajectory_id"], event.payload["sequence_number"])


async def test_state_is_rebuilt_under_constant_writing(server: Running, database_url: str) -> None:
    """Tries to make a list and the events since its position add up to anything but what the database holds."""
    async with connect(server.url) as client:
        hub = str((await client.create_token(type="hub")).token_id)
        writers = Writers(server.url, hub)
        kinds = {
            "tokens": (list_tokens, apply_token),
            "graph": (lister_of_edges(hub), apply_edge),
            "experience": (list_experiences, apply_experience),
        }
        moments = range(0, 4 * WRITES - 50, 50)
        rebuilt: list[tuple[str, State]] = []

        async def rebuild(topic: str, at: int) -> None:
            list_, apply = kinds[topic]
            while writers.progress < at:  # noqa: ASYNC110 - a moment in the midst of the writing
                await trio.lowlevel.checkpoint()
            state: State = {"seq": -1}  # before anything is known
            rebuilt.append((topic, state))
            async with connect(server.url) as watcher:
                position = await list_(watcher, state)
                state["seq"] = position.seq
                await follow(watcher, topic, position, state, apply)

        async with trio.open_nursery() as watching:
            async with trio.open_nursery() as writing:
                for seed in range(4):
                    writing.start_soon(writers.write, seed)
                for at in moments:
                    for topic in kinds:
                        watching.start_soon(rebuild, topic, at)
            with psycopg.connect(database_url) as db:
                heads = dict(db.execute("select topic, seq from topics").fetchall())
            with trio.fail_after(10):
                while len(rebuilt) < len(moments) * len(kinds) or any(  # noqa: ASYNC110
                    state["seq"] < heads[topic] for topic, state in rebuilt
                ):
                    await trio.lowlevel.checkpoint()
            watching.cancel_scope.cancel()
        with psycopg.connect(database_url) as db:
            real: dict[str, State] = {
                "tokens": {str(row[0]): row[1:] for row in db.execute("select token_id, version, weight from tokens")},
                "graph": {str(row[0]): row[1] for row in db.execute("select connection_id, type from edges")},
                "experience": {
                    str(row[0]): row[1:]
                    for row in db.execute("select event_id, trajectory_id, sequence_number from experiences")
                },
            }
    assert min(map(len, real.values())) > 20
    assert 11 * 3 == len(rebuilt)
    for topic, state in rebuilt:
        assert heads[topic] == state.pop("seq")
        assert real[topic] == state
