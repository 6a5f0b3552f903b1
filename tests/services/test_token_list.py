"""`token.list`: pages, cursors, totals (protocol.md section 3)."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.services.nodes import Node, Peer

KIB = 1024


async def fill(peer: Peer, count: int, **fields: Any) -> list[str]:
    """Create tokens in one batch; returns their ids, newest first as a list has them."""
    ids = [str(uuid4()) for _ in range(count)]
    before = len(peer.replies)
    for token_id in ids:
        await peer.post("token.create", token_id=token_id, **fields)
    await peer.answered(before + count)
    assert 1 == len({said.payload["created_at"] for said in peer.replies[before:]}), "one batch"
    return sorted(ids, key=UUID, reverse=True)


async def walk(peer: Peer, start: str | None = None, **fields: Any) -> list[list[str]]:
    """All pages, by `next`."""
    pages = []
    after = {} if start is None else {"after": start}
    while True:
        page = (await peer("token.list", **fields, **after)).payload
        assert page["count"] == len(page["tokens"])
        pages.append([token["token_id"] for token in page["tokens"]])
        if page["next"] is None:
            return pages
        after = {"after": page["next"]}


def flat(pages: list[list[str]]) -> list[str]:
    return [token_id for page in pages for token_id in page]


async def test_empty(peer: Peer) -> None:
    """An empty list still tells the position it is true at."""
    page = (await peer("token.list", total=True, full=True)).payload
    position = page.pop("position")
    assert {"tokens": [], "count": 0, "offset": 0, "total": 0, "next": None} == page
    assert ("tokens", 0, 8) == (position["topic"], position["seq"], len(position["epoch"]))


async def test_paging_over_equal_times(peer: Peer) -> None:
    """Rows with the same created_at are each seen once, newest first, however the pages cut them."""
    older = await fill(peer, 25)
    newer = await fill(peer, 25)
    for limit in (1, 7, 25, 50, 1000):
        pages = await walk(peer, limit=limit)
        assert newer + older == flat(pages)
        assert [limit] * (50 // limit) == [len(page) for page in pages if len(page) == limit]
        assert -(-50 // limit) == len(pages), "no empty page at the end"


async def test_next_survives_changes(peer: Peer) -> None:
    """A cursor stays good when its row is deleted and newer rows come: nothing is lost or seen twice."""
    ids = await fill(peer, 20)
    first = (await peer("token.list", limit=10)).payload
    await peer("token.delete", token_id=ids[9])
    await fill(peer, 5)
    rest = (await peer("token.list", limit=100, after=first["next"])).payload
    assert ids[10:] == [token["token_id"] for token in rest["tokens"]]
    assert rest["next"] is None


async def test_defaults_heads_and_offset(peer: Peer) -> None:
    """Ten heads by default; `offset` skips; its `next` leads on from there."""
    ids = await fill(peer, 30, metadata={"k": 1})
    page = (await peer("token.list")).payload
    assert (ids[:10], None, 0) == ([token["token_id"] for token in page["tokens"]], page["total"], page["offset"])
    assert {"token_id", "type", "weight", "flags", "version", "created_at", "updated_at"} == set(page["tokens"][0])
    skipped = (await peer("token.list", offset=15, limit=5)).payload
    assert (ids[15:20], 15) == ([token["token_id"] for token in skipped["tokens"]], skipped["offset"])
    rest = (await peer("token.list", after=skipped["next"], limit=100)).payload
    assert ids[20:] == [token["token_id"] for token in rest["tokens"]]
    beyond = (await peer("token.list", offset=10_000, total=True)).payload
    assert ([], None, 30, 10_000) == (beyond["tokens"], beyond["next"], beyond["total"], beyond["offset"])


@pytest.mark.parametrize("full", [False, True])
async def test_type_and_total(peer: Peer, full: bool) -> None:
    """`type` filters pages, cursors and `total`; `total` counts all that match, not what is left after the cursor."""
    reds = await fill(peer, 12, type="red")
    await fill(peer, 5, type="blue")
    assert reds == flat(await walk(peer, type="red", limit=5, full=full))
    page = (await peer("token.list", type="red", limit=5, total=True, full=full)).payload
    assert 12 == page["total"]
    second = (await peer("token.list", type="red", limit=5, total=True, full=full, after=page["next"])).payload
    assert (12, reds[5:10]) == (second["total"], [token["token_id"] for token in second["tokens"]])
    assert 17 == (await peer("token.list", total=True, full=full)).payload["total"]
    none = (await peer("token.list", type="RED", total=True, full=full)).payload
    assert ([], 0, None) == (none["tokens"], none["total"], none["next"])


async def test_full_is_what_get_tells(peer: Peer) -> None:
    """A whole token in a list is the token that `token.get` gives."""
    ids = await fill(peer, 3, coord_y=[0.5], metadata={"a": [1]}, weight=3)
    page = (await peer("token.list", full=True)).payload
    assert [(await peer("token.get", token_id=id_)).payload for id_ in ids] == page["tokens"]


async def test_big_metadata_cuts_a_page_early(peer: Peer) -> None:
    """A page that would be too big ends early, tells `next`, and loses no row."""
    ids: list[str] = []
    for _ in range(3):
        ids = await fill(peer, 50, metadata={"k": "x" * (15 * KIB)}) + ids
    pages = await walk(peer, limit=1000, full=True)
    assert ids == flat(pages)
    assert 1 < len(pages) < 5
    assert [150] == [len(page) for page in await walk(peer, limit=1000)], "heads are small"
    assert ids[1:] == flat(await walk(peer, limit=149, full=True, start=await cursor_of_first(peer)))
    offset = (await peer("token.list", limit=1000, offset=10, full=True)).payload
    rest = await walk(peer, limit=1000, start=offset["next"])
    assert ids[10:] == [token["token_id"] for token in offset["tokens"]] + flat(rest)


async def cursor_of_first(peer: Peer) -> str:
    page = (await peer("token.list", limit=1)).payload
    return str(page["next"])


GARBAGE = [
    "x",
    "%00",
    "🙂",
    "' or 1=1 --",
    "=" * 32,
    "A" * 31,
    "A" * 33,
    base64.urlsafe_b64encode(b"\xff" * 23).decode(),
    base64.urlsafe_b64encode(b"\x7f" + b"\xff" * 23).decode(),
    base64.urlsafe_b64encode(b"\x80" + b"\x00" * 23).decode(),
    "A" * 256,
]


@pytest.mark.parametrize("command", ["token.list", "experience.list"])
async def test_garbage_cursors(node: Node, command: str) -> None:
    """A cursor that no reply gave is the sender's fault, never ours."""
    peer = node.peer()
    for after in GARBAGE:
        said = await peer(command, after=after)
        assert ("error", "invalid_payload", after) == (said.type, said.payload["code"], after)
        assert ["payload.after"] == [fault["path"] for fault in said.payload["details"]["errors"]]


