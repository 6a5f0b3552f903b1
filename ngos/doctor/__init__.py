"""`ngos doctor`: looks at all that a server needs, changes nothing, and says what to do.

- `finding`: what a check says, and how checks are run
- `settings`: what is set, and whether it goes together; also for `ngos config --check`
- `machine`: port, files, disk, clock's neighbours
- `database`: Postgres, its schema and its settings; Redis
"""

from __future__ import annotations

from ngos.config import Settings
from ngos.doctor import database, machine, settings
from ngos.doctor.finding import Finding, State, run

__all__ = ["Finding", "State", "examine"]


async def examine(given: Settings) -> list[Finding]:
    """Run all checks, one after the other. Each has its deadline; none raises."""
    return await run((*settings.CHECKS, *machine.CHECKS, *database.CHECKS), given)
