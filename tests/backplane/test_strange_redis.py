"""A line to what is no Redis, or no Redis any more: it is lost, and the node goes on."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing

from ngos.backplane.line import NOT_YET, Line
from tests.backplane.test_line import CLUSTER, LIMIT_S, on_redis

CHANNEL = f"ngos:{CLUSTER.cluster_id}".encode()
HELLO = b"%3\r\n+proto\r\n:3\r\n+version\r\n+7.0.0\r\n+id\r\n:1\r\n"
SUBSCRIBED = b">3\r\n+subscribe\r\n+%s\r\n:1\r\n" % CHANNEL
MESSAGE = b">3\r\n+message\r\n+%s\r\n" % CHANNEL


# coredis leaves a generator to the garbage collector where it fails by what it reads.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("answer", [b"+OK\r\n", b"_\r\n", b"%0\r\n", b"-ERR no\r\n"])
@pytest.mark.parametrize(
    "push",
    [
        *(b">0\r\n", b">1\r\n:5\r\n", b">1\r\n+message\r\n", b">1\r\n_\r\n", b">2\r\n+unsubscribe\r\n_\r\n"),
        *(b">3\r\n+message\r\n*0\r\n+x\r\n", b">x\r\n", b"$x\r\n", b"$-5\r\n", b"!!\r\n", b"HTTP/1.1 400\r\n"),
        *(MESSAGE + data for data in (b":5\r\n", b"_\r\n", b"*0\r\n", b"%0\r\n")),
    ],
)
async def test_answers_that_are_none(push: bytes, answer: bytes) -> None:
    """Tries to have a node end with its line, because what it took for Redis says what Redis does not."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async for data in stream:
                if b"HELLO" in data:
                    await stream.send_all(HELLO)
                if b"\r\nSUBSCRIBE" in data:
                    await stream.send_all(SUBSCRIBED + push)
                if b"PUBLISH" in data:
                    await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        line = Line(on_redis(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}"))
        nursery.start_soon(line.run, CLUSTER)
        with trio.fail_after(LIMIT_S):
            while line.lost == NOT_YET:
                await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
