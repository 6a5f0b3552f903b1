"""scripts/chaos with several nodes: it runs, and what it measures and moves is as it says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import orjson
import pytest
import trio
from chaos_parts.cast import writers_nodes
from chaos_parts.journal import Journal
from chaos_parts.latency import Span, Spread, Times, phases
from chaos_parts.plan import LASTING_S, Fault, Kind, make_plan
from chaos_parts.processes import ChaosError, until
from chaos_parts.redis import Redis, make_redis
from chaos_parts.resend import Line
from chaos_parts.server import make_node

from tests.scripts.marked import Script
from tests.servers import running_server

LIMIT_S = 20.0


def test_a_short_run_is_all_zeros(chaos: Script, tmp_path: Path) -> None:
    """Tries to lose, repeat or disorder a change by killing a node, and Redis, while clients are at another node."""
    path = tmp_path / "record.json"
    kinds = ["kill-server", "stop-server", "kill-watcher", "kill-redis"]
    done = chaos(
        *("--nodes", "2", "--seed", "3", "--kills", "4", "--writers", "3", "--watchers", "3"),
        *("--faults", ",".join(kinds), "--lasting", "1", "--json", str(path)),
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "all zeros: seed 3, 2 nodes (redis), 4 faults" in done.stdout
    record = json.loads(path.read_text())
    assert sorted(kinds) == sorted(hit["kind"] for hit in record["hits"])
    assert record["account"]["answered"] == record["account"]["commands"] > 100
    assert record["account"]["resent"] > 0
    details = {hit["kind"]: hit["detail"] for hit in record["hits"]}
    assert "the others worked after" in details["stop-server"]
    assert "now at node-" in details["kill-watcher"]


def test_redis_is_noticed_by_nobody(chaos: Script, tmp_path: Path) -> None:
    """Tries to have a client see an error, or an event not reach another node, when Redis forgets all or hangs."""
    path = tmp_path / "record.json"
    done = chaos(
        *("--nodes", "2", "--kills", "2", "--writers", "2", "--watchers", "2", "--faults", "flush-redis,sleep-redis"),
        *("--lasting", "3", "--measure", "1.5", "--json", str(path)),
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    record = json.loads(path.read_text())
    assert ["before", "during", "after"] * 2 == [phase["name"] for phase in record["latency"]]
    for phase in record["latency"]:
        assert {} == phase["troubles"]
        assert phase["commands"]["count"] > 10
        assert phase["deliveries"]["count"] > 10
        assert 0 < phase["commands"]["p50_ms"] <= phase["commands"]["p99_ms"] <= phase["commands"]["max_ms"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--nodes", "2", "--backplane", "none"), "several nodes need a backplane"),
        (("--faults", "flush-redis"), "nobody uses Redis: flush-redis needs --backplane redis"),
        (("--nodes", "2", "--backplane", "postgres", "--faults", "kill-redis"), "nobody uses Redis"),
        (("--nodes", "0"), "0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(chaos: Script, arguments: tuple[str, ...], said: str) -> None:
    """Tries to have nodes run that can't hear of each other, or a fault that hits nobody."""
    done = chaos(*arguments)
    assert 2 == done.returncode
    assert said in re.sub(r"\s+", " ", done.stderr)


def test_a_plan_with_other_lengths() -> None:
    """Tries to have the same seed hit others, in another order, because faults last longer."""
    usual, longer = (make_plan(5, 40, list(Kind), lasting_s=lasting_s, quiet_s=7.0) for lasting_s in (None, 30.0))
    assert [(fault.kind, fault.pick) for fault in usual] == [(fault.kind, fault.pick) for fault in longer]
    assert all(fault.seconds == (30.0 if fault.kind in LASTING_S else 0.0) for fault in longer)
    assert all(fault.after_s >= 7.0 for fault in usual)


def test_writers_are_spread_and_half_of_them_move() -> None:
    """Tries to find a node that no writer begins at, or a writer that goes on to a node that is not there."""
    nodes = [writers_nodes(number, 3) for number in range(6)]
    assert [0, 1, 2, 0, 1, 2] == [of_writer[0] for of_writer in nodes]
    assert [[0, 1, 2], [1], [2, 0, 1], [0], [1, 2, 0], [2]] == nodes
    assert [[0], [0]] == [writers_nodes(number, 1) for number in range(2)]


