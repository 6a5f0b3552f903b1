"""The other nodes: what they are asked, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import orjson
import pytest
import structlog
import trio
import trio.testing

from ngos.backplane.line import BEAT_S, NOT_YET, Line
from ngos.backplane.outbox import WAITING_BYTES
from ngos.gateway.nodes import ANSWER_BYTES, ANSWER_S, Nodes
from ngos.gateway.roster import Roster
from ngos.log.hub import Hub
from ngos.log.store import Extent
from tests.gateway.fakes import presence

if TYPE_CHECKING:
    from ngos.log.relay import Relay


class Bus:
    """A bus between nodes in one process: what one sends is handed over by `carry_over`."""

    bundle_bytes = 1_000_000

    async def carry(self, line: Line, cluster: object) -> None: ...


def make_node() -> Nodes:
    async def nothing(topic: str) -> Extent:
        raise NotImplementedError(topic)

    line = Line(Bus())
    line.is_linked, line.lost = True, None  # as after the first word of it
    line.beat = presence().to_json
    return Nodes(line, Roster(), Hub(nothing))


def carry_over(source: Nodes, *others: Nodes) -> None:
    """Hand over what a node has to say to others."""
    for kind, body in source.line.outbox.take(1 << 30):
        for other in others:
            other.line._hearers[kind](source.line.node_id, body)


def meet(*nodes: Nodes) -> None:
    """Have all know of each other."""
    for node in [*nodes, *nodes]:  # the second time, what they have answered
        node.line.tell()
        carry_over(node, *(other for other in nodes if other is not node))


async def test_an_answer_of_many_parts(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have rows of a long answer be lost, or be taken for all of it before the last has come."""
    del autojump_clock
    one, two, three = make_node(), make_node(), make_node()
    meet(one, two, three)
    rows = ["x" * 1000 + str(number) for number in range(3 * ANSWER_BYTES // 1000)]
    two.answer("rows", lambda question: [*rows, question])
    three.answer("rows", lambda _question: [])
    answered: list[tuple[list[Any], int]] = []

    async def ask() -> None:
        answered.append(await one.ask("rows", "why?"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        carry_over(one, two, three)
        carry_over(three, one, two)
        parts = two.line.outbox.take(1 << 30)
        assert 4 == len(parts)
        for kind, body in parts[:3]:
            one.line._hearers[kind](two.line.node_id, body)
            await trio.testing.wait_all_tasks_blocked()
            assert [] == answered
        one.line._hearers["answer"](two.line.node_id, parts[3][1])
    assert [([*rows, "why?"], 2)] == answered
    assert {} == one._asks


async def asked(one: Nodes, what: str, hear: Callable[[], None]) -> tuple[list[Any], int]:
    """What comes of a question, where `hear` hands over what the others say to it."""
    answered: list[tuple[list[Any], int]] = []

    async def ask() -> None:
        answered.append(await one.ask(what))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        hear()
    return answered[0]


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {3}, {0, 1, 2}, {0, 1, 2, 3}])
async def test_an_answer_with_parts_missing(autojump_clock: trio.testing.MockClock, lost: set[int]) -> None:
    """Tries to have a part of an answer be taken for all of it, whichever of its parts are lost."""
    del autojump_clock
    one, two, three = make_node(), make_node(), make_node()
    meet(one, two, three)
    two.answer("rows", lambda _question: ["x" * ANSWER_BYTES + str(number) for number in range(4)])
    three.answer("rows", lambda _question: ["short"])

    def hear() -> None:
        carry_over(one, two, three)
        parts = two.line.outbox.take(1 << 30)
        assert 4 == len(parts)
        for number, (kind, body) in enumerate(parts):
            if number not in lost:
                one.line._hearers[kind](two.line.node_id, body)
        carry_over(three, one)

    with structlog.testing.capture_logs() as logs:
        assert (["short"], 1) == await asked(one, "rows", hear)
    assert [[two.line.node_id]] == [line["nodes"] for line in logs if line["event"] == "nodes.no_answer"]
    assert {} == one._asks


async def test_an_answer_of_an_earlier_version(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have a node not be counted that does not tell how many parts its answer has."""
    del autojump_clock
    one, two = make_node(), make_node()
    meet(one, two)

    def hear() -> None:
        ((_, body),) = one.line.outbox.take(1 << 30)
        for more, row in ((True, "a"), (True, "b"), (False, "c")):
            one._hear_answer(two.line.node_id, orjson.dumps([orjson.loads(body)[0], more, [row]]))

    assert (["a", "b", "c"], 1) == await asked(one, "rows", hear)


async def test_a_later_version_asks_and_answers_more(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have a question or an answer not be understood that says more than this version knows of."""
    del autojump_clock
    one, two = make_node(), make_node()
    meet(one, two)
    two.answer("rows", lambda _question: ["a"])

    def hear() -> None:
        ((_, body),) = one.line.outbox.take(1 << 30)
        two._hear_ask(one.line.node_id, orjson.dumps([*orjson.loads(body), "loudly"]))
        ((_, body),) = two.line.outbox.take(1 << 30)
        one._hear_answer(two.line.node_id, orjson.dumps([*orjson.loads(body), "in good faith"]))

    assert (["a"], 1) == await asked(one, "rows", hear)


@pytest.mark.parametrize(
    "question", [b"", b"{}", b'["a", "rows"]', b'[1, "rows", 1]', b'["%s", "rows", 1]' % (b"a" * 99)]
)
async def test_a_question_that_is_none(question: bytes) -> None:
    """Tries to have a node say again, with each part of its answer, what somebody has asked at length."""
    two = make_node()
    two.answer("rows", lambda _question: ["a"])
    with pytest.raises((ValueError, TypeError)):
        two._hear_ask("", question)
    assert not two.line.outbox


async def test_an_answer_that_has_no_end(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to fill the memory of a node by an answer that goes on and on."""
    del autojump_clock
    one, two = make_node(), make_node()
    meet(one, two)

    def hear() -> None:
        ((_, body),) = one.line.outbox.take(1 << 30)
        part = orjson.dumps([orjson.loads(body)[0], True, ["x" * ANSWER_BYTES]])
        for _ in range(WAITING_BYTES // ANSWER_BYTES + 1):
            one._hear_answer(two.line.node_id, part)
        (ask,) = one._asks.values()
        assert {} == ask.coming

    assert ([], 0) == await asked(one, "rows", hear)


@pytest.mark.parametrize(
    ("what", "rows"),
    [
        *(("stats", [7]), ("stats", [[1]]), ("stats", [[1, {"t": "x"}]]), ("stats", [[None, {}]]), ("stats", {})),
        *(("connections", ["x"]), ("connections", "x"), ("broadcast", ["1"]), ("broadcast", None), ("rows", 1)),
    ],
)
async def test_an_answer_that_is_none(autojump_clock: trio.testing.MockClock, what: str, rows: object) -> None:
    """Tries to have who asks fail by what a node of another version answers, or wait for more of it."""
    del autojump_clock
    one, two, three = make_node(), make_node(), make_node()
    meet(one, two, three)
    three.answer(what, lambda _question: [])

    def hear() -> None:
        body = one.line.outbox.take(1 << 30)[0][1]
        with pytest.raises((ValueError, TypeError)):
            one._hear_answer(two.line.node_id, orjson.dumps([orjson.loads(body)[0], False, rows]))
        three._hear_ask(one.line.node_id, body)
        carry_over(three, one)

    began = trio.current_time()
    assert ([], 1) == await asked(one, what, hear)
    assert began == trio.current_time()


async def test_who_does_not_answer_is_left_out(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have one node that is gone, or of another version, keep all others from being told of."""
    del autojump_clock
    one, two, deaf = make_node(), make_node(), make_node()
    meet(one, two, deaf)
    two.answer("rows", lambda _question: [1, 2])
    began = trio.current_time()
    answered: list[tuple[list[Any], int]] = []

    async def ask() -> None:
        answered.append(await one.ask("rows"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        carry_over(one, two, deaf)
        carry_over(two, one, deaf)
        carry_over(deaf, one, two)
    assert [([1, 2], 1)] == answered
    assert ANSWER_S == trio.current_time() - began
    # What comes too late, or of somebody who was not asked, is nobody's.
    one.line._hearers["answer"](two.line.node_id, orjson.dumps(["0" * 16, False, [3]]))


async def test_who_was_killed_is_waited_for_once(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have each question wait for a node that was killed, for as long as it is not known to be gone."""
    del autojump_clock
    one, two, killed = make_node(), make_node(), make_node()
    meet(one, two, killed)
    two.answer("rows", lambda _question: ["two"])

    def hear() -> None:
        carry_over(one, two)
        carry_over(two, one)

    began = trio.current_time()
    assert (["two"], 1) == await asked(one, "rows", hear)
    assert ANSWER_S == trio.current_time() - began
    for _ in range(3):
        with structlog.testing.capture_logs() as logs:
            assert (["two"], 1) == await asked(one, "rows", hear)
        assert [[killed.line.node_id]] == [line["nodes"] for line in logs]
        assert {killed.line.node_id, two.line.node_id} == one.roster.present().keys()
    assert ANSWER_S == trio.current_time() - began


@pytest.mark.parametrize("ends", ["goodbye", "line"])
async def test_an_answer_that_can_not_come(autojump_clock: trio.testing.MockClock, ends: str) -> None:
    """Tries to have a question wait for a node that has left meanwhile, or for what was lost with our own line."""
    del autojump_clock
    one, two, leaving = make_node(), make_node(), make_node()
    meet(one, two, leaving)
    two.answer("rows", lambda _question: ["two"])

    def hear() -> None:
        if ends == "line":
            one._line_changed(cast("Relay", Mock()), works=False)
            return
        carry_over(one, two)
        carry_over(two, one)
        leaving.line.send("bye", b"")
        carry_over(leaving, one)

    began = trio.current_time()
    with structlog.testing.capture_logs() as logs:
        assert ((["two"], 1) if ends == "goodbye" else ([], 0)) == await asked(one, "rows", hear)
    assert began == trio.current_time()
    assert set() == one.roster.silent()  # it was not they
    missing = [] if ends == "goodbye" else [sorted(node.line.node_id for node in (two, leaving))]
    assert missing == [line["nodes"] for line in logs]


async def test_who_is_new_is_told_at_once() -> None:
    """Tries to have a node that others have heard of ask nobody until the next second, because it has heard of none."""
    one, new = make_node(), make_node()
    new.line.tell()
    carry_over(new, one)
    carry_over(one, new)
    assert {one.line.node_id} == new.roster.present().keys()
    carry_over(new, one)
    assert not one.line.outbox, "and that is all"
    one.line.tell()
    carry_over(one, new)
    assert not new.line.outbox


async def test_a_broadcast_reaches_strangers(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have a broadcast not be sent to others because they have not been heard of yet, or be waited for."""
    del autojump_clock
    one, two = make_node(), make_node()
    heard: list[Any] = []
    two.answer("broadcast", lambda question: heard.append(question) or [1])
    began = trio.current_time()
    assert ([], 0) == await one.ask("broadcast", ["notice", {}], strangers=True)
    assert began == trio.current_time()
    carry_over(one, two)
    assert [["notice", {}]] == heard
    carry_over(two, one)  # nobody waits for it


async def test_who_is_busy_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to leave out a node that was heard while it was waited for, or has come back to itself."""
    del autojump_clock
    one, busy = make_node(), make_node()
    meet(one, busy)
    busy.answer("rows", lambda _question: ["busy"])

    async def beat_late() -> None:
        await trio.sleep(ANSWER_S / 2)
        busy.line.tell()
        carry_over(busy, one)

    def hear() -> None:
        carry_over(one, busy)
        carry_over(busy, one)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat_late)
        assert ([], 0) == await asked(one, "rows", lambda: None)
    assert set() == one.roster.silent()  # it was heard since
    assert ([], 0) == await asked(one, "rows", lambda: None)
    assert {busy.line.node_id} == one.roster.silent()
    began = trio.current_time()
    assert ([], 0) == await asked(one, "rows", lambda: None)
    assert began == trio.current_time()
    meet(busy, one)
    busy.line.outbox.clear()
    assert (["busy"], 1) == await asked(one, "rows", hear)


async def test_nobody_is_asked_where_nobody_is(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to wait for answers that can't come: there is no other node, or the backplane is lost."""
    del autojump_clock
    began = trio.current_time()
    one, two = make_node(), make_node()
    assert ([], 0) == await one.ask("rows")
    meet(one, two)
    one.line.is_linked, one.line.lost = False, "no word of it"
    assert ([], 0) == await one.ask("rows")
    await one.leave()
    assert began == trio.current_time()


async def test_who_has_left_does_not_come_back(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have a node that has said goodbye be counted on again, by what it says each second or on a new line."""
    del autojump_clock
    one, two = make_node(), make_node()
    meet(one, two)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.line._beat)
        await trio.sleep(BEAT_S * 1.5)
        assert ["node"] == [kind for kind, _ in one.line.outbox.take(1 << 30)]
        await one.leave()
        await trio.sleep(BEAT_S * 3)
        one.line.linked()
        carry_over(one, two)
        nursery.cancel_scope.cancel()
    assert {} == two.roster.present()


async def test_a_node_that_has_not_heard_of_itself_leaves(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have a node be counted on that leaves at once: others have heard of it, and it not yet of itself."""
    del autojump_clock
    one, two = make_node(), make_node()
    one.line.lost = NOT_YET
    meet(one, two)
    await one.leave()
    carry_over(one, two)
    assert {} == two.roster.present()


@pytest.mark.parametrize("body", [b"", b"chat", b"chat\n", b'chat\n{"type":"t', b"chat\n[]", b'\xff\n{"type":"t"}'])
async def test_half_an_event(body: bytes) -> None:
    """Tries to have clients be sent what is no message."""
    node = make_node()
    with pytest.raises(ValueError):
        node._hear_event("", body)


async def test_a_flood_is_one_question(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have each of many requests at once be a question to all nodes, or be answered with what was before."""
    del autojump_clock
    one, two = make_node(), make_node()
    meet(one, two)
    two.answer("rows", lambda _question: ["then"])
    answered: list[tuple[list[Any], int]] = []

    async def look() -> None:
        answered.append(await one.look("rows"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        carry_over(one, two)
        for _ in range(100):  # while the first is under way
            nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        assert 0 == len(one.line.outbox.take(1 << 30))
        carry_over(two, one)
        await trio.testing.wait_all_tasks_blocked()
        assert [(["then"], 1)] == answered
        two.answer("rows", lambda _question: ["now"])
        carry_over(one, two)
        carry_over(two, one)
    assert [(["now"], 1)] * 100 == answered[1:]
    assert {} == one._asks == one._rounds


async def test_who_asked_for_all_may_leave(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have those who wait for somebody's question wait for ever, once he was cancelled."""
    del autojump_clock
    one, two = make_node(), make_node()
    meet(one, two)
    two.answer("rows", lambda _question: ["now"])
    answered: list[tuple[list[Any], int]] = []

    async def look(scope: trio.CancelScope) -> None:
        with scope:
            answered.append(await one.look("rows"))

    leaver = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, leaver)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(look, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        one.line.outbox.clear()
        leaver.cancel()
        await trio.testing.wait_all_tasks_blocked()
        carry_over(one, two)
        carry_over(two, one)
    assert [(["now"], 1)] * 3 == answered
