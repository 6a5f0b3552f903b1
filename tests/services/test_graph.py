"""The graph's commands: protocol.md section 3, EDGE."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from tests.services.nodes import Peer, Said


async def tokens(peer: Peer, count: int) -> list[str]:
    ids = [str(uuid4()) for _ in range(count)]
    before = len(peer.replies)
    for token_id in ids:
        await peer.post("token.create", token_id=token_id)
    await peer.answered(before + count)
    return ids


async def edge(peer: Peer, source_id: str, target_id: str, **fields: Any) -> dict[str, Any]:
    said = await peer("graph.connect", source_id=source_id, target_id=target_id, **fields)
    assert "graph.connected" == said.type
    return said.payload


async def test_connect_defaults(peer: Peer) -> None:
    """An edge made of two ends has every default of the table, and its event is its reply."""
    a, b = await tokens(peer, 2)
    made = await edge(peer, a, b)
    assert orjson.loads((await peer.node.log("graph"))[-1].payload) == made
    assert 7 == UUID(made.pop("connection_id")).version
    assert made.pop("created_at").endswith("Z")
    expected = {"source_id": a, "target_id": b, "type": "generic", "weight": 1.0, "bidirectional": False}
    assert expected | {"metadata": {}} == made


async def test_self_loop(peer: Peer) -> None:
    """A self-loop is invalid_payload, whether the token is there or not, and however its id is written."""
    (a,) = await tokens(peer, 1)
    for source_id in (a, str(uuid4())):
        said = await peer("graph.connect", source_id=source_id, target_id=source_id.upper())
        assert "invalid_payload" == said.payload["code"]
    assert [] == await peer.node.log("graph")


async def test_ends_that_are_not_there(peer: Peer) -> None:
    """`token.not_found` names the end that is missing; of two, the source."""
    (a,) = await tokens(peer, 1)
    x, y = str(uuid4()), str(uuid4())
    for source_id, target_id, missing in [(a, x, x), (x, a, x), (x, y, x), (y, x, y)]:
        expected = Said("token.not_found", {"token_id": missing})
        assert expected == await peer("graph.connect", source_id=source_id, target_id=target_id)


async def test_second_edge(peer: Peer) -> None:
    """A second edge with the same source, target and type is a conflict that names the first; in one batch too."""
    a, b = await tokens(peer, 2)
    for fields in ({}, {"weight": 2.0}, {"bidirectional": True}, {"type": "other"}, {"type": "Generic"}):
        await peer.post("graph.connect", source_id=a, target_id=b, **fields)
    await peer.post("graph.connect", source_id=b, target_id=a)
    await peer.answered(2 + 6)
    said = peer.replies[2:]
    assert ["graph.connected", "error", "error"] + ["graph.connected"] * 3 == [one.type for one in said]
    first = said[0].payload["connection_id"]
    said.append(await peer("graph.connect", source_id=a, target_id=b, metadata={"again": 1}))
    for refusal in (said[1], said[2], said[6]):
        assert ("conflict", first) == (refusal.payload["code"], str(refusal.payload["details"]["connection_id"]))
    assert 4 == len(await peer.node.log("graph"))


async def test_edge_made_anew(peer: Peer) -> None:
    """Connect, disconnect, connect in one batch take effect in that order; the second edge is another one."""
    a, b = await tokens(peer, 2)
    ends = {"source_id": a, "target_id": b}
    for command in ("connect", "disconnect", "disconnect", "connect", "connect"):
        await peer.post(f"graph.{command}", **ends)
    await peer.answered(2 + 5)
    first, gone, missing, second, refused = peer.replies[2:]
    assert first.payload["connection_id"] == gone.payload["connection_id"] != second.payload["connection_id"]
    assert ("graph.not_found", "conflict") == (missing.type, refused.payload["code"])
    assert second.payload["connection_id"] == str(refused.payload["details"]["connection_id"])


async def test_disconnect(peer: Peer) -> None:
    """An edge is named by its id, by its ends and type, or by its ends where one edge joins them that way."""
    a, b = await tokens(peer, 2)
    made = [await edge(peer, a, b, type=type_) for type_ in ("r", "s", "t")] + [await edge(peer, b, a, type="r")]
    keys = ("connection_id", "source_id", "target_id", "type")
    gone = [{key: one[key] for key in keys} for one in made]
    ambiguous = await peer("graph.disconnect", source_id=a, target_id=b)
    assert ("conflict", ["r", "s", "t"]) == (ambiguous.payload["code"], ambiguous.payload["details"]["types"])
    by_id = await peer("graph.disconnect", connection_id=made[0]["connection_id"])
    by_type = await peer("graph.disconnect", source_id=a, target_id=b, type="s")
    by_ends = await peer("graph.disconnect", source_id=a, target_id=b)
    assert [Said("graph.disconnected", one) for one in gone[:3]] == [by_id, by_type, by_ends]
    expected = {"connection_id": None, "source_id": a, "target_id": b, "type": None}
    assert Said("graph.not_found", expected) == await peer("graph.disconnect", source_id=a, target_id=b)
    expected = {"connection_id": gone[0]["connection_id"], "source_id": None, "target_id": None, "type": None}
    again = await peer("graph.disconnect", connection_id=made[0]["connection_id"])
    assert Said("graph.not_found", expected) == again
    wrong = await peer("graph.disconnect", source_id=b, target_id=a, type="s")
    assert ("graph.not_found", "s") == (wrong.type, wrong.payload["type"])
    assert ["graph.connected"] * 4 + ["graph.disconnected"] * 3 == [
        event.type for event in await peer.node.log("graph")
    ]


async def test_many_disconnects_in_one_batch(peer: Peer) -> None:
    """Of several that name one edge in different ways in one batch, the first gets it."""
    a, b = await tokens(peer, 2)
    one, two = [await edge(peer, a, b, type=type_) for type_ in ("one", "two")]
    before = len(peer.replies)
    for fields in (
        {"source_id": a, "target_id": b, "type": "one"},
        {"connection_id": one["connection_id"]},
        {"source_id": a, "target_id": b},
        {"source_id": a, "target_id": b},
    ):
        await peer.post("graph.disconnect", **fields)
    await peer.answered(before + 4)
    said = peer.replies[before:]
    assert ["graph.disconnected", "graph.not_found"] * 2 == [reply.type for reply in said]
    assert two["connection_id"] == said[2].payload["connection_id"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"source_id": str(UUID(int=1))},
        {"target_id": str(UUID(int=1))},
        {"type": "t"},
        {"connection_id": str(UUID(int=1)), "type": "t"},
        {"connection_id": str(UUID(int=1)), "source_id": str(UUID(int=1)), "target_id": str(UUID(int=2))},
    ],
)
async def test_disconnect_refuses_half_names(peer: Peer, fields: dict[str, str]) -> None:
    """An edge that is named by too little, or in two ways, is the sender's fault."""
    assert "invalid_payload" == (await peer("graph.disconnect", **fields)).payload["code"]


