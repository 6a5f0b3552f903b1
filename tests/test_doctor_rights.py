"""`ngos doctor` about a role that may too little: it must know what `ngos serve` would meet, and say so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
import trio
import typed_settings as ts
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ngos.config import Settings
from ngos.doctor import Finding, State, examine
from tests.daemons import daemon

CREATE: Final = "grant create on schema public to {}"
CHANGE: Final = "grant select, insert, update, delete on all tables in schema public to {}"
READ: Final = "grant select on all tables in schema public to {}"


async def about_database(url: str) -> list[Finding]:
    found = await examine(Settings(port=0, database_url=ts.SecretStr(url)))
    return [one for one in found if one.about in ("database", "schema")]


@pytest.fixture
def poor(database_url: str) -> Iterator[str]:
    """The address for a role that may nothing; what it is granted is granted in `database_url`."""
    name = f"ngos_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("revoke create on schema public from public")
        admin.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
        yield make_conninfo(database_url, user=name)
        admin.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def grant(database_url: str, poor: str, *statements: str) -> None:
    role = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(poor)["user"]))
    with psycopg.connect(database_url, autocommit=True) as admin:
        for statement in statements:
            admin.execute(sql.SQL(statement).format(role))


@pytest.mark.parametrize(
    ("grants", "starts", "said"),
    [
        ((), False, "may not read ngos_schema"),
        ((READ,), False, "may not create in it"),
        ((CHANGE,), False, "may not create in it"),
        ((CREATE,), False, "may not read ngos_schema"),
        ((CREATE, READ), False, "may not read and change: edges, events,"),
        ((CREATE, CHANGE), True, None),
        ((CREATE, CHANGE, "revoke delete on edges from {}"), True, "may not read and change: edges"),
    ],
    ids=["nothing", "read", "change", "create", "create-read", "enough", "no-delete"],
)
async def test_it_knows_what_a_server_would_meet(
    database_url: str, poor: str, grants: tuple[str, ...], starts: bool, said: str | None
) -> None:
    """Tries to have a role called fine with which no server starts, or works, or one called poor that is enough."""
    grant(database_url, poor, *grants)
    found = await about_database(poor)
    problems = [one for one in found if one.state is State.PROBLEM]
    assert {"database", "schema"} == {one.about for one in found}
    if said is None:
        assert [] == problems
    else:
        (schema,) = problems
        assert "schema" == schema.about
        assert said in schema.text
        assert schema.advice
    async with daemon(poor, ready=starts) as server:
        if starts:
            server.process.terminate()
        assert (0 if starts else 1) == await server.ends()


async def test_a_look_that_fails_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have the database's lines vanish, and so all be well, because a question was refused half way."""
    monkeypatch.setattr("ngos.doctor.database._FACTS", "select * from pg_authid_that_is_not_there")
    (found,) = await about_database(database_url)
    assert (State.PROBLEM, "database") == (found.state, found.about)
    assert "does not let us look" in found.text


async def test_a_question_that_takes_too_long(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to hang it by a table that somebody keeps locked: it says so within its deadline."""
    monkeypatch.setattr("ngos.doctor.finding.CHECK_S", 1.0)
    with psycopg.connect(database_url) as other:
        other.execute("lock table ngos_schema in access exclusive mode")
        with trio.fail_after(30):
            found = await examine(Settings(port=0, database_url=ts.SecretStr(database_url)))
        other.rollback()
    (late,) = [one for one in found if one.about == "database"]
    assert State.PROBLEM is late.state
