"""Whether this is the database whose log it holds, or one that was restored since. May import `postgres`."""

from __future__ import annotations

from typing import Final

from ngos.postgres.identity import QUERIES, Identity
from ngos.verify.report import Check
from ngos.verify.snapshot import Snapshot

_NEXT: Final = "the next start of a server, or `ngos migrate`, gives new epochs"


async def check_identity(snapshot: Snapshot) -> Check:
    """One database at most is noted. Another than this one is no fault, but clients must not resume in it yet."""
    check = Check("identity", "noted databases")
    columns = "one, doubt, system_identifier, timeline, database_oid, topics_oid"
    rows = await snapshot.rows(f"select {columns} from ngos_identity")
    check.looked_at = len(rows)
    if not rows:
        check.remark("no database is noted: the next start of a server, or `ngos migrate`, does so")
    if len(rows) > 1 or not all(row[0] for row in rows):
        check.fault(f"{len(rows)} databases are noted, where there can be one")
    for _, doubt, *noted in rows:
        values = {}
        # Of a replica, or of one that has no such function, nothing is known: a snapshot must not fail for it.
        for name in ("database_oid", "topics_oid"):
            ((values[name],),) = await snapshot.rows(QUERIES[name])
        changed = doubt or Identity(**values).differs(Identity(*noted))
        if changed:
            check.remark(f"the log went back, or this is a restored copy: {changed}; {_NEXT}")
    return check
