"""scripts/hunt finds nothing where there is nothing, finds what is past, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hunt_parts import run
from hunt_parts.judge import Read, Verdict, Written, judge
from hunt_parts.state import digest

from ngos.log import store
from ngos.log.sql import Transaction
from ngos.log.store import Draft, Extent
from ngos.postgres.driver import TrioConnection
from tests.databases import TestServer
from tests.scripts.marked import Script

EPOCH = "0123abcd"
EDGE = {"connection_id": "e", "source_id": "a", "target_id": "b", "bidirectional": False, "created_at": "1"}
LOG: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "graph": [
        ("graph.connected", EDGE),
        ("graph.connected", {**EDGE, "connection_id": "f", "target_id": "c", "created_at": "2"}),
        ("graph.disconnected", {**EDGE}),
    ],
    "tokens": [],
}
WRITTEN = [Written(at, at + 0.5, "graph", seq) for seq, at in ((1, 1.0), (2, 2.0), (3, 3.0))]
NEIGHBORS = b'{"token_id":"a"}'


def told(*edges: dict[str, Any]) -> bytes:
    neighbors = [edge | {"neighbor_id": edge["target_id"]} for edge in edges]
    return digest({"token_id": "a", "neighbors": neighbors, "count": len(neighbors)})


def judged(*reads: Read) -> Verdict:
    return judge(reads, WRITTEN, LOG, {EPOCH})


def neighbors(sent_s: float, seq: int, answer: bytes, epoch: str = EPOCH) -> Read:
    return Read(1, "graph.neighbors", NEIGHBORS, sent_s, sent_s + 0.1, "graph", epoch, seq, answer)


def path(sent_s: float, answered_s: float, way: tuple[str, ...] | None, far: str = "b") -> Read:
    asked = orjson.dumps({"source_id": "a", "target_id": far, "max_depth": 5})
    return Read(1, "graph.path", asked, sent_s, answered_s, "graph", path=way)


def test_what_is_sound_is_sound() -> None:
    """Tries to have a read be called past that is not."""
    first, second = (payload for _, payload in LOG["graph"][:2])
    verdict = judged(
        neighbors(0.5, 0, told()),
        neighbors(1.6, 1, told(first)),
        neighbors(1.6, 2, told(first, second)),  # newer than it has to be
        neighbors(3.6, 3, told(second)),
        path(1.6, 1.9, ("a", "b")),
        path(3.2, 3.4, None),  # while it was being taken away
        path(3.2, 3.4, ("a", "b")),
        path(2.6, 9.0, ("a", "c"), "c"),
    )
    assert (0, 0, 8) == (verdict.stale, verdict.behind, verdict.reads.total())


@pytest.mark.parametrize(
    ("read", "stale", "behind"),
    [
        (neighbors(3.6, 2, told(*(payload for _, payload in LOG["graph"][:2]))), 0, 1),
        (neighbors(3.6, 3, told(LOG["graph"][0][1])), 1, 0),
        (neighbors(0.5, 4, told()), 1, 0),
        (neighbors(0.5, 0, told(), epoch="ffffffff"), 0, 1),
        (path(3.6, 3.9, ("a", "b")), 1, 0),
        (path(1.6, 1.9, None), 1, 0),
        (path(2.6, 2.9, ("a", "b", "c"), "c"), 1, 0),
    ],
)
def test_what_is_past_is_found(read: Read, stale: int, behind: int) -> None:
    """Tries to have a read pass that tells what was, is at a position that was, or is no shortest path."""
    verdict = judged(read)
    assert (stale, behind, 1) == (verdict.stale, verdict.behind, len(verdict.examples))


async def test_a_write_that_is_late(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a write, whose commit comes while the log is read, be taken for one that the log has lost."""
    read_extents = store.read_extents
    async with await TrioConnection.connect(database_url, autocommit=True) as connection:

        async def write() -> None:
            async with connection.transaction():
                draft = Draft("tokens", "token.created", b"{}", None)
                await store.append(Transaction(connection, datetime.now(UTC)), [draft])

        async def later(conn: TrioConnection, topics: Sequence[str]) -> dict[str, Extent]:
            await write()
            return await read_extents(conn, topics)

        await store.ensure_topics(connection, ["graph", "tokens"], 2)
        await write()
        monkeypatch.setattr(store, "read_extents", later)
        log, epochs = await run._log(database_url)
    assert {"graph": [], "tokens": [("token.created", {})]} == log
    assert 2 == len(epochs)


def test_a_short_hunt(postgres_server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to be given a read that is past, on two nodes with a Redis between them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    hunt = Script("hunt", "--database-url", postgres_server.conninfo)
    done = hunt("--seconds", "3", "--tokens", "150", "--edges", "1000", "--writes-per-s", "30")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "stale 0, behind what was answered 0" in done.stdout
    for source in ("memory", "redis", "database"):
        assert re.findall(rf"'{source}': [1-9]", done.stdout), done.stdout
    assert [] == hunt.processes()
    assert [] == list(tmp_path.glob("ngos-*"))
    assert [] == hunt.databases(postgres_server.conninfo)
