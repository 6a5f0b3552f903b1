"""Whose database it is: one server's, or that of nodes which hear of each other."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ngos.errors import SetupError, StorageUnavailable
from ngos.postgres import claim as claim_module
from ngos.postgres import cluster
from ngos.postgres.claim import HOLDER_NOTICES, MODES, POSTGRES_NOTICES, Claim
from ngos.postgres.driver import TrioConnection
from ngos.postgres.embedded import embedded_postgres

LIMIT_S = 10.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give nobody time to end."""
    monkeypatch.setattr(claim_module, "WAIT_S", 0.0)


async def _anybody(_connection: object) -> None: ...


def claim_on(conninfo: str, mode: str) -> Claim:
    return Claim(conninfo, mode, 2.0, 2.0, _anybody)


@asynccontextmanager
async def held(conninfo: str, mode: str) -> AsyncIterator[Claim]:
    """A claim that is taken, and kept."""
    claim = claim_on(conninfo, mode)
    await claim.take()
    async with trio.open_nursery() as nursery:
        await nursery.start(claim.run)
        yield claim
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("first", "second"), list(product(MODES, MODES)))
async def test_who_may_come_beside_whom(empty_database_url: str, first: str, second: str) -> None:
    """Tries to have two servers on one database that don't hear of each other."""
    async with held(empty_database_url, first):
        other = claim_on(empty_database_url, second)
        if first == second != "none":
            await other.take()
            other.give_up()
            return
        with pytest.raises(SetupError, match="another server, at .*, uses this database") as refusal:
            await other.take()
        assert "--backplane" in str(refusal.value)


async def test_given_up_it_is_free(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a server that has ended keep the next one out."""
    monkeypatch.setattr(claim_module, "WAIT_S", LIMIT_S)  # Postgres sees a moment later that a connection is closed
    async with held(empty_database_url, "none"):
        pass
    async with held(empty_database_url, "redis"):
        pass
    async with held(empty_database_url, "none"):
        pass


async def test_many_at_once(empty_database_url: str) -> None:
    """Tries to have more than one of those who start at the same moment get in, or none of those who may all."""
    taken: list[Claim] = []

    async def start(mode: str) -> None:
        claim = claim_on(empty_database_url, mode)
        try:
            await claim.take()
        except SetupError:
            return
        taken.append(claim)

    for mode, expected in (("none", 1), ("postgres", 8)):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(start, mode)
        assert expected == len(taken)
        while taken:
            taken.pop().give_up()
        with trio.fail_after(LIMIT_S):  # Postgres sees a moment later that a connection is closed
            while await trio.to_thread.run_sync(holders, empty_database_url):  # noqa: ASYNC110 - Postgres has no event
                await trio.sleep(0.02)


async def test_waits_for_who_is_about_to_end(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to be refused where the last server only needs a moment."""
    monkeypatch.setattr(claim_module, "WAIT_S", LIMIT_S)
    first, second = claim_on(empty_database_url, "none"), claim_on(empty_database_url, "none")
    await first.take()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.take)
            await trio.testing.wait_all_tasks_blocked(0.05)
            first.give_up()
    second.give_up()


