"""Hypercorn's connections, contained: what fails in one ends that one, not the server.

In Hypercorn 0.18 an exception in the handling of a connection goes through its nurseries and ends them all, and peers
can cause some: an illegal chunk after the answer has begun, `Upgrade: h2c` with settings that are not base64, frames
that don't wait for the upgrade. tests/web/test_impatient.py has them.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import hypercorn.trio.run
import structlog
from hypercorn.trio.tcp_server import TCPServer

_log = structlog.get_logger("ngos")


class ContainedServer(TCPServer):
    """Hypercorn's server of one connection."""

    async def run(self) -> None:
        """Serve the connection until it ends, in whichever way; raises only Cancelled."""
        try:
            await super().run()
        except* Exception as group:
            # A line and no traceback: the peer decides how often this happens.
            for exc in _leaves(group):
                last = traceback.extract_tb(exc.__traceback__)[-1]
                where = f"{last.filename}:{last.lineno}"
                _log.warning("http.connection_failed", reason=repr(exc)[:200], where=where)


def install() -> None:
    """Contain all that Hypercorn serves in this process."""
    hypercorn.trio.run.TCPServer = ContainedServer  # type: ignore[attr-defined]


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc
