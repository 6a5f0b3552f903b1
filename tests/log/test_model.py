"""Random writes from several lanes against a model: replies, tables and log must tell the same story."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg
import trio
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngos.log.write import Handler, Write
from tests.services.nodes import EMPTY, Node, Peer, Said, open_node

LANES = 3
SHARED = LANES
"""The tokens that all lanes write to; the others are each one lane's own."""

OWNER = st.integers(0, LANES - 1)
PLACE = st.booleans().map(lambda shared: SHARED if shared else None)
TOKEN = st.integers(0, 2)
VERSION = st.none() | st.integers(1, 3)
KIND = st.sampled_from(["r", "s"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), OWNER, PLACE, TOKEN),
        st.tuples(st.just("update"), OWNER, PLACE, TOKEN, VERSION),
        st.tuples(st.just("delete"), OWNER, PLACE, TOKEN),
        st.tuples(st.just("connect"), OWNER, PLACE, TOKEN, TOKEN, KIND),
        st.tuples(st.just("disconnect"), OWNER, PLACE, TOKEN, TOKEN, KIND | st.none()),
        st.tuples(st.just("record"), OWNER, PLACE),
        st.tuples(st.just("defect"), OWNER),
        st.tuples(st.just("pause")),
    ),
    max_size=60,
)


@define
class Model:
    """One lane's own tokens, in the order of its commands."""

    versions: dict[int, int] = field(factory=dict)
    edges: set[tuple[int, int, str]] = field(factory=set)
    steps: int = 0

    def apply(self, name: str, *arguments: Any) -> str:
        """The type of the reply, or the error's code."""
        match name, *arguments:
            case "create", token:
                if token in self.versions:
                    return "conflict"
                self.versions[token] = 1
                return "token.created"
            case "update", token, version:
                if token not in self.versions:
                    return "token.not_found"
                if version not in (None, self.versions[token]):
                    return "conflict"
                self.versions[token] += 1
                return "token.updated"
            case "delete", token:
                if token not in self.versions:
                    return "token.not_found"
                del self.versions[token]
                self.edges = {edge for edge in self.edges if token not in edge[:2]}
                return "token.deleted"
            case "connect", source, target, kind:
                if source == target:
                    return "invalid_payload"
                if not {source, target} <= set(self.versions):
                    return "token.not_found"
                if (source, target, kind) in self.edges:
                    return "conflict"
                self.edges.add((source, target, kind))
                return "graph.connected"
            case "disconnect", source, target, kind:
                found = [edge for edge in self.edges if edge[:2] == (source, target) and kind in (None, edge[2])]
                if len(found) == 1:
                    self.edges.remove(found[0])
                return ("graph.not_found", "graph.disconnected", "conflict")[len(found)]
            case ("record",):
                self.steps += 1
                return "experience.recorded"
        raise AssertionError(name)


def token_id(space: int, token: int) -> str:
    return f"00000000-0000-0000-0000-0000000000{space}{token}"


