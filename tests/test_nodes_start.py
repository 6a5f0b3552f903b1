"""Nodes that start: beside whom, when they let clients in, and what they leave behind where they may not."""

from __future__ import annotations

import psycopg
import pytest
import trio

from ngos.app import open_app
from ngos.backplane.line import NOT_YET, Cluster, Line
from ngos.backplane.postgres import PostgresCarrier
from ngos.client.trio import connect
from ngos.errors import SetupError
from ngos.postgres import claim
from tests.daemons import daemon
from tests.servers import running_server, settings_for

LIMIT_S = 20.0


async def test_nobody_is_let_in_before_the_line_was_tried(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to publish, or to follow, at a node that does not hear the others yet, or that has to do without them."""
    begun, go_on = trio.Event(), trio.Event()
    carry = PostgresCarrier.carry

    async def late(self: PostgresCarrier, line: Line, cluster: Cluster) -> None:
        begun.set()
        await go_on.wait()
        await carry(self, line, cluster)

    monkeypatch.setattr(PostgresCarrier, "carry", late)
    monkeypatch.setattr("ngos.app.LINE_S", LIMIT_S)
    async with open_app(settings_for(database_url, backplane="postgres")) as app:
        await begun.wait()
        assert not app.readiness.prepared.is_set()
        go_on.set()
        await app.readiness.prepared.wait()
        assert app.nodes.line.lost is None
    go_on = trio.Event()
    monkeypatch.setattr("ngos.app.LINE_S", 0.0)
    async with open_app(settings_for(database_url, backplane="postgres")) as app:
        await app.readiness.prepared.wait()
        assert app.nodes.line.lost == NOT_YET


async def test_who_is_refused_changes_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have the log of a running server get new epochs by a second one, which is not let in."""
    monkeypatch.setattr(claim, "WAIT_S", 0.0)
    async with running_server(database_url) as first, connect(first.url) as client:
        with psycopg.connect(database_url, autocommit=True) as db:
            db.execute("update ngos_identity set doubt = 'somebody''s'")
            before = db.execute("select topic, epoch from topics order by topic").fetchall()
            with pytest.RaisesGroup(pytest.RaisesExc(SetupError, match="another server"), flatten_subgroups=True):
                async with running_server(database_url):
                    raise AssertionError("it was let in")
            assert before == db.execute("select topic, epoch from topics order by topic").fetchall()
        await client.create_token()


async def test_who_ends_before_it_was_ready_leaves_no_claim(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a database be taken by a server that was ended while it started."""
    claimed = trio.Event()

    async def hang(_conn: object) -> bytes:
        claimed.set()
        await trio.sleep_forever()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr("ngos.app.read_secret", hang)
        async with open_app(settings_for(database_url)) as ended:
            await claimed.wait()
    async with running_server(database_url) as server, connect(server.url) as client:
        await client.create_token()
    assert not ended.readiness.prepared.is_set()


async def test_a_second_server_alone_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to run two servers on one database that don't hear of each other, by mistake."""
    monkeypatch.setattr(claim, "WAIT_S", 0.1)
    async with running_server(database_url):
        with pytest.RaisesGroup(pytest.RaisesExc(SetupError, match="another server")):
            async with running_server(database_url):
                pass


async def test_the_line_that_an_operator_sees(database_url: str) -> None:
    """Tries to leave an operator who starts a second server with a traceback, or with nothing."""
    async with daemon(database_url), daemon(database_url, ready=False) as second:
        assert 1 == await second.ends()
        last = second.log.strip().splitlines()[-1]
        assert "another server" in last
        assert "--backplane postgres or redis" in last
        assert "Traceback" not in second.log


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--backplane", "redis"), "--backplane redis needs --redis-url"),
        (("--backplane", "redis", "--redis-url", "http://:secret@h"), "the address of Redis is none of"),
        (("--backplane", "carrier-pigeon"), "backplane"),
    ],
)
async def test_settings_that_make_no_sense(database_url: str, flags: tuple[str, ...], says: str) -> None:
    """Tries to start with a backplane that can't be, or to have a password be told."""
    async with daemon(database_url, *flags, ready=False) as refused:
        assert 2 == await refused.ends()
        assert says in refused.log
        assert "secret" not in refused.log
        assert "Traceback" not in refused.log
