"""Tokens: protocol.md section 3, TOKEN, and the commands about one token."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngos.protocol.rules import LEVELS
from ngos.services import tokens
from tests.services.nodes import Node, Peer, Said, open_node

ORIGIN = [0.0] * 8
NASTY = "'; drop table tokens; -- \" \\ %s %(x)s $1 {} \u202e \x1f 💥"


async def make(peer: Peer, **fields: Any) -> dict[str, Any]:
    said = await peer("token.create", **fields)
    assert "token.created" == said.type
    return said.payload


async def test_defaults(peer: Peer) -> None:
    """A token created with nothing has every default of the table."""
    token = await make(peer)
    created_at = token.pop("created_at")
    assert 7 == UUID(token.pop("token_id")).version
    assert {
        "type": "default",
        "weight": 1.0,
        "flags": 0,
        "coordinates": {"x": ORIGIN, "y": ORIGIN, "z": ORIGIN},
        "metadata": {},
        "version": 1,
        "updated_at": created_at,
    } == token
    assert timedelta(0) == datetime.fromisoformat(created_at).utcoffset()
    assert len("2026-01-01T00:00:00.000000Z") == len(created_at)


async def test_short_arrays_are_filled(peer: Peer) -> None:
    """Arrays shorter than the eight levels are filled with 0.0, by create and by update, and read back so."""
    token = await make(peer, coord_x=[1, -2.5], coord_y=[], coord_z=list(range(8)))
    x = [1.0, -2.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    z = [float(i) for i in range(8)]
    assert {"x": x, "y": ORIGIN, "z": z} == token["coordinates"]
    updated = await peer("token.update", token_id=token["token_id"], coord_z=[9e300])
    expected = {"x": x, "y": ORIGIN, "z": [9e300, *ORIGIN[1:]]}
    assert expected == updated.payload["coordinates"]
    assert expected == (await peer("token.get", token_id=token["token_id"])).payload["coordinates"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"coord_x": [0.0] * (len(LEVELS) + 1)}, "payload.coord_x"),
        ({"coord_y": [0.0, "1"]}, "payload.coord_y[1]"),
        ({"coord_y": [True]}, "payload.coord_y[0]"),
        ({"coord_z": None}, "payload.coord_z"),
        ({"flags": 2**32}, "payload.flags"),
        ({"flags": -1}, "payload.flags"),
        ({"flags": 1.0}, "payload.flags"),
        ({"weight": "1"}, "payload.weight"),
        ({"type": ""}, "payload.type"),
        ({"type": "x" * 51}, "payload.type"),
        ({"type": "a\0b"}, "payload.type"),
        ({"token_id": "not-a-uuid"}, "payload.token_id"),
        ({"metadata": []}, "payload.metadata"),
        ({"metadata": {"k": "x" * 16384}}, "payload.metadata"),
        ({"colour": 1}, "payload.colour"),
    ],
)
async def test_refused_fields(node: Node, fields: dict[str, Any], path: str) -> None:
    """A field that breaks its rule is named by its path, and nothing is created or logged."""
    said = await node.peer()("token.create", **fields)
    assert ("error", "invalid_payload") == (said.type, said.payload["code"])
    assert [path] == [fault["path"] for fault in said.payload["details"]["errors"]]
    assert [(0, 0)] == await node.rows("select (select count(*) from tokens), (select count(*) from events)")


@pytest.mark.parametrize("field", ["type", "weight", "flags", "coord_x", "metadata"])
async def test_update_refuses_null(peer: Peer, field: str) -> None:
    """Null in an update is not "leave as it is"."""
    said = await peer("token.update", token_id=str(uuid4()), **{field: None})
    assert "invalid_payload" == said.payload["code"]


async def test_own_id_and_its_second_use(peer: Peer) -> None:
    """A chosen id is kept; used again it is a conflict, in a later batch and in the same, and changes nothing."""
    token_id = str(uuid4())
    await peer.node.peer().post("token.create", token_id=token_id.upper(), type="first")
    await peer.post("token.create", token_id=token_id, type="second")
    await peer.post("token.create", token_id=token_id, type="third")
    await peer.answered(2)
    assert ["conflict"] * 2 == [said.payload["code"] for said in peer.replies]
    got = await peer("token.get", token_id=token_id)
    assert (token_id, "first", 1) == (got.payload["token_id"], got.payload["type"], got.payload["version"])
    assert "conflict" == (await peer("token.create", token_id=token_id)).payload["code"]
    assert 1 == len(await peer.node.log("tokens"))


async def test_update_changes_what_is_given(peer: Peer) -> None:
    """Fields that are left out stay; falsy ones (0, {}, []) are given; version grows by one each time."""
    token = await make(peer, type="t", weight=2.5, flags=2**32 - 1, coord_x=[1.0], metadata={"a": 1})
    updated = (await peer("token.update", token_id=token["token_id"], weight=0)).payload
    assert {**token, "weight": 0.0, "version": 2, "updated_at": updated["updated_at"]} == updated
    assert updated["updated_at"] > token["updated_at"]
    again = (await peer("token.update", token_id=token["token_id"], flags=0, coord_x=[], metadata={})).payload
    expected = {**updated, "flags": 0, "metadata": {}, "version": 3, "updated_at": again["updated_at"]}
    expected["coordinates"] = {"x": ORIGIN, "y": ORIGIN, "z": ORIGIN}
    assert expected == again
    assert again == (await peer("token.get", token_id=token["token_id"])).payload
    assert again == orjson.loads((await peer.node.log("tokens"))[-1].payload)


async def test_if_version(peer: Peer) -> None:
    """`if_version` that does not match is a conflict without effect; of two that race, one wins."""
    token_id = (await make(peer))["token_id"]
    said = await peer("token.update", token_id=token_id, weight=5.0, if_version=2)
    assert ("conflict", {"version": 1}) == (said.payload["code"], said.payload["details"])
    racers = [peer.node.peer(f"racer {n}") for n in range(20)]
    for n, racer in enumerate(racers):
        await racer.post("token.update", token_id=token_id, flags=n, if_version=1)
    for racer in racers:
        await racer.answered(1)
    assert ["token.updated"] + ["error"] * 19 == sorted((r.replies[0].type for r in racers), reverse=True)
    assert 2 == (await peer("token.get", token_id=token_id)).payload["version"]
    assert 2 == len(await peer.node.log("tokens"))


async def test_not_found(peer: Peer) -> None:
    """What is not there is `not_found` with its id, for get, update and delete, and logs nothing."""
    token_id = str(uuid4())
    expected = Said("token.not_found", {"token_id": token_id})
    for command in ("token.get", "token.update", "token.delete"):
        assert expected == await peer(command, token_id=token_id)
    assert [] == await peer.node.log("tokens")


async def test_delete_cascades(peer: Peer) -> None:
    """A deleted token takes its edges of all kinds with it: an event for each, and none of a stranger's."""
    hub, *others, stranger = [(await make(peer))["token_id"] for _ in range(5)]
    edges = [
        (await peer("graph.connect", source_id=s, target_id=t, type=type_, bidirectional=both)).payload
        for s, t, type_, both in [
            (hub, others[0], "a", False),
            (hub, others[0], "b", True),
            (others[1], hub, "a", False),
            (others[2], hub, "a", True),
        ]
    ]
    kept = (await peer("graph.connect", source_id=others[0], target_id=stranger)).payload
    assert Said("token.deleted", {"token_id": hub}) == await peer("token.delete", token_id=hub)
    events = [event for event in await peer.node.log("graph") if event.type == "graph.disconnected"]
    keys = ("connection_id", "source_id", "target_id", "type")
    gone = {tuple(orjson.loads(event.payload)[key] for key in keys) for event in events}
    assert {tuple(edge[key] for key in keys) for edge in edges} == gone
    assert 4 == len(events)
    assert [(UUID(kept["connection_id"]),)] == await peer.node.rows("select connection_id from edges")
    last = (await peer.node.log("tokens"))[-1]
    assert ("token.deleted", {"token_id": hub}) == (last.type, orjson.loads(last.payload))


