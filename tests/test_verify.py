"""`ngos verify` on the database: a history that a real server made is sound, and each kind of damage to it is found."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
import trio

from ngos.client.trio import connect
from ngos.verify import verify
from tests.histories import LAST, REPLIES, History, faults, texts
from tests.servers import running_server


def of(topic: str) -> str:
    return f"topic_id = (select topic_id from topics where topic = '{topic}')"


def append(topic: str, select: str) -> str:
    """SQL that gives a topic another event: `select` has its type and payload."""
    return f"""
        update topics set seq = seq + 1 where topic = '{topic}';
        insert into events (topic_id, seq, type, created_at, payload)
            select topic_id, topics.seq, said.type, now(), said.payload::json from topics,
                ({select}) as said(type, payload) where topic = '{topic}'
    """


def test_a_sound_history(history: History) -> None:
    """Tries to find a fault, or to look at less than there is, where a real server made every kind of change."""
    report = history.verify(history.journal, complete=True)
    assert "" == texts(report)
    assert report.sound
    looked_at = {check.name: check.looked_at for check in report.checks}
    events = sum(LAST.values())
    rows = 3 + 2 + 5
    folded = events - LAST["chat.x"]
    assert {
        "numbers": events,
        "changes": folded + rows,
        "trajectories": 1,
        "replies": REPLIES,
        "journals": events,
        "identity": 1,
    } == looked_at
    assert LAST == {name: topic["seq"] for name, topic in report.topics.items()}


@pytest.mark.parametrize(
    ("damage", "expected", "text"),
    [
        # numbers
        (
            f"delete from replies; delete from events where {of('chat.x')} and seq = 2",
            {"numbers": 1},
            "x: 2 is missing",
        ),
        (f"delete from replies; delete from events where {of('chat.x')} and seq < 3", {"numbers": 2}, "1 to 2 are"),
        (
            f"delete from replies; delete from events where {of('chat.x')} and seq = 3",
            {"numbers": 1},
            "x: 3 is missing",
        ),
        (f"delete from replies; delete from events where {of('chat.x')}", {"numbers": 3}, "1 to 3 are missing"),
        ("update topics set seq = 2 where topic = 'chat.x'", {"numbers": 1}, "1 after its last number 2, up to 3"),
        ("update topics set pruned = 4 where topic = 'chat.x'", {"numbers": 1}, "pruned up to 4"),
        ("update topics set topic = 'x' where topic = 'tokens'", {"numbers": 1, "changes": 1}, "tokens: the topic is"),
        # changes: the rows
        ("delete from edges where type = 'next'", {"changes": 1}, "is not there, though graph 2 says so"),
        ("delete from experiences where sequence_number is null", {"changes": 2}, "though experience 4 says so"),
        (
            """insert into edges select gen_random_uuid(), target_id, source_id, type, weight, bidirectional, metadata
            from edges where type = 'next'""",
            {"changes": 1},
            "is there, without an event",
        ),
        # changes: the events
        (
            append("tokens", f"select type, payload::text from events where {of('tokens')} and seq = 2"),
            {"changes": 1},
            "tokens 8: token",
        ),
        (
            append(
                "tokens", "select 'token.deleted', json_build_object('token_id', token_id)::text from tokens limit 1"
            ),
            {"changes": 1},
            "is there, without an event",
        ),
        (
            append("tokens", """select 'token.deleted', '{"token_id":"00000000-0000-0000-0000-000000000000"}'"""),
            {"changes": 1},
            "tokens 8: token 00000000-0000-0000-0000-000000000000 is deleted, and was never created",
        ),
        (
            append("tokens", f"select type, payload::text from events where {of('tokens')} and seq = 6"),
            {"changes": 1},
            "goes from version 3 to 3",
        ),
        (append("tokens", "select 'token.deleted', '{}'"), {"changes": 1}, "does not say of which token"),
        (append("tokens", "select 'token.deleted', '[]'"), {"changes": 1}, "does not say of which token"),
        (
            append("graph", f"select 'graph.tied', payload::text from events where {of('graph')} and seq = 8"),
            {"changes": 1},
            "graph.tied is no event of this topic",
        ),
        (
            f"""delete from replies; update events set payload = replace(payload::text, 'generic', 'special')::json
            where {of("graph")} and type = 'graph.disconnected' and seq = 5""",
            {"changes": 1},
            "is deleted as another than it was in graph 1",
        ),
        (
            f"""delete from replies; update events set payload = replace(payload::text, '"version":1', '"version":2')
            ::json where {of("tokens")} and seq = 4""",
            {"changes": 1},
            "is created with version 2",
        ),
        # trajectories
        ("update trajectories set sequence_number = 4", {"trajectories": 1}, "last that was given out is 4"),
        ("insert into trajectories values ('lost', 2)", {"trajectories": 1}, "lost: numbers up to 2"),
        ("delete from trajectories", {"trajectories": 1}, "way: 3 experiences"),
        (
            "update experiences set sequence_number = 1 where sequence_number = 2",
            {"trajectories": 1, "changes": 1},
            "2 numbers from 1 to 3",
        ),
        (
            "update experiences set sequence_number = 1 where trajectory_id is null",
            {"trajectories": 2, "changes": 2},
            "",
        ),
        (
            "update experiences set sequence_number = 0 where sequence_number = 1",
            {"trajectories": 1, "changes": 1},
            "3 numbers from 0 to 3",
        ),
        # replies
        (
            "update replies set seq = case seq when 1 then 2 else 1 end where type = 'token.created' and seq < 3",
            {"replies": 2},
            "does not say what tokens",
        ),
        (
            """insert into replies select 'client:maker', 'other', command_hash, type, payload, topic_id, seq, now()
            from replies where type = 'token.deleted'""",
            {"replies": 1},
            "tokens 7 is the event of 2 replies",
        ),
        (
            "update replies set payload = replace(payload, '\\u0000', '\\u0001') where type = 'graph.connected'",
            {"replies": 2},
            "does not say what graph",
        ),
        (
            "update replies set payload = replace(payload, '\"seq\":2', '\"seq\":1') where type = 'published'",
            {"replies": 1},
            "tells of chat.x 1",
        ),
        ("update replies set seq = 1 where type = 'error'", {"replies": 1}, "though it changed nothing"),
        ("update replies set seq = null where type = 'published'", {"replies": 3}, "points at no event"),
        ("update replies set seq = 8 where type = 'token.deleted'", {"replies": 1}, "points at tokens 8, which is not"),
        (
            "update replies set type = 'token.made' where type = 'token.deleted'",
            {"replies": 1},
            "which is token.deleted",
        ),
        ("update replies set topic_id = 99 where type = 'published'", {"replies": 3}, "a topic that is not there"),
        ("update replies set payload = '[]' where type = 'error'", {"replies": 1}, "is not a JSON object"),
    ],
)
def test_damage_is_found(history: History, damage: str, expected: dict[str, int], text: str) -> None:
    """Tries to damage the database so that no check, or another than is due, finds it."""
    history.execute(damage)
    report = history.verify()
    assert expected == faults(report), texts(report)
    assert text in texts(report)


OTHER_TOKEN = (
    "(select token_id from tokens where token_id not in (select unnest(array[source_id, target_id]) from saved))"
)


@pytest.mark.parametrize("table", ["tokens", "edges", "experiences"])
def test_every_column_counts(history: History, table: str) -> None:
    """Tries to change one column of one row so that it is not noticed, or not named."""
    key = {"tokens": "token_id", "edges": "connection_id", "experiences": "event_id"}[table]
    others = {
        "text": "'other'",
        "double precision": "12.5",
        "bigint": "77",
        "double precision[]": "{column}[2:8] || 0.25::float8",
        "json": """'{{"nul": "\\u0000!"}}'""",
        "boolean": "not {column}",
        "timestamp with time zone": "{column} + interval '1 microsecond'",
        "uuid": OTHER_TOKEN if table == "edges" else "gen_random_uuid()",
    }
    with psycopg.connect(history.url, autocommit=True) as db:
        db.execute(f"create table saved as select * from {table} order by {key} limit 1")
        columns = db.execute(
            "select column_name, case data_type when 'ARRAY' then 'double precision[]' else data_type end "
            "from information_schema.columns where table_name = 'saved'"
        ).fetchall()
        for column, kind in columns:
            if column == key:
                continue
            other = others[kind].format(column=column)
            db.execute(f"update {table} set {column} = {other} where {key} = (select {key} from saved)")
            report = history.verify()
            assert 1 == report.checks[1].faults, column
            said = {"x": "coordinates", "y": "coordinates", "z": "coordinates"}.get(column, column)
            assert f" says: {said} " in texts(report), column
            db.execute(f"update {table} set {column} = saved.{column} from saved where {table}.{key} = saved.{key}")
        assert history.verify().sound


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "about to go"])
def test_a_pruned_log_is_sound(history: History, gone: bool) -> None:
    """Tries to have it called a fault that the log was pruned, in the midst of the lives of tokens and edges."""
    history.execute("update topics set pruned = least(seq, 4)")
    if gone:
        history.execute("delete from events using topics where events.topic_id = topics.topic_id and events.seq <= 4")
    report = history.verify(history.journal)
    assert "" == texts(report)
    unchecked = {check.name: check.unchecked for check in report.checks}
    # Of the rows: two tokens, one edge, four experiences. Of the journal: one event is ephemeral.
    expected = {"numbers": 15, "changes": 7, "trajectories": 0, "replies": 15, "identity": 0, "journals": 16}
    assert expected == unchecked


def test_a_copy_is_remarked_upon(history: History) -> None:
    """Tries to have a restored copy, or a log that was seen to go back, called a fault, or passed over in silence."""
    for doubt in ("", "it went back"):
        history.execute(f"update ngos_identity set doubt = nullif('{doubt}', '')")
        report = history.verify()
        assert report.sound
        (remark,) = [remark for check in report.checks for remark in check.remarks]
        assert doubt in remark
        assert ("database_oid" in remark) is (not doubt)
        assert "gives new epochs" in remark
    history.execute("delete from ngos_identity")
    report = history.verify()
    assert report.sound
    assert ["no database is noted"] == [r[:20] for check in report.checks for r in check.remarks]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("update tokens set updated_at = now() + interval '1 hour' where version = 1", "newer than what was pruned"),
        ("update tokens set weight = 3 where version = 3", "weight 3.0, said 2.0"),
        (
            """insert into tokens select (select (payload ->> 'token_id')::uuid from events where type =
            'token.deleted'), type, weight, flags, x, y, z, metadata from tokens limit 1""",
            "though its last event deleted it",
        ),
    ],
)
def test_damage_beside_a_pruned_log(history: History, damage: str, text: str) -> None:
    """Tries to hide a row that no event tells of among those whose events were pruned."""
    history.execute("update topics set pruned = 4 where topic = 'tokens'")
    history.execute(f"delete from events where {of('tokens')} and seq <= 4")
    history.execute(damage)
    report = history.verify()
    assert {"changes"} == set(faults(report))
    assert text in texts(report)


async def test_beside_a_server_that_writes(database_url: str) -> None:
    """Tries to catch a change without its event, or to hold up the server, while it commits without pause."""
    async with running_server(database_url) as server, connect(server.url, client_id="busy") as client:

        async def write_for_ever() -> None:
            while True:
                token = await client.create_token(metadata={"n": str(uuid4())})
                await client.update_token(token.token_id, weight=0.5)
                await client.record_experience("step", trajectory_id="way")
                await client.delete_token(token.token_id)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(write_for_ever)
            reports = []
            for _ in range(5):
                await client.create_token()  # so that each finds more than the one before
                reports.append(await verify(database_url))
            nursery.cancel_scope.cancel()
    for report in reports:
        assert "" == texts(report)
    numbers = [report.topics["tokens"]["seq"] for report in reports]
    assert sorted(set(numbers)) == numbers
