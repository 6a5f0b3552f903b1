"""All checks, on one snapshot. May import the rest of this package."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ngos.errors import SetupError
from ngos.verify.changes import check_changes
from ngos.verify.identity import check_identity
from ngos.verify.journals import Sized, check_journals
from ngos.verify.replies import check_replies
from ngos.verify.report import Report
from ngos.verify.sequences import check_numbers, check_trajectories
from ngos.verify.snapshot import open_snapshot

CONNECT_S: Final = 5.0


async def verify(
    conninfo: str, journals: Iterable[Path] = (), *, complete: bool = False, connect_s: float = CONNECT_S
) -> Report:
    """Check a database, and journals that watchers of it wrote; faults are in the report, never raised.

    `complete`: each journal must have come to the last event of the durable topics in it. `connect_s`: seconds for the
    connection to come about; how long the rest may take, the caller says: it reads all there is, once.

    Raises SchemaError, StorageUnavailable, and SetupError where a journal can't be read: then nothing is known.
    """
    sized = [_sized(path) for path in journals]
    async with open_snapshot(conninfo, connect_s=connect_s) as snapshot:
        checks = [
            await check_numbers(snapshot),
            await check_changes(snapshot),
            await check_trajectories(snapshot),
            await check_replies(snapshot),
            await check_identity(snapshot),
        ]
        if sized:
            checks.append(await check_journals(snapshot, sized, complete=complete))
        topics = {
            topic.name: {"epoch": topic.epoch, "seq": topic.seq, "pruned": topic.pruned}
            for topic in snapshot.topics.values()
        }
        return Report(tuple(checks), topics)


def _sized(path: Path) -> Sized:
    # Before the snapshot: so it has every event that is in the file.
    try:
        found = path.stat()
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror or exc}") from exc
    if not stat.S_ISREG(found.st_mode):
        raise SetupError(f"{path}: not a file")
    return Sized(path, found.st_size)