@pytest.mark.parametrize(
    ("kinds", "is_short"),
    [([Kind.FLUSH_REDIS, Kind.SLEEP_REDIS], False), ([Kind.FLUSH_REDIS, Kind.KILL_POSTGRES], True), (list(Kind), True)],
)
def test_postgres_is_given_up_early_where_it_is_hurt(
    kinds: list[Kind], is_short: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries to have a slow moment of a Postgres that nobody hurts told as something that Redis caused."""
    monkeypatch.setenv("NGOS_DATABASE_QUERY_S", "7")
    environment = make_node("n", "postgresql://", "redis", "redis://", tmp_path, kinds).server.environment
    early = {name for name in ("NGOS_DATABASE_QUERY_S", "NGOS_DATABASE_CONNECT_S") if name in environment}
    assert 2 * is_short == len(early)
    assert {"NGOS_HEARTBEAT_TIMEOUT_S", "NGOS_DURABLE_TOPICS"} < environment.keys()


def line(**entry: object) -> bytes:
    return orjson.dumps(entry)


FAULT = Fault(Kind.SLEEP_REDIS, 0, 5, 0.5, 1)


def test_latencies_are_those_of_the_journals() -> None:
    """Tries to have a command counted in another phase than it was sent in, or an event of the node's own counted."""
    times = Times()
    journal = []
    for id_, sent, answered, node in (("a", 91.0, 91.5, 0), ("b", 100.0, 106.0, 1), ("c", 106.0, 106.25, 0)):
        journal += [line(send=id_, type="publish", payload={}, at=sent)]
        journal += [line(answer=id_, type="published", payload={}, replayed=False, at=answered, node=node)]
    # Asked once more, it is not a command again; and what had no answer has no latency.
    journal += [line(again="a", at=107.0), line(answer="a", type="x", payload={}, replayed=True, at=108.0, node=0)]
    journal += [line(send="d", type="publish", payload={}, at=101.0), line(trouble="d", why="timeout", at=104.0)]
    times.add_journal(journal, [1, 0])
    times.add_listener([line(id="a", at=91.75), line(id="b", at=107.0), line(id="b", at=108.0), line(id="x", at=9.0)])
    times.add_listener([line(id="a", at=92.0), line(id="b", at=107.5), line(id="c", at=107.0)])
    # `a` was answered at node 1, and heard at node 0. `c` was sent after the fault, and within the ten seconds that it
    # takes at least.
    assert [
        ("before", Spread(1, 500, 500, 500), Spread(1, 250, 250, 250), {}),
        ("during", Spread(2, 250, 6000, 6000), Spread(1, 1500, 1500, 1500), {"timeout": 1}),
        ("after", Spread(0, None, None, None), Spread(0, None, None, None), {}),
    ] == [
        (phase.name, phase.commands, phase.deliveries, phase.troubles)
        for phase in phases(times, [Span(FAULT, "", 100.0, 105.0)], 10.0)
    ]


async def test_a_line_goes_on_at_the_next_node(database_url: str, tmp_path: Path) -> None:
    """Tries to have a command take effect once more at another node, after the one that answered it is gone."""
    path = tmp_path / "w.jsonl"
    journal = Journal.open(path, "w")
    settings = {"backplane": "postgres", "durable_topics": ("chaos.*",)}
    with trio.fail_after(LIMIT_S):
        async with running_server(database_url, **settings) as two, trio.open_nursery() as nursery:
            async with running_server(database_url, **settings) as one:
                sender = Line([one.url, two.url], journal, Random(1))
                nursery.start_soon(sender.run)
                first = await sender.first("w.0", "publish", {"topic": "chaos.x", "type": "said", "payload": {}})
            again = await sender.again(journal.records["w.0"])
            nursery.cancel_scope.cancel()
    assert (False, True) == (first.replayed, again.replayed)
    assert first.payload == again.payload
    told = map(orjson.loads, path.read_bytes().splitlines())
    assert [0, 1] == [entry["node"] for entry in told if "answer" in entry]


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    """The Redis that scripts/chaos hurts."""
    redis = make_redis(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.process.run)
        await redis.answering()
        yield redis
        nursery.cancel_scope.cancel()


async def test_a_full_redis_refuses_and_is_well_again(redis: Redis) -> None:
    """Tries to find room in a Redis that is said to be full, or none after that."""
    assert "+OK" == await redis.ask("set before x")
    await redis.fill("noeviction")
    with pytest.raises(ChaosError, match="OOM command not allowed"):
        await redis.ask("set more x")
    assert ":0" == await redis.ask("publish nowhere x")
    await redis.empty()
    assert "+OK" == await redis.ask("set more x")
    assert ":1" == await redis.ask("dbsize")


async def test_a_redis_that_was_killed_is_another(redis: Redis) -> None:
    """Tries to have a killed Redis remember anything, or be there before it may."""
    await redis.ask("set before x")
    redis.process.kill(0.5)
    await until(lambda: redis.process.lives == 2, LIMIT_S, lambda: "no second life")
    await redis.answering()
    assert ":0" == await redis.ask("dbsize")
    assert [] == redis.process.deaths
