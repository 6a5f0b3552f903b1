"""Transactions of several nodes: who waits for what another node has, has the topics first."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from tests.services.nodes import open_node

LIMIT_S = 20.0
A, B, C = (str(UUID(int=number)) for number in (10, 11, 12))

EVERY_WAY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "create": (
        (
            f"insert into tokens (token_id, type, weight, flags, x, y, z, metadata)"
            f" values ('{C}', 't', 1, 0, '{{}}', '{{}}', '{{}}', '{{}}')"
        ),
        "token.create",
        {"token_id": C},
    ),
    "update": (f"select from tokens where token_id = '{A}' for update", "token.update", {"token_id": A, "weight": 0.5}),
    "delete": (f"select from tokens where token_id = '{A}' for update", "token.delete", {"token_id": A}),
    "connect": (
        f"select from tokens where token_id = '{B}' for update",
        "graph.connect",
        {"source_id": B, "target_id": A},
    ),
    "disconnect": (
        f"select from edges where source_id = '{A}' for update",
        "graph.disconnect",
        {"source_id": A, "target_id": B},
    ),
    "record": (
        "update trajectories set sequence_number = sequence_number",
        "experience.record",
        {"event_type": "step", "trajectory_id": "t"},
    ),
}


@pytest.mark.parametrize("way", EVERY_WAY)
async def test_who_waits_has_the_topics(database_url: str, way: str) -> None:
    """Tries to have a node wait for a row that another has locked while the topics are anybody's: a deadlock."""
    hold, command, payload = EVERY_WAY[way]
    with trio.fail_after(LIMIT_S):
        async with open_node(database_url, is_alone=False) as node:
            peer = node.peer()
            for token_id in (A, B):
                await peer("token.create", token_id=token_id)
            await peer("graph.connect", source_id=A, target_id=B)
            await peer("experience.record", event_type="step", trajectory_id="t")
            with psycopg.connect(database_url) as other, psycopg.connect(database_url, autocommit=True) as operator:
                other.execute(hold)
                await peer.post(command, **payload)
                await waits_for_a_lock(operator)
                for topic in ("experience", "graph", "tokens"):
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        operator.execute("select from topics where topic = %s for update nowait", [topic])
                other.rollback()
            await peer.answered(5)
            assert "error" != peer.replies[-1].type


async def waits_for_a_lock(operator: psycopg.Connection[Any]) -> None:
    query = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while operator.execute(query).fetchone() is None:  # noqa: ASYNC110 - Postgres has no event
        await trio.sleep(0.01)


async def test_nodes_at_the_same_rows(database_url: str) -> None:
    """Tries to have two nodes get into each other's way for good, by all that they change at the same few tokens."""
    tokens = [str(UUID(int=number)) for number in range(1, 9)]
    # Postgres looks for deadlocks later than a node gives up: one would be `unavailable`, and a mere wait is not.
    url = make_conninfo(database_url, options="-c deadlock_timeout=1min")
    async with (
        open_node(url, is_alone=False, query_s=10.0) as one,
        open_node(url, is_alone=False, query_s=10.0) as two,
        trio.open_nursery() as nursery,
    ):
        for number in range(12):
            nursery.start_soon(_change, (one, two)[number % 2].peer(f"peer {number}"), tokens, number)


async def _change(peer: Any, tokens: list[str], number: int) -> None:
    for turn in range(40):
        here, there = (tokens[(number * step + turn * step) % 8] for step in (3, 5))
        await peer("token.create", token_id=here)
        if here != there:
            await peer("graph.connect", source_id=here, target_id=there)
            await peer("graph.disconnect", source_id=here, target_id=there)
        await peer("token.update", token_id=there, weight=0.5)
        await peer("experience.record", event_type="step", trajectory_id=f"t{turn % 3}")
        for topic in ("durable.x", "durable.y")[:: 1 if number % 2 else -1]:
            await peer("publish", topic=topic, type="said")
        if turn % 7 == 3:
            await peer("token.delete", token_id=here)
    assert [] == [reply for reply in peer.replies if reply.payload.get("code") == "unavailable"]