def command(space: int, name: str, *arguments: Any) -> tuple[str, dict[str, Any]]:
    match name, *arguments:
        case (("create" | "delete"), token):
            return f"token.{name}", {"token_id": token_id(space, token)}
        case "update", token, version:
            return "token.update", {"token_id": token_id(space, token), "weight": 2.0, "if_version": version}
        case (("connect" | "disconnect"), source, target, kind):
            ends = {"source_id": token_id(space, source), "target_id": token_id(space, target)}
            return f"graph.{name}", ends if kind is None else ends | {"type": kind}
        case ("record",):
            return "experience.record", {"event_type": "e", "trajectory_id": f"trajectory {space}"}
    raise AssertionError(name)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_model(database_url: str, steps: list[tuple[Any, ...]]) -> None:
    """Every answered change is in the tables and has its event, no other is; each lane's story is the model's."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(EMPTY)
    trio.run(run, database_url, steps)


async def run(database_url: str, steps: list[tuple[Any, ...]]) -> None:
    async with open_node(database_url) as node:
        watcher, lanes = node.peer("watcher"), [node.peer(f"lane {n}") for n in range(LANES)]
        for topic in ("tokens", "graph", "experience"):
            assert 0 == await watcher.follow(topic)
        models = [Model() for _ in lanes]
        sent = [0] * LANES
        expected: list[list[str | None]] = [[] for _ in lanes]
        for name, *arguments in steps:
            if name == "pause":
                for lane, count in zip(lanes, sent, strict=True):
                    await lane.answered(count)
                continue
            owner, *rest = arguments
            if name == "defect":
                await poison(lanes[owner])
                expected[owner].append("internal")
            else:
                space = owner if rest[0] is None else rest[0]
                type_, payload = command(space, name, *rest[1:])
                # A self-loop is refused when it is read, before what is in the committer is answered.
                if type_ == "graph.connect" and payload["source_id"] == payload["target_id"]:
                    await lanes[owner].answered(sent[owner])
                await lanes[owner].post(type_, **payload)
                expected[owner].append(models[owner].apply(name, *rest[1:]) if space == owner else None)
            sent[owner] += 1
        for lane, count in zip(lanes, sent, strict=True):
            await lane.answered(count)
        for lane, story in zip(lanes, expected, strict=True):
            told = [said.payload["code"] if said.type == "error" else said.type for said in lane.replies]
            assert [mine or theirs for mine, theirs in zip(story, told, strict=True)] == told
        await check_tables(node, models)
        await check_log(node, watcher, [said for lane in lanes for said in lane.replies])


async def poison(lane: Peer) -> None:
    """Send a write that fails in the database with everything that shares its transaction."""

    async def fail(tx: Any, _writes: Any) -> Any:
        await tx.conn.execute("insert into edges (connection_id) values (null)")

    handler: Any = Handler("poison", fail, lambda _command: None)
    await lane.node.committer.submit(Write(handler, None, lane, lane.name, 10, lane._answer))  # type: ignore[arg-type]


async def check_tables(node: Node, models: list[Model]) -> None:
    for space, model in enumerate(models):
        versions = await node.rows(
            "select right(token_id::text, 1)::int, version from tokens where token_id::text like %s",
            f"%%-0000000000{space}_",
        )
        assert model.versions == dict(versions)
        edges = await node.rows(
            "select right(source_id::text, 1)::int, right(target_id::text, 1)::int, type from edges"
            " where source_id::text like %s",
            f"%%-0000000000{space}_",
        )
        assert model.edges == set(edges)
        (steps,) = await node.rows("select count(*) from experiences where trajectory_id = %s", f"trajectory {space}")
        assert (model.steps,) == steps


async def check_log(node: Node, watcher: Peer, replies: list[Said]) -> None:
    logs = {topic: await node.log(topic) for topic in ("tokens", "graph", "experience")}
    # Numbers without gaps, and the subscriber got the same events in the same order.
    for events in logs.values():
        assert list(range(1, len(events) + 1)) == [event.seq for event in events]
    await watcher.heard_events(sum(map(len, logs.values())))
    for topic, events in logs.items():
        heard = [(one["seq"], one["type"], one["payload"]) for one in watcher.events if one["topic"] == topic]
        assert [(event.seq, event.type, orjson.loads(event.payload)) for event in events] == heard
    # Every change that was answered has its event, and no event is without one; but for edges that a token took along.
    changes = {"token.created", "token.updated", "token.deleted", "graph.connected", "graph.disconnected"}
    changes.add("experience.recorded")
    answered = sorted(repr(said) for said in replies if said.type in changes)
    logged = sorted(repr(Said(event.type, orjson.loads(event.payload))) for events in logs.values() for event in events)
    taken_along = [one for one in logged if one not in set(answered)]
    assert answered == [one for one in logged if one in set(answered)]
    assert all("'graph.disconnected'" in one for one in taken_along)
    # The state that the log tells is the state of the tables.
    tokens: dict[str, Any] = {}
    for event in logs["tokens"]:
        payload = orjson.loads(event.payload)
        if event.type == "token.deleted":
            del tokens[payload["token_id"]]
        else:
            assert (event.type == "token.created") == (payload["token_id"] not in tokens)
            assert tokens.get(payload["token_id"], {"version": 0})["version"] + 1 == payload["version"]
            tokens[payload["token_id"]] = payload
    page = (await node.peer()("token.list", full=True, limit=1000)).payload
    assert tokens == {token["token_id"]: token for token in page["tokens"]}
    edges: dict[str, Any] = {}
    for event in logs["graph"]:
        payload = orjson.loads(event.payload)
        if event.type == "graph.disconnected":
            del edges[payload["connection_id"]]
        else:
            edges[payload["connection_id"]] = payload
    assert set(edges) == {str(row[0]) for row in await node.rows("select connection_id from edges")}
    listed = (await node.peer()("experience.list", limit=1000)).payload["events"]
    told = [orjson.loads(event.payload) for event in logs["experience"]]
    assert sorted(map(repr, told)) == sorted(map(repr, listed))
    for name in {step["trajectory_id"] for step in told}:
        numbers = [step["sequence_number"] for step in told if step["trajectory_id"] == name]
        assert list(range(1, len(numbers) + 1)) == numbers
