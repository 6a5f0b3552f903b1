"""Les Misérables as tokens and edges, loaded through the public API: 77 characters, 254 pairs that share chapters.

Needs networkx and numpy, the extra `demo`, and imports them only when asked for the graph. May import `ngos.client`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import trio
from attrs import define, frozen

from ngos.client.errors import CommandError
from ngos.client.trio import Client
from ngos.errors import SetupError
from ngos.protocol.commands import Command, GraphConnect, TokenCreate
from ngos.protocol.faults import ErrorCode

SOURCE: Final = "urn:ngos:demo:les-miserables:"
Points = dict[str, tuple[float, float, float]]


@frozen
class Graph:
    """What to create. The tokens go first: an edge needs both its ends."""

    tokens: tuple[TokenCreate, ...]
    edges: tuple[GraphConnect, ...]


@define
class Tally:
    """How many were created, and how many the server had already."""

    created: int = 0
    there: int = 0


def token_id(name: str) -> UUID:
    """Return a character's id: the same in each run, so that a second one finds what the first one made."""
    return uuid5(NAMESPACE_URL, SOURCE + name)


def les_miserables() -> Graph:
    """Return the graph with a point per level for each character. Raises SetupError without networkx."""
    try:
        import networkx as nx
        import numpy as np  # noqa: F401 - the layouts need it
    except ImportError as exc:
        raise SetupError("ngos demo needs networkx: pip install 'ngos[demo]'") from exc
    graph = nx.les_miserables_graph()
    communities = _communities(nx, graph)
    levels = _levels(nx, graph, communities)
    chapters = dict(graph.degree(weight="weight"))
    most = max(chapters.values())
    tokens = tuple(
        TokenCreate(
            token_id=token_id(name),
            type="character",
            coord_x=tuple(points[name][0] for points in levels),
            coord_y=tuple(points[name][1] for points in levels),
            coord_z=tuple(points[name][2] for points in levels),
            weight=chapters[name] / most,
            metadata={"name": name, "community": communities[name], "chapters_shared": chapters[name]},
        )
        for name in graph
    )
    edges = tuple(
        GraphConnect(
            source_id=token_id(source),
            target_id=token_id(target),
            type="shares_chapters",
            weight=float(weight),
            bidirectional=True,
            metadata={"names": [source, target]},
        )
        for source, target, weight in graph.edges(data="weight")
    )
    return Graph(tokens, edges)


async def load(client: Client, commands: tuple[Command, ...], advance: Callable[[], None]) -> Tally:
    """Send all commands at once and count what they came to; `advance` is called for each reply.

    What is there already (`conflict`) is counted and no error. Raises as `Client.request` does, in a group.
    Cancelled, what was sent stays; another run completes it.
    """
    tally = Tally()

    async def send(command: Command) -> None:
        try:
            await client.request(command)
        except CommandError as exc:
            if exc.code != ErrorCode.CONFLICT:
                raise
            tally.there += 1
        else:
            tally.created += 1
        advance()

    async with trio.open_nursery() as nursery:
        for command in commands:
            nursery.start_soon(send, command)
    return tally


def _communities(nx: Any, graph: Any) -> dict[str, int]:
    found = nx.community.greedy_modularity_communities(graph, weight="weight")
    return {name: number for number, members in enumerate(found) for name in members}


def _levels(nx: Any, graph: Any, communities: dict[str, int]) -> tuple[Points, ...]:
    """Return a layout per level, in the order of `ngos.protocol.rules.LEVELS`, within -1 to 1."""
    order = {name: float(index) for index, name in enumerate(graph)}
    degree = {name: float(value) for name, value in graph.degree()}
    shared = {name: float(value) for name, value in graph.degree(weight="weight")}
    betweenness = nx.betweenness_centrality(graph)
    closeness = nx.closeness_centrality(graph)
    clustering = nx.clustering(graph)
    groups = {name: float(number) for name, number in communities.items()}
    return (
        _points(nx.spring_layout(graph, dim=3, weight=None, seed=1)),  # physical: who touches whom
        _points(nx.spring_layout(graph, dim=3, weight="weight", seed=2)),  # sensory: who is seen with whom
        _points(nx.spring_layout(graph, dim=3, weight="weight", seed=3, iterations=10)),  # motor: still moving
        _points(nx.spectral_layout(graph, dim=3, weight="weight")),  # emotional: what pulls apart
        _points(nx.spectral_layout(graph, dim=3, weight=None)),  # cognitive: the shape alone
        _axes(groups, degree, clustering),  # social: circles, and how close-knit
        _axes(order, shared, degree),  # temporal: as they enter
        _axes(betweenness, closeness, degree),  # abstract: importance, three ways
    )


def _points(layout: dict[str, Any]) -> Points:
    return _axes(*({name: float(point[axis]) for name, point in layout.items()} for axis in range(3)))


def _axes(x: dict[str, float], y: dict[str, float], z: dict[str, float]) -> Points:
    scaled = [_scaled(axis) for axis in (x, y, z)]
    return {name: (scaled[0][name], scaled[1][name], scaled[2][name]) for name in x}


def _scaled(axis: dict[str, float]) -> dict[str, float]:
    """Stretch values to -1 … 1."""
    least, most = min(axis.values()), max(axis.values())
    span = (most - least) or 1.0
    return {name: round(2 * (value - least) / span - 1, 6) for name, value in axis.items()}