async def test_delete_of_both_ends_in_one_batch(peer: Peer) -> None:
    """An edge whose two ends are deleted in one batch is disconnected once."""
    a, b = [(await make(peer))["token_id"] for _ in range(2)]
    await peer("graph.connect", source_id=a, target_id=b)
    for token_id in (b, a, b):
        await peer.post("token.delete", token_id=token_id)
    await peer.answered(len(peer.replies) + 3)
    assert ["token.deleted", "token.deleted", "token.not_found"] == [said.type for said in peer.replies[-3:]]
    assert ["graph.connected", "graph.disconnected"] == [event.type for event in await peer.node.log("graph")]


async def test_created_anew(peer: Peer) -> None:
    """An id whose token was deleted may be used again, in one batch too, and starts at version 1."""
    token_id = str(uuid4())
    for command in ("create", "update", "delete", "create", "update", "update", "delete", "create"):
        await peer.post(f"token.{command}", token_id=token_id)
    await peer.answered(8)
    assert "error" not in {said.type for said in peer.replies}
    assert [1, 2, None, 1, 2, 3, None, 1] == [said.payload.get("version") for said in peer.replies]
    assert [event.type for event in await peer.node.log("tokens")] == [said.type for said in peer.replies]


async def test_strings_are_data(peer: Peer) -> None:
    r"""SQL, quotes, formats and controls in strings come back as they were, \u0000 in metadata too."""
    type_ = NASTY[:50]
    metadata = {NASTY: [NASTY, "\0", {"\0": "\0\0"}], "": None, "\ud7ff\ue000": 1e-7}
    token = await make(peer, type=type_, metadata=metadata)
    assert (type_, metadata) == (token["type"], token["metadata"])
    listed = await peer("token.list", type=type_, full=True)
    assert [token] == listed.payload["tokens"]
    updated = await peer("token.update", token_id=token["token_id"], metadata={"\0": NASTY})
    assert {"\0": NASTY} == updated.payload["metadata"]
    assert updated == Said("token.updated", (await peer("token.get", token_id=token["token_id"])).payload)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Surrogates are no characters: they are not JSON in UTF-8.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


