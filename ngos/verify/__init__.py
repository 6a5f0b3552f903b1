"""`ngos verify`: whether what the server promises is so, from what it left behind: a database, and watchers' journals.

    report = await verify(conninfo, journals)
    report.sound, report.to_json()

It reads one snapshot of the database, in one transaction that can only read, page by page, beside a server that runs.
It shares with what it checks only how a time is written.

Five checks, each a module that says what it promises:

- `numbers`, `trajectories` (`sequences.py`): numbers without holes
- `changes` (`changes.py`, with the tables in `tables.py`): every change has its event, and every event its change
- `replies` (`replies.py`): what was answered is what was logged, and no change answered two commands
- `journals` (`journals.py`): each watcher saw every event once, in order, as the log has it

Memory does not grow with the log, but with what is alive in it: about 250 bytes for each token, edge and experience
that has an event there. May import `journal`, `log.store`, `postgres` and `protocol`.
"""

from ngos.verify.report import Check, Report
from ngos.verify.run import verify

__all__ = ["Check", "Report", "verify"]
