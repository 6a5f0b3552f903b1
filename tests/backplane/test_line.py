"""The line between nodes, over a real Postgres and a real Redis, and what breaks it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b

import orjson
import psycopg
import pytest
import structlog
import trio
import trio.testing
from attrs import define, field

from ngos.backplane import line as line_module
from ngos.backplane import postgres as postgres_module
from ngos.backplane import redis as redis_module
from ngos.backplane.bundle import pack
from ngos.backplane.line import LOST_S, Carrier, Cluster, Line
from ngos.backplane.postgres import PostgresCarrier
from ngos.backplane.redis import RedisCarrier
from ngos.errors import RedisUnavailable
from ngos.gateway.roster import Roster
from ngos.redis import open_redis, parse
from tests.redis_server import redis_server

LIMIT_S = 20.0
CLUSTER = Cluster.of(b"s" * 32, "a database")


@define(eq=False)
class Ear:
    """A node's line, and what it has heard of kind `t`."""

    line: Line
    heard: list[bytes] = field(factory=list)
    _more: trio.Event = field(factory=trio.Event)

    def hear(self, _node_id: str, body: bytes) -> None:
        self.heard.append(body)
        self._more.set()
        self._more = trio.Event()

    async def has(self, count: int) -> list[bytes]:
        with trio.fail_after(LIMIT_S):
            while len(self.heard) < count:
                await self._more.wait()
        return self.heard

    def changed(self, _works: bool) -> None:
        self._more.set()
        self._more = trio.Event()

    async def works(self, *, yes: bool = True) -> None:
        with trio.fail_after(LIMIT_S):
            while (self.line.lost is None) != yes:
                await self._more.wait()

    async def broke(self) -> None:
        """Wait until it was lost at least once; it may be back by then."""
        with trio.fail_after(LIMIT_S):
            while not self.line.breaks:
                await self._more.wait()


@asynccontextmanager
async def lines(*carriers: Carrier) -> AsyncIterator[list[Ear]]:
    """Lines that work."""
    ears = [Ear(Line(carrier)) for carrier in carriers]
    async with trio.open_nursery() as nursery:
        for ear in ears:
            ear.line.on("t", ear.hear)
            ear.line.on_change = ear.changed
            nursery.start_soon(ear.line.run, CLUSTER)  # noqa: ASYNC113 - it tells, and that is waited for
        for ear in ears:
            await ear.works()
        yield ears
        nursery.cancel_scope.cancel()


async def _anybody(_connection: object) -> None: ...


def on_postgres(conninfo: str) -> Carrier:
    return PostgresCarrier(conninfo, 2.0, 2.0, _anybody)


def on_redis(url: str) -> Carrier:
    return RedisCarrier(parse(url))


@pytest.fixture(params=["postgres", "redis"])
async def carrier(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Callable[[], Carrier]]:
    """Makes carriers of one bus."""
    if request.param == "postgres":
        yield lambda: on_postgres(database_url)
    else:
        async with redis_server() as server:
            yield lambda: on_redis(server.url)


async def test_tried_is_what_has_come_about_or_failed(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have who waits for the line's first try be let in before it was heard, or never where it fails."""
    del autojump_clock

    @define
    class Quiet:
        """Takes what it is sent, and lets nothing be heard, until it breaks."""

        bundle_bytes: int = 1_000_000

        async def carry(self, line: Line, _cluster: Cluster) -> None:
            line.linked()
            await trio.sleep(LOST_S / 2)
            raise RedisUnavailable("it broke")

    line = Line(Quiet())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run, CLUSTER)
        await trio.testing.wait_all_tasks_blocked()
        assert line.is_linked
        assert not line.tried.is_set()
        began = trio.current_time()
        await line.tried.wait()
        assert LOST_S / 2 == trio.current_time() - began
        assert "it broke" == line.lost
        nursery.cancel_scope.cancel()
    assert Line(None).tried.is_set()


async def test_all_of_it_in_order(carrier: Callable[[], Carrier]) -> None:
    """Tries to have parts come twice, in another order, cut, or back to who sent them, whatever their length."""
    async with lines(carrier(), carrier(), carrier()) as (one, two, three):
        sent = [f"{number} {'ü' * (number**4 % 30_011)}".encode() for number in range(60)]
        for body in sent:
            one.line.send("t", body)
        # On Postgres what is long goes a longer way.
        assert sent == await two.has(60) == await three.has(60)
        two.line.send("t", b"back")
        assert b"back" == (await one.has(1))[0]
        assert [] == one.heard[1:]


async def say(ear: Ear, database_url: str, *said: str) -> None:
    """Publish where a line listens, as anybody may who can reach that."""
    bus = ear.line._carrier
    if isinstance(bus, RedisCarrier):
        async with open_redis(bus._address) as client:
            for text in said:
                await client.publish(f"ngos:{CLUSTER.cluster_id}", text)
    else:
        with psycopg.connect(database_url, autocommit=True) as stranger:
            for text in said:
                stranger.execute("select pg_notify('ngos', %s)", [text])


