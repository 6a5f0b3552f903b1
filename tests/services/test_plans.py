"""Every query of the services and the log, explained on a database of some size: an index for each.

Nodes run these as prepared statements, so both plans count: the one for the values at hand, and the generic one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, pairwise
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from psycopg import sql

from ngos.log import replies, retention, store
from ngos.protocol.commands import ExperienceList, GraphNeighbors, TokenList
from ngos.services import experience, graph, paths, tokens
from ngos.services.pages import encode_cursor
from tests.databases import TestServer

FILL = """
create function an_id(n bigint) returns uuid language sql immutable as
    $$ select lpad(to_hex(n), 32, '0')::uuid $$;
insert into tokens (token_id, type, weight, flags, x, y, z, metadata, created_at)
    select an_id(n), 't' || n % 50, 1, 0, zero, zero, zero, json_build_object('k', repeat('x', 50)),
        '2026-01-01'::timestamptz + n * interval '1 s'
    from generate_series(1, 30000) n, (select array_fill(0::float8, array[8]) as zero) as zero;
insert into edges (connection_id, source_id, target_id, type, weight, bidirectional, metadata)
    select an_id(n), an_id(n % 30000 + 1), an_id(n * 7919 % 29989 + 1), 'e' || n, 1, n % 5 = 0, '{}'
    from generate_series(1, 60000) n where n % 30000 <> n * 7919 % 29989;
insert into experiences (event_id, event_type, token_id, reward, priority, trajectory_id, sequence_number, metadata,
        created_at)
    select an_id(n), 't' || n % 50, an_id(n % 3000 + 1), 0, 1, 'trajectory ' || n % 1000, n / 1000 + 1, '{}',
        '2026-01-01'::timestamptz + n * interval '1 s'
    from generate_series(1, 30000) n;
insert into trajectories select 'trajectory ' || n, 31 from generate_series(0, 30000) n;
insert into topics (topic) select 'custom.' || n from generate_series(1, 3000) n;
insert into events (topic_id, seq, type, created_at, payload)
    select topic_id, n, 'token.created', now(), json_build_object('k', repeat('x', 200))
    from generate_series(1, 10000) n, topics where topic in ('tokens', 'graph', 'experience');
insert into replies (subject, command_id, command_hash, type, payload, created_at)
    select 'client:' || n % 100, 'c' || n, an_id(n), 't', '{}', '2026-01-01'::timestamptz + n * interval '1 s'
    from generate_series(1, 30000) n;
