"""The listener: what goes wrong with one connection, or with all files of the process, is not its end."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from ngos.gateway.listener import _Listener


class Listening:
    """A socket that listens, whose next accept fails as it is told."""

    def __init__(self, real: socket.socket, number: int) -> None:
        self.real, self.number = real, number

    def fileno(self) -> int:
        return self.real.fileno()

    def accept(self) -> Any:
        if self.number:
            number, self.number = self.number, 0
            raise OSError(number, os.strerror(number))
        return self.real.accept()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EMFILE, errno.ENOMEM])
async def test_an_accept_that_fails_is_not_the_end(number: int) -> None:
    """Tries to end the server by a connection that is over before it is accepted, or by too many open files."""
    served = trio.Event()

    async def serve(_stream: trio.SocketStream) -> None:
        served.set()

    with socket.create_server(("127.0.0.1", 0)) as real, capture_logs() as logs:
        real.setblocking(False)
        listening: Any = Listening(real, number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_Listener(listening, None, serve, nursery).run)
            async with await trio.open_tcp_stream(*real.getsockname()):
                with trio.fail_after(5):
                    await served.wait()
            nursery.cancel_scope.cancel()
    assert (number in (errno.EMFILE, errno.ENOMEM)) == (["listener.no_room"] == [line["event"] for line in logs])


async def test_a_defect_is_loud() -> None:
    """Tries to have a listener that is broken go on as if it were not."""

    async def serve(_stream: trio.SocketStream) -> None:
        raise AssertionError("nobody is let in")

    with socket.create_server(("127.0.0.1", 0)) as real, pytest.RaisesGroup(OSError):
        listening: Any = Listening(real, errno.EBADF)
        async with await trio.open_tcp_stream(*real.getsockname()), trio.open_nursery() as nursery:
            nursery.start_soon(_Listener(listening, None, serve, nursery).run)
