"""Which database this is, so that one that was restored is known as another.

A log that went back gives its numbers out a second time, for other events. Its topics' epochs are what tells clients
so, and they must change then (protocol.md section 4). Nobody has to think of it: the database's identity is noted
beside the log, and compared at every start, and by a server that runs, on every connection that it makes.

What is compared, each as text, None where it can't be asked for:

- the cluster's system identifier: another after a restore into another cluster, and after pg_upgrade
- the timeline: another after a recovery to a point in time, and when a replica took over, which may lack the latest
- the oids of the database and of the table `topics`: others after a restore by pg_restore

Not seen: files copied back into the same place (a snapshot of a volume), and data restored into the same tables. For
those there is `ngos migrate --new-epochs`; and a server that runs while it happens notes a doubt (`ngos.log.relay`).

Imports ngos.errors and ngos.postgres.driver.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import attrs
import psycopg
import structlog
import trio

from ngos.errors import LogWentBack, SchemaError, StorageUnavailable
from ngos.postgres.driver import TrioConnection

log = structlog.get_logger(__name__)

ASKED_FOR: Final = "asked for"
"""The reason of `ngos migrate --new-epochs`."""

# What may not be called by everybody, or not in recovery, gives null instead of an error.
QUERIES: Final = {
    "system_identifier": """select case when has_function_privilege('pg_control_system()', 'execute')
        then (select system_identifier from pg_control_system()) end::text""",
    "timeline": """select case when not pg_is_in_recovery()
        and has_function_privilege('pg_current_wal_lsn()', 'execute')
        and has_function_privilege('pg_walfile_name(pg_lsn)', 'execute')
        then left(pg_walfile_name(pg_current_wal_lsn()), 8) end""",
    "database_oid": "select oid::text from pg_database where datname = current_database()",
    "topics_oid": "select to_regclass('topics')::oid::text",
}
_RENEW: Final = "update topics set epoch = substr(md5(gen_random_uuid()::text), 1, 8)"
_RENEW_ATTEMPTS: Final = 20


@attrs.frozen
class Identity:
    """Which database this is, as the module says; None: it could not be asked for, and is compared with nothing."""

    system_identifier: str | None = None
    timeline: str | None = None
    database_oid: str | None = None
    topics_oid: str | None = None

    def differs(self, noted: Identity) -> str | None:
        """What is not as it was noted, for the log; None where nothing is."""
        then, now = attrs.asdict(noted), attrs.asdict(self)
        known = [name for name in now if then[name] is not None and now[name] is not None]
        return ", ".join(f"{name} {then[name]} -> {now[name]}" for name in known if then[name] != now[name]) or None

    def unknown(self) -> list[str]:
        """The parts that could not be asked for."""
        return [name for name, value in attrs.asdict(self).items() if value is None]


@attrs.frozen
class Kept:
    """What `keep` found. `renewed`: why the epochs of `topics` topics are new; None: they are not.

    `epochs_at`: when these epochs were given, by the database's clock, or the identity was first noted.
    """

    identity: Identity
    epochs_at: datetime
    renewed: str | None = None
    topics: int = 0


async def read_identity(connection: TrioConnection[Any], *, only: Identity | None = None) -> Identity:
    """Ask for the identity; parts that can't be had are None, as are those that are None in `only`.

    Raises what psycopg raises where the database can't be asked at all. The connection is in autocommit mode.
    """
    names = [name for name in QUERIES if only is None or getattr(only, name) is not None]
    if (together := await _ask(connection, names)) is not None:
        return Identity(**together)
    found: dict[str, str | None] = {}
    for name in names:
        found |= await _ask(connection, [name]) or {}
    return Identity(**found)


async def _ask(connection: TrioConnection[Any], names: list[str]) -> dict[str, str | None] | None:
    """None: of these there is one that this Postgres does not have, as some that others run for us, or refuses."""
    if not names:
        return {}
    try:
        cursor = await connection.execute("select " + ", ".join(f"({QUERIES[name]})" for name in names))
        row = await cursor.fetchone()
    except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.errors.ObjectNotInPrerequisiteState):
        return None
    assert row is not None
    return dict(zip(names, row, strict=True))


async def keep(connection: TrioConnection[Any], *, new_epochs: bool = False) -> Kept:
    """Compare the identity with what is noted, give all topics new epochs where it is another, and note it.

    Whoever calls this holds the lock of the migrations. `new_epochs`: give new ones whatever was found. The first time
    it is only noted. In one transaction: as a whole, or not at all. Raises what psycopg raises, and SchemaError.
    """
    identity = await read_identity(connection)
    cursor = await connection.execute(
        "select system_identifier, timeline, database_oid, topics_oid, doubt, noted_at from ngos_identity"
    )
    row = await cursor.fetchone()
    reason = ASKED_FOR if new_epochs else None
    if row is None and reason is None:
        return Kept(identity, await _note(connection, identity, renewed=False))
    if row is not None:
        noted, epochs_at = Identity(*row[:4]), row[5]
        reason = reason or row[4] or identity.differs(noted)
        if reason is None:
            if noted != identity:
                await _note(connection, _filled(identity, noted), renewed=False)
            return Kept(identity, epochs_at)
    for _ in range(_RENEW_ATTEMPTS):
        try:
            async with connection.transaction():
                # In name order, as all who number events do.
                await connection.execute("select from topics order by topic for update")
                renewed = await connection.execute(_RENEW)
                epochs_at = await _note(connection, identity, renewed=True)
        except psycopg.errors.UniqueViolation:
            continue  # of 32 bits: among many topics, two may draw the same
        return Kept(identity, epochs_at, reason, renewed.rowcount)
    raise SchemaError("no epochs were found that no other topic has: start again")


async def doubt(connection: TrioConnection[Any], reason: str, epochs_at: datetime | None) -> None:
    """Note that the log was seen to have gone back, so that the next start gives new epochs.

    Not where they were given after `epochs_at`, when those of the server that sees it were: then somebody else has
    seen it before, and who has resumed on the new ones would lose the place again. Raises what psycopg raises.
    """
    await connection.execute(
        "update ngos_identity set doubt = %(reason)s where %(at)s::timestamptz is null or noted_at <= %(at)s",
        {"reason": reason, "at": epochs_at},
    )


async def read_secret(connection: TrioConnection[Any]) -> bytes:
    """What the nodes on this database know each other's messages by. Raises what psycopg raises."""
    row = await (await connection.execute("select secret from ngos_cluster")).fetchone()
    assert row is not None
    return bytes(row[0])