def end_others(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as operator:
        operator.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


def holders(conninfo: str) -> set[int]:
    """The backends that hold a claim."""
    with psycopg.connect(conninfo, autocommit=True) as operator:
        rows = operator.execute(
            "select pid from pg_locks where locktype = 'advisory' and granted and objid < 3"
            " and database = (select oid from pg_database where datname = current_database())"
        ).fetchall()
    return {pid for (pid,) in rows}


async def test_lost_before_it_is_held_it_is_taken_again(empty_database_url: str) -> None:
    """Tries to start a server on a claim that was lost before anybody watched it."""
    claim = claim_on(empty_database_url, "none")
    await claim.take()
    connection = claim._connection
    assert connection is not None
    await trio.to_thread.run_sync(end_others, empty_database_url)
    await trio.lowlevel.wait_readable(connection.pgconn.socket)
    await claim.take()
    assert claim._connection not in (None, connection)
    with pytest.raises(SetupError):
        await claim_on(empty_database_url, "none").take()
    claim.give_up()


async def test_lost_it_is_taken_again(empty_database_url: str) -> None:
    """Tries to have a server go on without its claim, after Postgres has ended the connection that held it."""
    async with held(empty_database_url, "none"):
        assert 1 == len(holders(empty_database_url))
        await trio.to_thread.run_sync(end_others, empty_database_url)
        with trio.fail_after(LIMIT_S):
            while not await trio.to_thread.run_sync(holders, empty_database_url):  # noqa: ASYNC110 - Postgres has no event
                await trio.sleep(0.02)


class Slow(Claim):
    """A claim that is taken again only when it may be."""

    may: trio.Event | None = None

    async def take(self) -> None:
        if self.may is not None:
            await self.may.wait()
        await super().take()


async def test_lost_to_another_it_ends(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have two servers after a restart of Postgres, each of which believes that it is alone for a while."""
    monkeypatch.setattr(claim_module, "WAIT_S", 1000.0)
    claim = Slow(empty_database_url, "none", 2.0, 2.0, _anybody)
    await claim.take()
    claim.may = trio.Event()
    other = claim_on(empty_database_url, "none")
    with pytest.RaisesGroup(pytest.RaisesExc(SetupError, match="uses this database")):
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + LIMIT_S
            await nursery.start(claim.run)
            await trio.to_thread.run_sync(end_others, empty_database_url)
            await other.take()
            claim.may.set()
    other.give_up()


async def test_no_database_is_no_refusal() -> None:
    """Tries to have a database that is away be taken for one that others use."""
    with pytest.raises(StorageUnavailable):
        await claim_on("postgresql://postgres@127.0.0.1:1/nowhere", "none").take()


@define
class Router:
    """A way to Postgres over TCP that can forget the clients' sides of its connections, and keep Postgres' open."""

    url: str
    _conninfo: str
    _clients: list[trio.SocketStream] = field(factory=list)
    _servers: list[trio.SocketStream] = field(factory=list)

    def forget(self) -> None:
        """Reset the connections of all who came, and leave Postgres to believe that they are there."""
        for client in self._clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
        self._clients.clear()

    def end(self) -> None:
        """Have Postgres hear of it, too."""
        for server in self._servers:
            server.socket.close()
        self._servers.clear()

    async def lead(self, client: trio.SocketStream) -> None:
        fields = conninfo_to_dict(self._conninfo)
        host, port = str(fields.get("hostaddr") or fields.get("host") or "127.0.0.1"), str(fields.get("port") or "5432")
        if host.startswith("/"):
            server: trio.SocketStream = await trio.open_unix_socket(f"{host}/.s.PGSQL.{port}")
        else:
            server = await trio.open_tcp_stream(host, int(port))
        self._clients.append(client)
        self._servers.append(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pump, client, server)
            nursery.start_soon(_pump, server, client)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # forgotten, or over


@asynccontextmanager
async def router_to(conninfo: str) -> AsyncIterator[Router]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        fields = {k: v for k, v in conninfo_to_dict(conninfo).items() if k not in ("host", "hostaddr", "port")}
        url = make_conninfo(**fields, host="127.0.0.1", port=listener.socket.getsockname()[1])
        router = Router(url, conninfo)
        await nursery.start(trio.serve_listeners, router.lead, [listener])
        yield router
        router.end()
        nursery.cancel_scope.cancel()


async def backend_other_than(pid: int, conninfo: str) -> int:
    """Wait until another alone holds the claim."""
    with trio.fail_after(LIMIT_S):
        while True:
            match await trio.to_thread.run_sync(holders, conninfo):
                case found if len(found) == 1 and pid not in found:
                    return found.pop()
            await trio.sleep(0.02)


async def test_not_refused_because_of_itself(empty_database_url: str) -> None:
    """Tries to end a server by its own lost connection, which Postgres takes for one that is there, or to slip in."""
    slipped_in: list[Claim] = []

    async def slip_in() -> None:
        while True:
            other = claim_on(empty_database_url, "none")
            try:
                await other.take()
            except SetupError:
                continue
            slipped_in.append(other)

    async with router_to(empty_database_url) as router, held(router.url, "none"):
        (first,) = await trio.to_thread.run_sync(holders, empty_database_url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slip_in)
            router.forget()
            await backend_other_than(first, empty_database_url)
            nursery.cancel_scope.cancel()
    assert not slipped_in


async def test_waits_for_postgres_to_notice(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to end a server by its own lost connection where Postgres won't end that one before it notices itself."""
    monkeypatch.setattr(claim_module, "_END", "select %s::int8 + %s < 0")
    tries = 0
    plain = Claim._try

    async def counted(claim: Claim, connection: TrioConnection[Any]) -> object:
        nonlocal tries
        tries += 1
        return await plain(claim, connection)

    async with router_to(empty_database_url) as router, held(router.url, "none"):
        (first,) = await trio.to_thread.run_sync(holders, empty_database_url)
        monkeypatch.setattr(Claim, "_try", counted)
        router.forget()
        with trio.fail_after(LIMIT_S):
            while tries < 5:  # noqa: ASYNC110 - it has no event
                await trio.sleep(0.02)
        assert {first} == await trio.to_thread.run_sync(holders, empty_database_url)
        router.end()
        await backend_other_than(first, empty_database_url)


@pytest.fixture
async def by_tcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A Postgres that is reached by TCP: by a Unix socket it has no keepalives."""
    high, middle, low = os.getpid().to_bytes(4, "big")[1:]
    address = f"127.{128 | high & 127}.{middle}.{low}"  # the port is always the same
    monkeypatch.setitem(cluster._SETTINGS, "listen_addresses", address)
    async with embedded_postgres(tmp_path, start_s=20) as conninfo:
        yield make_conninfo(conninfo, host=address)


async def test_the_holder_notices_first(by_tcp: str) -> None:
    """Tries to have Postgres let another in before a server that can't be reached any more knows of it."""
    # Each may ask once more than it says; Postgres may have heard the holder last `idle_s` before the network went.
    latest_s = HOLDER_NOTICES.total_s + HOLDER_NOTICES.interval_s
    assert latest_s < POSTGRES_NOTICES.total_s - POSTGRES_NOTICES.idle_s
    assert POSTGRES_NOTICES.total_s <= 15  # as the documents say
    claim = claim_on(by_tcp, "none")
    await claim.take()
    connection = claim._connection
    assert connection is not None
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as client:
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        in_force = [client.getsockopt(socket.IPPROTO_TCP, option) for option in tcp]
    assert list(HOLDER_NOTICES.settings("").values()) == in_force
    told = "select name, setting::int from pg_settings where name like 'tcp_keepalives%' or name = 'tcp_user_timeout'"
    shown = dict(await (await connection.execute(told)).fetchall())
    claim.give_up()
    assert POSTGRES_NOTICES.settings("tcp_keepalives") == shown