@pytest.mark.parametrize("micros", [-62_135_596_800_000_000, 253_402_300_799_999_999, 0, -1])
@pytest.mark.parametrize("command", ["token.list", "experience.list"])
async def test_forged_cursors(peer: Peer, command: str, micros: int) -> None:
    """A cursor that has the right form but an extreme time is a place like any other."""
    await fill(peer, 2)
    await peer("experience.record", event_type="e")
    forged = base64.urlsafe_b64encode(micros.to_bytes(8, "big", signed=True) + b"\0" * 16).decode()
    said = await peer(command, after=forged)
    assert (command, None) == (said.type, said.payload["next"])


async def test_bounds(peer: Peer) -> None:
    """Limits and offsets beyond the table's are refused, and so are `offset` and `after` together."""
    await fill(peer, 3)
    after = await cursor_of_first(peer)
    for fields in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"offset": 10_001}, {"offset": 1, "after": after}):
        assert "invalid_payload" == (await peer("token.list", **fields)).payload["code"]
    assert 2 == (await peer("token.list", offset=0, after=after)).payload["count"]
    assert 3 == (await peer("token.list", limit=1000, offset=0)).payload["count"]


async def test_list_then_watch(peer: Peer) -> None:
    """`position` is the position of the last change the list shows."""
    await fill(peer, 4)
    ids = await fill(peer, 1)
    await peer("token.update", token_id=ids[0])
    assert 6 == (await peer("token.list")).payload["position"]["seq"]
    log = await peer.node.log("tokens")
    assert {log[0].epoch} == {(await peer("token.list", type="nothing")).payload["position"]["epoch"]}
