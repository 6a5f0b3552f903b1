"""Retention: what is too old or too much goes, nothing else does, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import trio

from ngos.errors import StorageUnavailable
from ngos.log import retention as module
from ngos.log.retention import BITE_ROWS, Retention
from tests.logs import fill
from tests.services.nodes import Node, Peer

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR_S = 3600.0


def retention_of(node: Node, *, age_s: float = 1e9, events: int = 10**9, replies_s: float = 24 * HOUR_S) -> Retention:
    return Retention(node.pool, node.hub, age_s, events, replies_s, lambda: NOW)


async def held(node: Node, topic: str = "tokens") -> tuple[int, int, int]:
    """What the topic's row says is pruned, and the first and the number of the events that are there."""
    query = """
        select pruned, (select min(seq) from events where topic_id = topics.topic_id),
            (select count(*) from events where topic_id = topics.topic_id) from topics where topic = %s
    """
    ((pruned, first, count),) = await node.rows(query, topic)
    return pruned, first, count


async def age(node: Node, topic: str, upto: int, hours: float) -> None:
    """Make the events up to a position that old."""
    query = """
        update events set created_at = %s from topics
        where topics.topic_id = events.topic_id and topic = %s and events.seq <= %s returning events.seq
    """
    await node.rows(query, NOW - timedelta(hours=hours), topic, upto)


async def test_by_count(node: Node, database_url: str) -> None:
    """Tries to keep more events of a topic than may be, or to lose one that may, or one of another topic."""
    fill(database_url, "tokens", 3 * BITE_ROWS)
    fill(database_url, "graph", 50)
    rounds = retention_of(node, events=100)
    await rounds.round()
    assert (3 * BITE_ROWS - 100, 1, 3 * BITE_ROWS) == await held(node)  # marked: told, and still there
    await rounds.round()
    assert (3 * BITE_ROWS - 100, 3 * BITE_ROWS - 99, 100) == await held(node)
    assert (0, 1, 50) == await held(node, "graph")
    assert 3 * BITE_ROWS - 100 == rounds.events_pruned


async def test_not_by_another_node_at_once(node: Node, database_url: str) -> None:
    """Tries to have events deleted in the moment they are marked, because another node's round comes right then."""
    fill(database_url, "tokens", 100)
    here, there = (retention_of(node, events=10) for _ in range(2))
    await here.round()
    await there.round()
    assert (90, 1, 100) == await held(node)
    await there.round()
    assert (90, 91, 10) == await held(node)


@pytest.mark.parametrize("old", [0, 1, 7, 999, 2000])
async def test_by_age(node: Node, database_url: str, old: int) -> None:
    """Tries to find another end of what is too old than the one there is."""
    fill(database_url, "tokens", 2000)
    await age(node, "tokens", 2000, 1)
    await age(node, "tokens", old, 3)
    rounds = retention_of(node, age_s=2 * HOUR_S)
    for _ in range(2):
        await rounds.round()
    pruned, _, count = await held(node)
    assert (old, 2000 - old) == (pruned, count)


async def test_the_rest_of_an_interrupted_round(node: Node, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to leave events behind for ever, by the end of the server or of the database amid a round."""
    fill(database_url, "tokens", 3 * BITE_ROWS)
    interrupted = retention_of(node, events=10)
    await interrupted.round()

    class FailingPool:
        def connection(self) -> Any:
            if interrupted.events_pruned:
                raise StorageUnavailable("away")
            return node.pool.connection()

    monkeypatch.setattr(interrupted, "_pool", FailingPool())
    with pytest.raises(StorageUnavailable):
        await interrupted.round()
    assert 2 * BITE_ROWS == (await held(node))[2]
    restarted = retention_of(node, events=10)
    for _ in range(2):
        await restarted.round()
    assert 10 == (await held(node))[2]


async def test_numbers_go_on(node: Node, peer: Peer, database_url: str) -> None:
    """Tries to have a number given twice because its event is gone."""
    fill(database_url, "tokens", 20)
    rounds = retention_of(node, events=1, age_s=1)
    for _ in range(2):
        await rounds.round()
    await peer.follow("tokens")
    await peer("token.create")
    assert [21] == [event["seq"] for event in await peer.heard_events(1)]


async def test_appends_do_not_wait(node: Node, database_url: str) -> None:
    """Tries to hold up a change by a round that is in the middle of a bite, or to hold up a round by a change."""
    fill(database_url, "tokens", 3 * BITE_ROWS)
    rounds = retention_of(node, events=10)
    await rounds.round()
    with psycopg.connect(database_url) as other:
        other.execute(
            module._SWEEP, [(await node.rows("select topic_id from topics where topic = 'tokens'"))[0][0], 5, 5]
        )
        with trio.fail_after(5):
            assert "token.created" == (await node.peer()("token.create")).type
        other.rollback()
        other.execute("select from topics where topic = 'tokens' for update")
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rounds.round)  # it sweeps, and then waits for that row
                while rounds.events_pruned < 3 * BITE_ROWS - 10:  # noqa: ASYNC110 - nobody could set an Event
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        other.rollback()


@contextmanager
def kept_reply(database_url: str, hours: float) -> Iterator[None]:
    """Make all replies that old."""
    yield
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("update replies set created_at = %s", [NOW - timedelta(hours=hours)])


@pytest.mark.parametrize(("hours", "replayed"), [(23.9, True), (24.1, False)])
async def test_replies(node: Node, peer: Peer, database_url: str, hours: float, replayed: bool) -> None:
    """Tries to be denied a reply that is not a day old, or to keep one for ever."""
    with kept_reply(database_url, hours):
        await peer.once("c", "token.create")
    await retention_of(node).round()
    assert replayed == (await peer.once("c", "token.create")).replayed


async def test_many_replies(node: Node, database_url: str) -> None:
    """Tries to stop it after the first bite."""
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            """insert into replies (subject, command_id, command_hash, type, payload, created_at)
            select 'me', n::text, gen_random_uuid(), 't', '{}', %s from generate_series(1, %s) n""",
            [NOW - timedelta(days=2), 2 * BITE_ROWS + 5],
        )
    rounds = retention_of(node)
    await rounds.round()
    assert 2 * BITE_ROWS + 5 == rounds.replies_forgotten


async def test_many_topics(node: Node, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to leave topics out because there are more than are read at once."""
    monkeypatch.setattr(module, "PAGE_TOPICS", 4)
    names = [f"durable.{n}" for n in range(9)]
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("insert into topics (topic) select unnest(%s::text[])", [names])
    for name in names:
        fill(database_url, name, 5)
    rounds = retention_of(node, events=2)
    for _ in range(2):
        await rounds.round()
    assert [(3, 4, 2)] * 9 == [await held(node, name) for name in names]


async def test_this_node_knows_at_once(node: Node, peer: Peer, database_url: str) -> None:
    """Tries to be told by the node that prunes that it still has what it has just marked."""
    fill(database_url, "tokens", 20)
    await peer.follow("tokens")
    topic = node.hub.topic("tokens")
    assert topic is not None
    assert 0 == topic.pruned
    await retention_of(node, events=5).round()
    assert 15 == topic.pruned