async def test_values_survive(database_url: str) -> None:
    """Any legal JSON and any finite double comes back from the tables, and from the log, as it was sent."""
    samples: list[tuple[dict[str, Any], float, list[float]]] = []

    @given(
        st.dictionaries(st.text(max_size=3).filter(str.isascii), JSON, max_size=3),
        NUMBERS,
        st.lists(NUMBERS, max_size=8),
    )
    def collect(metadata: dict[str, Any], weight: float, x: list[float]) -> None:
        samples.append((metadata, weight, x))

    collect()
    samples.append(({}, 5e-324, [1.7976931348623157e308, -0.0, 2.2250738585072014e-308]))
    async with open_node(database_url) as node:
        peer = node.peer()
        for metadata, weight, x in samples:
            await peer.post("token.create", metadata=metadata, weight=weight, coord_x=x)
        await peer.answered(len(samples))
        logged = await node.log("tokens")
        for (metadata, weight, x), said, event in zip(samples, tuple(peer.replies), logged, strict=True):
            got = (await peer("token.get", token_id=said.payload["token_id"])).payload
            assert (metadata, weight, [*x, *ORIGIN[len(x) :]]) == (
                got["metadata"],
                got["weight"],
                got["coordinates"]["x"],
            )
            assert math.copysign(1, weight) == math.copysign(1, got["weight"])
            assert got == said.payload == orjson.loads(event.payload)


async def test_a_cascade_over_the_limit(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have one delete cascade without end; and to have it take its neighbours in the batch with it."""
    monkeypatch.setattr(tokens, "CASCADE_EDGES", 3)
    hub, *leaves = [(await peer("token.create")).payload["token_id"] for _ in range(6)]
    for leaf in leaves:
        await peer("graph.connect", source_id=hub, target_id=leaf)
    before = len(peer.replies)
    await peer.post("token.delete", token_id=leaves[0])
    await peer.post("token.delete", token_id=hub)
    await peer.post("token.delete", token_id=leaves[1])
    await peer.answered(before + 3)
    assert ["token.deleted", "error", "token.deleted"] == [said.type for said in peer.replies[before:]]
    assert "conflict" == peer.replies[before + 1].payload["code"]
    assert "token.deleted" == (await peer("token.delete", token_id=hub)).type
