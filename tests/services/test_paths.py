"""`graph.path`: against networkx on random graphs, and where a search has to stop."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise
from uuid import UUID

import networkx as nx
import pytest

from ngos.services import paths
from tests.services.nodes import Node, Peer, Said

LOAD = """
insert into edges (connection_id, source_id, target_id, type, weight, bidirectional, metadata)
select gen_random_uuid(), s, t, k::text, 1, two_way, '{}'
from unnest(%s::uuid[], %s::uuid[], %s::int[], %s::bool[]) as new(s, t, k, two_way) returning 1
"""
Edge = tuple[UUID, UUID, bool]


async def load(node: Node, token_ids: Iterable[UUID], edges: list[Edge]) -> None:
    """Put a graph into the tables; the n-th edge has the type n."""
    query = (
        "insert into tokens (token_id, type, weight, flags, x, y, z, metadata)"
        " select unnest(%s::uuid[]), 't', 1, 0, '{}', '{}', '{}', '{}' returning 1"
    )
    await node.rows(query, list(token_ids))
    columns = [[edge[0] for edge in edges], [edge[1] for edge in edges], list(range(len(edges)))]
    await node.rows(LOAD, *columns, [edge[2] for edge in edges])


def directed(token_ids: list[UUID], edges: list[Edge]) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(token_ids)
    for source_id, target_id, both in edges:
        graph.add_edge(source_id, target_id)
        if both:
            graph.add_edge(target_id, source_id)
    return graph


@pytest.mark.parametrize("seed", range(6))
async def test_against_networkx(node: Node, peer: Peer, seed: int) -> None:
    """A path is one of the shortest, of edges that lead that way, and found where max_depth allows one, only there."""
    rng = random.Random(seed)
    token_ids = [UUID(int=rng.getrandbits(128)) for _ in range(40)]
    count = rng.choice((30, 50, 70, 120))
    edges = [(*rng.sample(token_ids, 2), rng.random() < 0.2) for _ in range(count)]
    if seed == 0:  # a long way there, and none back
        edges = [(near, far, False) for near, far in pairwise(token_ids)]
    await load(node, token_ids, edges)
    graph = directed(token_ids, edges)
    distances = dict(nx.all_pairs_shortest_path_length(graph))
    for _ in range(150):
        source_id, target_id = rng.choices(token_ids, k=2)
        max_depth = rng.randint(1, 10)
        ends = {"source_id": str(source_id), "target_id": str(target_id)}
        reply = (await peer("graph.path", **ends, max_depth=max_depth)).payload
        length = distances[source_id].get(target_id)
        if length is None or length > max_depth:
            assert ends | {"path": None, "length": None} == reply
            continue
        assert (length, length + 1) == (reply["length"], len(reply["path"]))
        way = [UUID(token_id) for token_id in reply["path"]]
        assert (source_id, target_id) == (way[0], way[-1])
        assert all(graph.has_edge(near, far) for near, far in pairwise(way))


async def test_to_itself_and_to_nothing(node: Node, peer: Peer) -> None:
    """From a token to itself is a path of length 0, where it is there; to what is not there, there is none."""
    here, nowhere = str(UUID(int=1)), str(UUID(int=2))
    await load(node, [UUID(here)], [])
    assert ([here], 0) == tuple((await peer("graph.path", source_id=here, target_id=here)).payload.values())[2:]
    for source_id, target_id in [(nowhere, nowhere), (here, nowhere), (nowhere, here)]:
        none = {"source_id": source_id, "target_id": target_id, "path": None, "length": None}
        assert Said("graph.path", none) == await peer("graph.path", source_id=source_id, target_id=target_id)


async def test_depth_bounds(peer: Peer) -> None:
    """max_depth is 1 to 10, and 5 by default."""
    ends = {"source_id": str(UUID(int=1)), "target_id": str(UUID(int=2))}
    for max_depth in (0, 11, 2.0):
        assert "invalid_payload" == (await peer("graph.path", **ends, max_depth=max_depth)).payload["code"]
    chain = [UUID(int=n) for n in range(1, 8)]
    await load(peer.node, chain, [(near, far, False) for near, far in pairwise(chain)])
    lengths = [
        (await peer("graph.path", source_id=str(chain[0]), target_id=str(chain[n]))).payload["length"] for n in (5, 6)
    ]
    assert [5, None] == lengths


async def test_parallel_edges_hide_nothing(node: Node, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """More parallel edges than a search may see tokens are still one way, and hide no other."""
    monkeypatch.setattr(paths, "SEEN_TOKENS", 50)
    start, decoy, middle, end, dead_end = [UUID(int=n) for n in range(1, 6)]
    edges = [(start, decoy, False)] * 300 + [(start, middle, False), (middle, end, False)]
    edges += [(dead_end, end, False)] * 300
    await load(node, [start, decoy, middle, end, dead_end], edges)
    reply = (await peer("graph.path", source_id=str(start), target_id=str(end))).payload
    assert [str(start), str(middle), str(end)] == reply["path"]


async def test_too_much_to_search(node: Node, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that must stop early says so; it never says that there is no path, or a longer one than there is."""
    monkeypatch.setattr(paths, "SEEN_TOKENS", 50)
    hubs = [UUID(int=1), UUID(int=2)]
    leaves = [UUID(int=n) for n in range(100, 300)]
    edges = [(hubs[0], leaf, False) for leaf in leaves[:100]] + [(leaf, hubs[1], False) for leaf in leaves[100:]]
    edges.append((leaves[99], leaves[100], False))
    await load(node, hubs + leaves, edges)
    said = await peer("graph.path", source_id=str(hubs[0]), target_id=str(hubs[1]))
    assert ("error", "unavailable") == (said.type, said.payload["code"])
