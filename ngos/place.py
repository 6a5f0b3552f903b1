"""What a worker is told by its supervisor: which of how many it is, and what it was handed. Imports `ngos.config` and
`ngos.errors`.

By one variable, NGOS_WORKER, which holds numbers alone: a worker is the same program with the same arguments.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

import attrs
import orjson
from attrs import frozen

from ngos.config import MIB, Settings
from ngos.errors import SetupError

VARIABLE: Final = "NGOS_WORKER"
ALIVE_S: Final = 1.0
"""How often a worker says that it goes on, at least."""


@frozen
class Place:
    """The place of one worker among `count`.

    `listener` and `lifeline` are descriptors: the socket to accept from, and a pipe that ends when the supervisor does;
    nothing is ever written to it. `stays`: the socket is systemd's, and is there for our successor. `folder`: where the
    workers of this supervisor reach each other; only its user may enter.
    """

    index: int
    count: int
    listener: int
    lifeline: int
    stays: bool
    folder: Path

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Place | None:
        """Take it out of the environment, so that no child takes it for its own; None: this is no worker.

        Raises SetupError for what no supervisor of this version has put there.
        """
        text = environment.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            index, count, listener, lifeline, stays, folder = orjson.loads(text)
            for descriptor in (listener, lifeline):
                os.set_inheritable(descriptor, False)
        except (ValueError, TypeError, OSError):
            raise SetupError(
                f"{VARIABLE} is for `ngos serve` alone, which sets it for its workers", exit_code=2
            ) from None
        return cls(index, count, listener, lifeline, stays, Path(folder))

    def variables(self) -> dict[str, str]:
        """What to put into a worker's environment."""
        told = (self.index, self.count, self.listener, self.lifeline, self.stays, str(self.folder))
        return {VARIABLE: orjson.dumps(told).decode()}

    def socket(self) -> socket.socket:
        """The socket to accept from, which is the caller's to close."""
        return socket.socket(fileno=self.listener)


def share(settings: Settings, place: Place | None) -> Settings:
    """What one worker may take of what the whole server may: connections, and memory for clients and for the cache.

    What counts by address, subject or connection stays as it is: who comes is spread by chance, and would meet a part
    of such a limit too early.
    """
    if place is None:
        return settings
    return attrs.evolve(
        settings,
        connections=-(-settings.connections // place.count),
        mailbox_total_bytes=max(MIB, settings.mailbox_bytes, settings.mailbox_total_bytes // place.count),
        cache_bytes=settings.cache_bytes // place.count,
    )
