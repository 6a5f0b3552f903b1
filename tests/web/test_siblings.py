"""`/metrics` of several workers: all of them, each sample its worker's, whoever is asked or does not answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from ngos.web.siblings import ANSWER_S, KEPT_S, Siblings, merged
from tests.daemons import LIMIT_S
from tests.web.wire import request
from tests.workers import pids_of, place, server_of

ONE = b"""\
# HELP a_total How many.
# TYPE a_total counter
a_total{of="x {y} z"} 1.0
# HELP b Now.
# TYPE b gauge
b 2.0
"""
TWO = b"""\
# HELP b Now.
# TYPE b gauge
b 3.0
# HELP c_seconds How long.
# TYPE c_seconds histogram
c_seconds_bucket{le="+Inf"} 4.0
c_seconds_count 4.0
"""


def test_merged() -> None:
    """Tries to find a family twice, or a sample lost, changed, or without its worker."""
    text = merged({1: TWO, 0: ONE}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert ["a", "b", "c_seconds"] == list(families)
    found = {(s.name, *sorted(s.labels.items())): s.value for family in families.values() for s in family.samples}
    assert {
        ("a_total", ("of", "x {y} z"), ("worker", "0")): 1.0,
        ("b", ("worker", "0")): 2.0,
        ("b", ("worker", "1")): 3.0,
        ("c_seconds_bucket", ("le", "+Inf"), ("worker", "1")): 4.0,
        ("c_seconds_count", ("worker", "1")): 4.0,
    } == found
    assert 3 == text.count("# TYPE")


async def test_asked_by_many(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Tries to have the others asked each time that somebody asks for all."""
    asked = 0

    def other() -> bytes:
        nonlocal asked
        asked += 1
        return b"b %d\n" % asked

    first, second = (Siblings(place(tmp_path, index), own) for index, own in ((0, lambda: b"b 0\n"), (1, other)))
    await nursery.start(second.run)
    texts: list[bytes] = []

    async def ask() -> None:
        texts.append(await first.text())

    async with trio.open_nursery() as asking:
        for _ in range(50):
            asking.start_soon(ask)
    assert 1 == asked
    assert 50 == len(texts)
    assert {b'b{worker="1"} 1'} == {text.splitlines()[1] for text in texts}
    first._told_at -= KEPT_S
    assert b'b{worker="1"} 2' in await first.text()


@pytest.mark.parametrize("how", ["silent", "cut", "flood", "nobody"])
async def test_who_does_not_answer(how: str, tmp_path: Path, nursery: trio.Nursery, autojump_clock: object) -> None:
    """Tries to hold up the others, or to have half an answer taken for one, by a worker that does not answer well."""

    async def answer(stream: trio.SocketStream) -> None:
        if how == "silent":
            await trio.sleep_forever()
        if how == "cut":
            await stream.send_all(b"b 1\nb")
        try:
            while how == "flood":
                await stream.send_all(b"b 1\n" * 10_000)
        except trio.BrokenResourceError:
            pass

    if how != "nobody":
        with trio.socket.socket(trio.socket.AF_UNIX) as listening:
            await listening.bind(str(tmp_path / "metrics-1"))
            listening.listen()
            await nursery.start(trio.serve_listeners, answer, [trio.SocketListener(listening.dup())])
    with trio.fail_after(2 * ANSWER_S):
        text = await Siblings(place(tmp_path), lambda: b"b 0\n").text()
    assert b'b{worker="0"} 0' == text.splitlines()[0]
    assert b'worker="1"' not in text
    assert text.endswith(b"ngos_workers_answered 1\n")


async def test_the_folder_is_gone(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Tries to have a worker that begins while its supervisor is killed end by a defect, or tell nothing meanwhile."""
    siblings = Siblings(place(tmp_path / "gone"), lambda: b"b 0\n")
    await nursery.start(siblings.run)
    text = await siblings.text()
    assert b'b{worker="0"} 0' == text.splitlines()[0]
    assert text.endswith(b"ngos_workers_answered 1\n")


async def test_through_a_server(database_url: str) -> None:
    """Tries to get another answer from one worker than from the other, or none while one is stopped or was replaced."""
    async with server_of(database_url, 2) as server:
        assert {"0", "1"} == await _workers(server.http)
        stopped = pids_of(server)[1]
        os.kill(stopped, signal.SIGSTOP)
        found: list[set[str]] = []
        alone = trio.Event()

        async def ask() -> None:
            while {"0"} not in found:
                with trio.move_on_after(2 * ANSWER_S):  # it was the stopped one's to answer
                    found.append(await _workers(server.http))
            alone.set()

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
            with trio.move_on_after(LIMIT_S):
                await alone.wait()
            nursery.cancel_scope.cancel()
        os.kill(stopped, signal.SIGCONT)
        assert {"0"} in found
        os.kill(stopped, signal.SIGKILL)
        await server.says("server.ready", 3)
        with trio.fail_after(2 * KEPT_S):
            while {"0", "1"} != await _workers(server.http):
                pass


async def _workers(http: str) -> set[str]:
    """The workers whose samples are there; each of them has as many families as any."""
    answer = await request(http, "GET", "/metrics")
    assert 200 == answer.status
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    workers = {sample.labels["worker"] for sample in families["ngos_ready"].samples}
    assert workers == {sample.labels["worker"] for sample in families["process_open_fds"].samples}
    assert 2 == families["ngos_workers"].samples[0].value
    assert len(workers) == families["ngos_workers_answered"].samples[0].value
    return workers
