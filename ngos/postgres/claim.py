"""Whose database this is: one server's alone, or that of nodes which tell each other what happens.

An advisory lock on a connection of its own, held for as long as the server runs. Nodes that hear of each other share
it; a server without a backplane shares it with nobody, and nobody is let in whose backplane is another. A server whose
process ends has given it up; one whose machine or network is gone has within 15 s, and knows that before Postgres does.

Who has lost it goes on while the database can't be asked: what is lost with it is only the database, where alone
commands have their effect. When it can be asked again, it takes its claim again, or ends where another has it by then.

Imports ngos.errors and ngos.postgres.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any, Final

import psycopg
import structlog
import trio
from attrs import define, field, frozen

from ngos.errors import SetupError, StorageError, StorageUnavailable
from ngos.postgres.driver import TrioConnection
from ngos.postgres.pool import Configure, connect_first, one_line

MODES: Final = ("none", "postgres", "redis")
WAIT_S: Final = 5.0
"""How long a server that is about to end is waited for."""
LOOK_S: Final = 0.1
RETRY_S: Final = 0.5

_CLASS: Final = 0x6E676F73
"""`ngos`: the first half of our advisory locks' keys. The second is a mode's index, or that of the turn to look."""
_TURN: Final = len(MODES)


@frozen
class Notice:
    """When a side of an idle connection takes the other for gone: after `idle_s`, and `count` questions unanswered.

    They are asked each `interval_s`. Whole seconds; Linux, told both, goes by `total_s` alone, at the next question.
    """

    idle_s: int
    interval_s: int
    count: int

    @property
    def total_s(self) -> int:
        """Seconds since the other was heard last."""
        return self.idle_s + self.interval_s * self.count

    def settings(self, prefix: str) -> dict[str, int]:
        """As libpq (`keepalives`) and Postgres (`tcp_keepalives`) name them."""
        return {
            f"{prefix}_idle": self.idle_s,
            f"{prefix}_interval": self.interval_s,
            f"{prefix}_count": self.count,
            "tcp_user_timeout": self.total_s * 1000,
        }


# A machine that vanishes says no goodbye: without these, Postgres would hold its lock for two hours.
POSTGRES_NOTICES: Final = Notice(3, 3, 4)
# Before Postgres lets another in, which is `idle_s` sooner where it had heard nothing for so long already.
HOLDER_NOTICES: Final = Notice(2, 2, 3)

_NOTICE: Final = "; ".join(
    f"set {name} = {value}" for name, value in POSTGRES_NOTICES.settings("tcp_keepalives").items()
)
_HOLDERS: Final = """
select objid::int8, pid, coalesce(host(client_addr), 'this machine'), coalesce(application_name, '')
from pg_locks left join pg_stat_activity using (pid)
where locktype = 'advisory' and classid = %s::int8::oid and objsubid = 2 and objid < %s::int8::oid and granted
    and pid <> pg_backend_pid() and pg_locks.database = (select oid from pg_database where datname = current_database())