"""
BIG = ("tokens", "edges", "experiences", "events", "trajectories", "replies")


@pytest.fixture(scope="module")
def filled(postgres_server: TestServer) -> Iterator[psycopg.Connection[Any]]:
    conninfo = postgres_server.create_database()
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(FILL)
        conn.execute("vacuum analyze")
        yield conn
    postgres_server.drop_database(conninfo)


def an_id(n: int) -> UUID:
    return UUID(int=n)


AT = datetime(2026, 1, 1, 5, tzinfo=UTC)
IDS = [an_id(n * 101) for n in range(1, 101)]
CURSOR = encode_cursor(datetime(2026, 1, 1, 4, tzinfo=UTC), an_id(14400))
_EDGE = {"type": "new", "weight": 1.0, "bidirectional": False, "metadata": "{}"}
_TOKEN = {"type": "t", "weight": 1.0, "flags": 0, "x": [0.0], "y": [0.0], "z": [0.0], "metadata": "{}"}
_STEP = {"event_type": "t1", "reward": 0.0, "priority": 1.0, "metadata": "{}", "step": 1}


def rows(values: list[dict[str, Any]]) -> str:
    return orjson.dumps(values).decode()


def inserted(topic: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    """The parameters of a statement of `store.insert_and_append`."""
    numbered = [value | {"ordinal": n, "sender_id": "me", "payload": "{}"} for n, value in enumerate(values)]
    return {"rows": rows(numbered), "topic": topic, "type": "t", "at": AT}


QUERIES: dict[str, tuple[str, Any]] = {
    "create": (tokens.CREATE, inserted("tokens", [{"token_id": an_id(40000 + n), **_TOKEN} for n in range(100)])),
    "create all": (
        tokens.CREATE_ALL,
        inserted("tokens", [{"token_id": an_id(40000 + n), **_TOKEN} for n in range(100)]) | {"count": 100},
    ),
    "update": (
        tokens._UPDATE,
        {"changes": rows([{"token_id": id_, "weight": 2.0, "if_version": 1} for id_ in IDS]), "at": AT},
    ),
    "lock": (tokens._LOCK, [IDS]),
    "count edges": (tokens._COUNT_EDGES, {"ids": IDS, "limit": 50_001}),
    "delete edges": (tokens._DELETE_EDGES, {"ids": IDS}),
    "delete tokens": (tokens._DELETE, [IDS]),
    "get": (tokens._GET, [IDS[0]]),
    "connect": (
        graph.CONNECT,
        inserted(
            "graph",
            [
                {"connection_id": an_id(90000 + n), "source_id": s, "target_id": t, **_EDGE}
                for n, (s, t) in enumerate(pairwise(IDS))
            ],
        ),
    ),
    "first": (graph._FIRST, [IDS[0], IDS[1], "e1"]),
    "find": (graph._FIND, [IDS, IDS, IDS[::-1]]),
    "disconnect": (graph._DISCONNECT, [IDS]),
    "degree": (graph._DEGREE, {"token_id": IDS[0]}),
    "forward": (paths.FORWARD, {"ids": IDS, "limit": 1000}),
    "backward": (paths.BACKWARD, {"ids": IDS, "limit": 1000}),
    "exists": (paths.EXISTS, [IDS[0]]),
    "record": (
        experience._RECORD,
        {
            "rows": rows(
                [{"event_id": an_id(90000 + n), "trajectory_id": f"trajectory {n}", **_STEP} for n in range(100)]
            ),
            "at": AT,
        },
    ),
    "find replies": (
        replies._FIND,
        [rows([{"subject": f"client:{n}", "command_id": f"c{n * 100}"} for n in range(1, 101)])],
    ),
    "keep replies": (
        replies._KEEP,
        {
            "rows": rows([{"subject": "me", "command_id": f"{n}", "topic": "tokens", "seq": n} for n in range(1, 101)]),
            "at": AT,
        },
    ),
    "forget replies": (replies._FORGET, [AT, 1000]),
    "retained": (retention._TOPICS, [0, 500]),
    "created at": (retention._CREATED_AT, [1, 5000]),
    "mark": (retention._MARK, [5000, 1, 5000]),
    "sweep": (retention._SWEEP, [1, 5000, 1000]),
    "read": (store._READ, ["tokens", 5000, 6000, 100]),
    "append": (
        store._APPEND,
        {
            "drafts": rows([{"topic": "tokens", "ordinal": n, "type": "t", "payload": "{}"} for n in range(1, 101)]),
            "topics": ["tokens"],
            "at": AT,
        },
    ),
}
for name, fields in {
    "": {},
    " of a type": {"type": "t1"},
    " after": {"after": CURSOR},
    " of a type after": {"type": "t1", "after": CURSOR},
    " by offset": {"offset": 100},
}.items():
    QUERIES[f"list{name}"] = tokens.list_query(TokenList(**fields))
    QUERIES[f"list full{name}"] = tokens.list_query(TokenList(full=True, limit=1000, **fields))
for direction in ("both", "incoming", "outgoing"):
    for type_ in (None, "e7"):
        of_type = "" if type_ is None else " of a type"
        QUERIES[f"neighbors {direction}{of_type}"] = graph.neighbors_query(
            GraphNeighbors(token_id=IDS[0], direction=direction, type=type_)
        )
for name, fields in {
    "": {},
    " of a type": {"event_type": "t1"},
    " of a token": {"token_id": an_id(101)},
    " of a trajectory": {"trajectory_id": "trajectory 7"},
    " of all three": {"event_type": "t7", "token_id": an_id(8), "trajectory_id": "trajectory 7"},
}.items():
    QUERIES[f"experiences{name}"] = experience.list_query(ExperienceList(**fields))
    QUERIES[f"experiences{name} after"] = experience.list_query(ExperienceList(after=CURSOR, **fields))


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("name", QUERIES)
def test_index(filled: psycopg.Connection[Any], name: str, generic: bool) -> None:
    """No query reads a big table, or the index of one, from end to end."""
    query, parameters = QUERIES[name]
    plan = explain(filled, query, parameters, generic=generic)
    assert [] == list(long_scans(plan)), orjson.dumps(plan, option=orjson.OPT_INDENT_2).decode()


def test_long_scans_are_seen(filled: psycopg.Connection[Any]) -> None:
    """The test above would see a scan of a whole table, and of a whole index."""
    for query in (
        "select * from tokens where weight = %s",
        "select * from edges where connection_id = %s or source_id in (select gen_random_uuid()) order by 1",
        "select * from tokens where weight = %s order by created_at desc, token_id desc limit 1",
    ):
        parameter = 3.0 if "weight" in query else IDS[0]
        assert 1 == len(list(long_scans(explain(filled, query, [parameter], generic=True))))


def test_foreign_keys(filled: psycopg.Connection[Any]) -> None:
    """What Postgres asks by itself when a token is deleted has an index too, for both ends."""
    for end in ("source_id", "target_id"):
        query = f"select 1 from edges x where %s = {end} for key share of x"
        assert [] == list(long_scans(explain(filled, query, [IDS[0]], generic=True)))


def long_scans(plan: dict[str, Any], *, limited: bool = False) -> Iterator[str]:
    """Scans of big tables that no index narrows; reading an index in its order, up to a limit, is none."""
    limited = limited or plan["Node Type"] == "Limit"
    if plan.get("Relation Name") in BIG and "Scan" in plan["Node Type"]:
        in_order = limited and plan["Node Type"] == "Index Scan" and "Filter" not in plan
        if not in_order and not {"Index Cond", "Recheck Cond", "TID Cond"} & plan.keys():
            yield f"{plan['Node Type']} on {plan['Relation Name']}"
    for child in plan.get("Plans", ()):
        yield from long_scans(child, limited=limited)


def explain(conn: psycopg.Connection[Any], query: str, parameters: Any, *, generic: bool) -> dict[str, Any]:
    """The plan, as a prepared statement has it."""
    if isinstance(parameters, dict):
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
        values = [parameters[name] for name in names]
        statement = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", query)
    else:
        numbers = count(1)
        values = parameters
        statement = re.sub("%s", lambda _: f"${next(numbers)}", query)
    literals = ", ".join(sql.Literal(value).as_string(conn) for value in values)
    conn.execute(f"set plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
    conn.execute(f"prepare it as {statement}")
    try:
        row = conn.execute(f"explain (format json) execute it({literals})").fetchone()
        assert row is not None
        plan: dict[str, Any] = row[0][0]["Plan"]
        return plan
    finally:
        conn.execute("deallocate it")