async def test_what_strangers_say_is_not_heard(carrier: Callable[[], Carrier], database_url: str) -> None:
    """Tries to have nodes believe, or fail by, what others publish where they listen."""
    async with lines(carrier(), carrier()) as (one, two):
        forged = pack(b"x" * 32, "f" * 16, 1, [("t", b"forged")]).decode()
        await say(one, database_url, forged, "", "parcel:7", "parcel:", "nonsense")
        one.line.send("t", b"true")
        assert [b"true"] == await two.has(1)
        assert two.line.forged > 0
        assert (None, None) == (one.line.lost, two.line.lost)


async def test_what_is_said_again_is_not_heard(
    carrier: Callable[[], Carrier], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to have nodes hear twice, or late, what somebody at the bus has recorded and says again."""
    # A beat that goes out meanwhile would be newer than what is said here.
    monkeypatch.setattr(line_module, "BEAT_S", LIMIT_S)
    monkeypatch.setattr(line_module, "LOST_S", 2 * LIMIT_S)
    async with lines(carrier(), carrier()) as (one, two):
        early, late = (one.line.pack([("t", body)]).decode() for body in (b"early", b"late"))
        own = two.line.pack([("t", b"own")]).decode()
        await say(two, database_url, late, late, early, late, own, own)
        one.line.send("t", b"last")
        assert [b"late", b"last"] == await two.has(2)
        assert two.line.heard["late"] >= 3
        assert 0 == two.line.forged


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"x" * 40, b"\xc2\x80" * 8 + b"[1]\n", b"{}\n", b'[2, ["t", "x"]]\n', b"[[]]\n"),
        *(b'[2, [["t"], 1]]\nx', b'["2", ["t", 1]]\nx', b'[2, ["t", 9]]\nhalf', b'[2, ["t", 1]]\nmore'),
        b'[2, ["t", -1], ["t", 2]]\nx',
    ],
)
async def test_a_bundle_of_another_version(carrier: Callable[[], Carrier], database_url: str, content: bytes) -> None:
    """Tries to have a node end by a bundle that one of us has made in another way."""
    content = b"0123456789abcdef" + content
    mac = blake2b(content, key=CLUSTER.secret, digest_size=16).hexdigest().encode()
    async with lines(carrier(), carrier()) as (one, two):
        await say(one, database_url, (mac + content).decode())
        one.line.send("t", b"heard")
        assert [b"heard"] == await two.has(1)
        assert (None, 0) == (two.line.lost, two.line.breaks)


async def test_a_node_of_another_version(carrier: Callable[[], Carrier]) -> None:
    """Tries to have a node end, or hear no more, because another one says what it does not understand."""
    async with lines(carrier(), carrier()) as (one, two):
        roster = Roster()
        two.line.on("node", roster.hear)
        for body in (b"", b"[]", b'{"connections": 1, "moons": 2}', b"\xc3\xbc"):
            one.line.send("node", body)
        one.line.send("orbit", b"unheard of")
        one.line.send("t", b"heard")
        assert [b"heard"] == await two.has(1)
        assert (None, 0) == (two.line.lost, two.line.breaks)


@pytest.mark.parametrize("failure", [ValueError, AttributeError, OverflowError, RecursionError, AssertionError])
async def test_what_is_not_understood_is_reported_once(
    carrier: Callable[[], Carrier], failure: type[Exception]
) -> None:
    """Tries to have a node end by whatever goes wrong with what it hears, or fill its log with it, each second."""

    def hear(_node_id: str, _body: bytes) -> None:
        raise failure

    async with lines(carrier(), carrier()) as (one, two):
        two.line.on("node", hear)
        two.line.on("ask", hear)
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                one.line.send("node", b"{}")
            one.line.send("ask", b"[]")
            one.line.send("t", b"heard")
            assert [b"heard"] == await two.has(1)
        assert ["node", "ask"] == [line["kind"] for line in logs if line["event"] == "backplane.defect"]
        assert 0 == two.line.breaks
        assert 6 <= two.line.heard["odd"]  # it says by itself, too, that it is there


async def test_what_was_reported_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to fill the memory of a node with who was not understood."""
    monkeypatch.setattr(line_module, "REPORTED", 10)
    line = Line(on_redis("redis://127.0.0.1:1"))
    line._cluster = CLUSTER
    line.on("t", lambda _node_id, body: orjson.loads(body))
    for number in range(25):
        line.hear(pack(CLUSTER.secret, f"{number:016x}", 1, [("t", b"{")]))
    assert 25 == line.heard["odd"]
    assert len(line._reported) <= 10


async def test_redis_that_dies_comes_back() -> None:
    """Tries to have a line not notice that Redis is gone, or not be there again when it is."""
    async with redis_server() as server, lines(on_redis(server.url), on_redis(server.url)) as (one, two):
        await server.kill()
        await one.works(yes=False)
        await two.works(yes=False)
        for _ in range(1000):
            one.line.send("t", b"lost" * 1000)
        assert 0 == one.line.outbox.size_bytes  # nobody waits for what nobody will hear
        await server.start()
        await one.works()
        await two.works()
        one.line.send("t", b"heard")
        assert [b"heard"] == await two.has(1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have silence be noticed soon."""
    monkeypatch.setattr(line_module, "LOST_S", 0.5)
    monkeypatch.setattr(line_module, "BEAT_S", 0.1)


@pytest.mark.usefixtures("quick")
async def test_a_silent_redis_is_noticed() -> None:
    """Tries to have a line to a Redis that is held up, and says nothing of it, be taken for one that works."""
    async with redis_server() as server, lines(on_redis(server.url), on_redis(server.url)) as (one, two):
        server.stop()
        await one.works(yes=False)
        server.go_on()
        await one.works()
        await two.works()


async def test_what_redis_does_not_take_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a node end with its line, because Redis did not answer what it was sent."""
    monkeypatch.setattr(redis_module, "SEND_S", 0.2)
    async with redis_server() as server, lines(on_redis(server.url)) as (one,):
        server.stop()
        one.line.send("t", b"lost")
        await one.works(yes=False)
        assert "no answer within 0.2 s" == one.line.lost
        server.go_on()
        await one.works()


@pytest.mark.usefixtures("quick")
async def test_a_silent_postgres_is_noticed(database_url: str) -> None:
    """Tries to have a line to a Postgres backend that is held up be taken for one that works."""
    # Its last one: of a line that was made anew just before, the old one may still be there, as may be an autovacuum.
    backend = (
        "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend' order by backend_start desc limit 1"
    )
    async with lines(on_postgres(database_url)) as (one,):
        with psycopg.connect(database_url, autocommit=True) as operator:
            ((pid,),) = operator.execute(backend).fetchall()
        os.kill(pid, signal.SIGSTOP)
        try:
            await one.works(yes=False)
            await one.works()  # on another connection
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_postgres_that_ends_the_connection(database_url: str) -> None:
    """Tries to have a line stay deaf after Postgres has ended its connection, as an operator may."""
    async with lines(on_postgres(database_url), on_postgres(database_url)) as (one, two):
        with psycopg.connect(database_url, autocommit=True) as operator:
            operator.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        await one.works(yes=False)
        await one.works()
        await two.broke()
        await two.works()
        one.line.send("t", b"heard")
        assert [b"heard"] == await two.has(1)
        assert one.line.breaks == 1


async def test_a_flood_of_notifications_stops_nobody(database_url: str) -> None:
    """Tries to have a role without rights on our tables hold up all that a node does, by what it says to the nodes."""
    flood = "select count(pg_notify('ngos', 'parcel:' || i)) from generate_series(1, 300000) i"
    async with lines(on_postgres(database_url), on_postgres(database_url)) as (one, two):
        longest_s, over = 0.0, trio.Event()

        async def others() -> None:
            nonlocal longest_s
            while not over.is_set():
                began = time.thread_time()  # no busy machine adds to it
                await trio.sleep(0.01)
                longest_s = max(longest_s, time.thread_time() - began)

        def say() -> None:
            with psycopg.connect(database_url, autocommit=True) as stranger:
                stranger.execute(flood)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await trio.to_thread.run_sync(say)
            await one.works(yes=False)
            assert "notifications at once" in (one.line.lost or "")
            await one.works()
            await two.broke()
            await two.works()
            over.set()
        assert longest_s < 1.0
        one.line.send("t", b"heard")
        assert [b"heard"] == await two.has(1)


async def test_parcels_that_nobody_has_sent_hold_up_none(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to keep a node from sending, by numbers of parcels that come faster than they are looked for."""
    monkeypatch.setattr(postgres_module, "SEND_S", 1.0)  # all of them together take twice that
    monkeypatch.setattr(
        postgres_module, "_FETCH_PARCEL", "select message from pg_sleep(0.02), parcels where parcel_id = %s"
    )
    async with lines(on_postgres(database_url), on_postgres(database_url)) as (one, two):
        with psycopg.connect(database_url, autocommit=True) as stranger:
            stranger.execute("select count(pg_notify('ngos', 'parcel:' || 1000 + i)) from generate_series(1, 100) i")
            one.line.send("t", b"x" * 20_000)
            assert [b"x" * 20_000] == await two.has(1)
        assert (0, 0) == (one.line.breaks, two.line.breaks)


async def test_a_flood_at_redis_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to fill the memory of nodes with more than they can hear; and to have a line end by what it did hear."""
    monkeypatch.setattr(redis_module, "UNHEARD_BYTES", 100_000)
    async with redis_server() as server, lines(on_redis(server.url), on_redis(server.url)) as (one, two):
        for number in range(300):  # 600 kB in all, none of which waits
            one.line.send("t", b"x" * 2_000)
            await two.has(number + 1)
        assert (0, 0) == (one.line.breaks, two.line.breaks)
        async with open_redis(parse(server.url)) as client, trio.open_nursery() as nursery:

            async def flood() -> None:
                while True:
                    async with client.pipeline(transaction=False) as pipeline:
                        for _ in range(2_000):
                            pipeline.publish(f"ngos:{CLUSTER.cluster_id}", b"x" * 100)

            nursery.start_soon(flood)
            await one.works(yes=False)
            assert "more than 100,000 bytes wait to be heard" == one.line.lost
            nursery.cancel_scope.cancel()
        await one.works()
