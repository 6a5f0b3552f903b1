"""What systemd is to a daemon, as a double: the notify socket, and the socket that is handed over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

from tests.daemons import LIMIT_S, NGOS

ACTIVATED: Final = ("bash", "-c", 'exec 3<&"$HANDED_OVER"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash", *NGOS)
"""`ngos` with the descriptor HANDED_OVER as systemd would give it: the first after standard error, for this process."""


@define
class Told:
    """The notify socket, and what a service told by it, in order."""

    path: str
    _socket: trio.socket.SocketType
    messages: list[str] = field(factory=list)

    async def until(self, start: str) -> str:
        """Read on until the service tells something that begins so; returns that."""
        with trio.move_on_after(LIMIT_S):
            while True:
                message = (await self._socket.recv(4096)).decode()
                self.messages.append(message)
                if message.startswith(start):
                    return message
        raise AssertionError(f"it was never told {start}, but {self.messages}")

    def all_so_far(self) -> list[str]:
        """Read what was told by now."""
        with socket.socket(fileno=os.dup(self._socket.fileno())) as same:
            try:
                while True:
                    self.messages.append(same.recv(4096, socket.MSG_DONTWAIT).decode())
            except BlockingIOError:
                return self.messages


@contextmanager
def notify_socket(folder: Path) -> Iterator[Told]:
    """A notify socket, as `Told.path` says."""
    path = str(folder / "notify")
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    plain.bind(path)
    with trio.socket.from_stdlib_socket(plain) as ours:
        yield Told(path, ours)