"""

_END: Final = "select pg_terminate_backend(%s, %s)"
_END_MS: Final = 1000

_log = structlog.get_logger("ngos")


@frozen
class _Holder:
    mode: int
    pid: int
    address: str
    is_ghost: bool
    """It is a connection of ours that we have lost, and Postgres not yet."""


@define(eq=False)
class Claim:
    """See the module. `mode` is the setting `backplane`."""

    _conninfo: str
    _mode: str
    _connect_s: float
    _query_s: float
    _configure: Configure
    _connection: TrioConnection[Any] | None = field(init=False, default=None)
    _was_held: bool = field(init=False, default=False)
    _name: str = field(init=False, factory=lambda: f"ngos claim {secrets.token_hex(8)}")

    async def take(self) -> None:
        """Take it. Raises StorageUnavailable; StorageRefused, where the database does not let us in; SetupError, the
        operator's fault, where others have it for WAIT_S.

        Who has had it before waits for nobody: who has it now came meanwhile, and is not about to end.
        """
        if self._connection is not None and self._connection.quiet:
            return
        self.give_up()
        try:
            connection = await connect_first(
                self._connect_s,
                self._conninfo,
                query_s=self._query_s,
                configure=self._configure,
                keepalives=HOLDER_NOTICES.settings("keepalives"),
            )
            try:
                with trio.move_on_after(self._query_s + WAIT_S):
                    await connection.execute(f"{_NOTICE}; set application_name = '{self._name}'", prepare=False)
                    await self._take(connection)
                    self._connection, self._was_held = connection, True
                if self._connection is None:
                    raise StorageUnavailable("no answer from the database, asked whether others use it")
            finally:
                if self._connection is None:
                    connection.close_now()
        except psycopg.Error as exc:
            raise StorageUnavailable(one_line(exc)) from exc

    async def check(self) -> None:
        """Look again, by `configure`, whether it is on the database that is meant. StorageUnavailable: it is not."""
        if self._connection is None:
            raise StorageUnavailable("the claim on the database was lost")
        try:
            with trio.move_on_after(self._query_s):
                await self._configure(self._connection)
                return
        except psycopg.Error as exc:
            self.give_up()
            raise StorageUnavailable(one_line(exc)) from exc
        raise StorageUnavailable("no answer from the database, asked which it is")

    async def _take(self, connection: TrioConnection[Any]) -> None:
        give_up_at = trio.current_time() + (0.0 if self._was_held else WAIT_S)
        told = False
        while (holder := await self._try(connection)) is not None:
            if trio.current_time() >= give_up_at and not holder.is_ghost:
                raise SetupError(self._refusal(holder))
            if not told:
                told = True
                _log.warning("database.in_use", backend=holder.pid, address=holder.address, waiting_s=WAIT_S)
            await trio.sleep(LOOK_S)

    async def _try(self, connection: TrioConnection[Any]) -> _Holder | None:
        """Take it, or return one who is in the way."""
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(%s, %s)", [_CLASS, _TURN])
            rows = await (await connection.execute(_HOLDERS, [_CLASS, _TURN])).fetchall()
            own = MODES.index(self._mode)
            for mode, pid, address, name in rows:
                if self._mode != "none" and mode == own:
                    continue
                holder = _Holder(mode, pid, address, name == self._name)
                # In our turn, so that nobody else gets in between.
                if not (holder.is_ghost and await self._end(connection, pid)):
                    return holder
            await connection.execute("select pg_advisory_lock_shared(%s, %s)", [_CLASS, own])
        return None

    async def _end(self, connection: TrioConnection[Any], pid: int) -> bool:
        row = await (await connection.execute(_END, [pid, _END_MS])).fetchone()
        return row is not None and bool(row[0])

    def _refusal(self, holder: _Holder) -> str:
        who = f"another server, at {holder.address} (backend {holder.pid} of Postgres), uses this database"
        if holder.mode == MODES.index(self._mode):
            return f"{who}: stop it, or give both --backplane postgres or redis"
        mode = MODES[holder.mode]
        return f"{who} with --backplane {mode}, and this one has {self._mode}: give all the same, or stop it"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold it until cancelled: when the connection is lost, take it again.

        Raises SetupError when somebody else has it by then: two would not know of each other.
        """
        task_status.started()
        try:
            while True:
                await self._until_lost()
                _log.warning("claim.lost", hint="it is taken again as soon as the database is there")
                while self._connection is None:
                    with suppress(StorageError):  # which others say, who need the database for more than this
                        await self.take()
                    if self._connection is None:
                        await trio.sleep(RETRY_S)
        finally:
            self.give_up()

    async def _until_lost(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while True:
                await trio.lowlevel.wait_readable(connection.pgconn.socket)
                connection.read_notifications()
        except (psycopg.Error, OSError, trio.ClosedResourceError):
            self.give_up()

    def give_up(self) -> None:
        """Let others have it. Never blocks."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close_now()