class Guard:
    """Looks at every new connection of a pool whether it leads to the database that the server started with.

    Which that is, `expect` says; before, every one will do.
    """

    def __init__(self) -> None:
        self._identity = Identity()
        self._reason: str | None = None
        self._failed = trio.Event()

    def expect(self, identity: Identity) -> None:
        """This is the database."""
        self._identity = identity

    async def check(self, connection: TrioConnection[Any]) -> None:
        """For `open_pool`'s `configure`. StorageUnavailable: it is another, and every connection is refused then."""
        reason = self._reason or (await read_identity(connection, only=self._identity)).differs(self._identity)
        self._reason = self._reason or reason  # another check may have found one meanwhile
        if self._reason is not None:
            self._failed.set()
            raise StorageUnavailable(f"this is not the database that the server started with: {self._reason}")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for a connection that led elsewhere; raises LogWentBack then, else until cancelled."""
        task_status.started()
        await self._failed.wait()
        log.error("log.went_back", reason=self._reason)
        raise LogWentBack(f"the database is not the one that the server started with ({self._reason}): start again")


def _filled(identity: Identity, noted: Identity) -> Identity:
    """What is not known now stays as it was noted."""
    values = attrs.asdict(noted) | {name: value for name, value in attrs.asdict(identity).items() if value is not None}
    return Identity(**values)


async def _note(connection: TrioConnection[Any], identity: Identity, *, renewed: bool) -> datetime:
    """Returns since when the epochs are what they are: now, where they were `renewed` or this is the first time."""
    cursor = await connection.execute(
        """insert into ngos_identity (system_identifier, timeline, database_oid, topics_oid) values (%s, %s, %s, %s)
        on conflict (one) do update set system_identifier = excluded.system_identifier, timeline = excluded.timeline,
            database_oid = excluded.database_oid, topics_oid = excluded.topics_oid, doubt = null,
            noted_at = case when %s then now() else ngos_identity.noted_at end
        returning noted_at""",
        [*attrs.astuple(identity), renewed],
    )
    row = await cursor.fetchone()
    assert row is not None
    noted_at: datetime = row[0]
    return noted_at
