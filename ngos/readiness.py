"""Whether the server can serve, and who is told when that changes. Floor 8.

At the start the database may not be there yet: then it is waited for, while the process is alive and says why it is
not ready. What waiting does not mend ends the start. Later the database is asked now and then, so that operators and
clients hear of its loss before somebody's command fails.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio
from attrs import define, field

from ngos.errors import SchemaError, SetupError, StorageRefused, StorageUnavailable

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0
"""Between two attempts to reach the database: twice the last, up to this, give or take a quarter."""
ASK_EVERY_S: Final = 2.0
"""How often the database is asked once it was there."""
NOT_THERE: Final = "the database is not there yet"

_log = structlog.get_logger("ngos")


@define(eq=False)
class Readiness:
    """`reasons` say why the server can't serve, as of the last time that it was asked; nothing: it can.

    `prepare` brings the schema up to date, `ask` says what is wrong now, and `tell` is called with True when the server
    becomes ready, and with False when it ceases to be. `prepared`: the schema is such that commands can be tried.
    `ready`: set for good when the server can serve for the first time. `waiting`: what the database said last, for the
    operator alone. `tried`: the database has been tried once, whatever came of it.
    """

    _prepare: Callable[[], Awaitable[object]]
    _ask: Callable[[], Awaitable[list[str]]]
    _tell: Callable[[bool], Awaitable[None]]
    reasons: list[str] = field(init=False, factory=lambda: [NOT_THERE])
    prepared: trio.Event = field(init=False, factory=trio.Event)
    ready: trio.Event = field(init=False, factory=trio.Event)
    waiting: str | None = field(init=False, default=None)
    tried: trio.Event = field(init=False, factory=trio.Event)
    _begun: int = field(init=False, default=0)
    _answered: int = field(init=False, default=0)

    async def run(self) -> None:
        """Wait for the database, then look at it until cancelled.

        Raises SetupError, the operator's fault, where waiting would be in vain.
        """
        await self._wait()
        while True:
            await self.look()
            await trio.sleep(ASK_EVERY_S)

    async def look(self) -> list[str]:
        """Ask now, tell if that is a change, and return the reasons. Takes as long as `ask` does.

        Of several at once, what was asked first does not count any more when what was asked later is known.
        """
        if not self.prepared.is_set():
            return self.reasons
        self._begun += 1
        number = self._begun
        reasons = await self._ask()
        if number < self._answered:
            return self.reasons
        self._answered = number
        was_ready, self.reasons = not self.reasons, reasons
        if was_ready == (not reasons):
            return reasons
        if reasons:
            _log.warning("server.unready", reasons=reasons)
        elif self.ready.is_set():
            _log.info("server.ready_again")
        else:
            self.ready.set()
        await self._tell(not reasons)
        return reasons

    async def _wait(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self.prepared.is_set():
            try:
                await self._prepare()
            except (StorageRefused, SchemaError) as exc:
                raise SetupError(str(exc)) from exc
            except StorageUnavailable as exc:
                if str(exc) != self.waiting:
                    self.waiting = str(exc)
                    _log.warning("database.waiting", reason=self.waiting)
                self.tried.set()
                await trio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                self.waiting = None
                self.prepared.set()
                self.tried.set()