async def test_neighbors_and_degree(peer: Peer) -> None:
    """A bidirectional edge counts as incoming and as outgoing at both its ends, and is one entry in `both`."""
    a, b, c, d = await tokens(peer, 4)
    out = await edge(peer, a, b)
    both = await edge(peer, c, a, bidirectional=True, metadata={"\0": "'"}, weight=-2, type="b")
    in_ = await edge(peer, d, a)
    back = await edge(peer, b, a)
    expected = {
        (a, "outgoing"): [(out, b), (both, c)],
        (a, "incoming"): [(both, c), (in_, d), (back, b)],
        (a, "both"): [(out, b), (both, c), (in_, d), (back, b)],
        (c, "outgoing"): [(both, a)],
        (c, "incoming"): [(both, a)],
        (b, "both"): [(out, a), (back, a)],
        (b, "incoming"): [(out, a)],
        (d, "incoming"): [],
    }
    for (token_id, direction), entries in expected.items():
        reply = (await peer("graph.neighbors", token_id=token_id, direction=direction)).payload
        assert [one | {"neighbor_id": far} for one, far in entries] == reply["neighbors"]
        assert (len(entries), token_id) == (reply["count"], reply["token_id"])
        assert ("graph", 4) == (reply["position"]["topic"], reply["position"]["seq"])
    degrees = {a: (3, 2, 4), b: (1, 1, 2), c: (1, 1, 1), d: (0, 1, 1), str(uuid4()): (0, 0, 0)}
    for token_id, (incoming, outgoing, total) in degrees.items():
        counts = {"token_id": token_id, "incoming": incoming, "outgoing": outgoing, "total": total}
        assert Said("graph.degree", counts) == await peer("graph.degree", token_id=token_id)


async def test_neighbors_not_found(peer: Peer) -> None:
    """The neighbors of a token that is not there are `token.not_found`, of one without edges an empty list."""
    token_id = str(uuid4())
    assert Said("token.not_found", {"token_id": token_id}) == await peer("graph.neighbors", token_id=token_id)
    await peer("token.create", token_id=token_id)
    reply = (await peer("graph.neighbors", token_id=token_id)).payload
    assert ([], 0, 0) == (reply["neighbors"], reply["count"], reply["position"]["seq"])
    assert "invalid_payload" == (await peer("graph.neighbors", token_id=token_id, direction="up")).payload["code"]


async def test_neighbors_pages(peer: Peer) -> None:
    """Pages by `limit` and `offset` over edges of one batch hold each edge once; `type` filters before the page."""
    hub, *others = await tokens(peer, 31)
    before = len(peer.replies)
    for index, other in enumerate(others):
        ends = {"source_id": hub, "target_id": other} if index % 2 else {"source_id": other, "target_id": hub}
        await peer.post("graph.connect", **ends, type="even" if index % 2 == 0 else "odd")
    await peer.answered(before + 30)
    seen = []
    for offset in range(0, 40, 7):
        page = (await peer("graph.neighbors", token_id=hub, limit=7, offset=offset)).payload
        seen += [entry["neighbor_id"] for entry in page["neighbors"]]
    assert others == seen
    even = (await peer("graph.neighbors", token_id=hub, type="even", limit=10, offset=5)).payload
    assert others[::2][5:] == [entry["neighbor_id"] for entry in even["neighbors"]]
    none = (await peer("graph.neighbors", token_id=hub, type="even", direction="outgoing")).payload
    assert [] == none["neighbors"]
