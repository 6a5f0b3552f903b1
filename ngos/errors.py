"""Every exception of ngos, and whose fault it is. Imports nothing of ngos.

    NgosError
    ├── CommandFailed            one command is answered with an error (ngos.protocol.faults)
    │   └── ClientError          its sender is at fault
    │       ├── DecodeError      the bytes are not a command; TooDeep: nested deeper than the limit
    │       └── NoRoom           the log keeps as many topics as it may
    ├── StorageError             the database is at fault: `unavailable` to the client, a line in the log
    │   ├── StorageUnavailable   it can't be reached, or did not answer in time; may pass
    │   │   └── StorageContention   it rolled us back in favour of another; had no effect
    │   ├── StorageRefused       it does not let us in: wrong password, no such role or database; will not pass
    │   ├── SchemaError          its schema is newer than this server, or not ours; will not pass
    │   └── LogWentBack          what clients were told is in its log no more: the server ends
    ├── RedisUnavailable         Redis can't be reached or refuses: a miss, or a backplane that is lost; never a reply
    ├── Refused                  a token is not valid, its holder's fault (ngos.auth.refusals)
    ├── Defect                   a part that the server can't be without has failed: it ends, and the log says why
    └── SetupError               the operator is at fault: one line on stderr, exit code 1 or 2

What is none of these is a defect of ngos.
"""

from __future__ import annotations


class NgosError(Exception):
    """The root of the tree above."""


class StorageError(NgosError):
    """The database failed us. The text is for the log, never for a client."""


class StorageUnavailable(StorageError):
    """The database can't be reached or did not answer within the deadline. The effect is unknown."""


class StorageContention(StorageUnavailable):
    """The database rolled a transaction back in favour of another. It had no effect: try it again, at once."""


class StorageRefused(StorageError):
    """The database is there and does not let us in. The text says what it holds against us."""


class SchemaError(StorageError):
    """The database's schema is not one that this server can use. The text says what to do."""


class RedisUnavailable(NgosError):
    """Redis can't be reached, refuses, or is too slow. Nobody is harmed: what it would have told is in Postgres."""


class Defect(NgosError):
    """A core task of the server has failed, and with it the server. The text names the incident in the log."""


class LogWentBack(StorageError):
    """The log went back under a server that runs, or its epochs are others: what the server knows of it is not true.

    It ends the process, so that the next start gives new epochs, and clients learn of it.
    """


class SetupError(NgosError):
    """The operator can mend this: the text is one line that says how."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
