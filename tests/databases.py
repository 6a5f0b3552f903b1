"""Databases for tests: one server for the whole session, a fresh database for each test. Blocking calls.

The server is an embedded one in a temporary directory, or the one that NGOS_TEST_DATABASE_URL names.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import trio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ngos.postgres.embedded import embedded_postgres
from ngos.postgres.migrate import migrate

START_S = 30

# In memory, if there is plenty: the suite makes thousands of databases, and one takes a third of the time there.
MEMORY = Path("/dev/shm")
SERVER_BYTES = 8 << 30


def _place() -> str:
    """Where an embedded one is. Short, so that the socket fits; not under a private home, so that it may enter it."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > SERVER_BYTES
    return str(MEMORY) if is_roomy and psutil.virtual_memory().available > SERVER_BYTES else "/tmp"


class TestServer:
    """A Postgres server, and databases in it. What it made is gone after `stop`."""

    __test__ = False  # pytest: not a test class

    def __init__(self) -> None:
        self._admin: psycopg.Connection[Any] | None = None
        self._template: str | None = None
        self._names: set[str] = set()
        self._thread: threading.Thread | None = None
        self._stop = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._failure: BaseException | None = None
        self.conninfo = os.environ.get("NGOS_TEST_DATABASE_URL", "")
        # Only an embedded one may be killed, and not this one, which all tests share.
        self.embedded = not self.conninfo

    def start(self) -> None:
        """Start the server, or connect to the one that is there."""
        if self.embedded:
            ready = threading.Event()
            # Not a daemon: it is what stops Postgres.
            self._thread = threading.Thread(target=partial(trio.run, self._serve, ready), name="test-postgres")
            self._thread.start()
            ready.wait(START_S)
            if self._failure:
                raise self._failure
        self._admin = psycopg.connect(self.conninfo, autocommit=True)

    @property
    def programs(self) -> str:
        """Where the programs that belong to an embedded one are; of another that is not known, and empty."""
        if not self.embedded:
            return ""
        assert self._admin is not None
        row = self._admin.execute("select setting from pg_config where name = 'BINDIR'").fetchone()
        return str(row[0]) if row else ""

    def stop(self) -> None:
        """Drop what was made, and stop the server if it is ours."""
        if self._admin is not None:
            for name in [*self._names, *([self._template] if self._template else [])]:
                self._execute("drop database if exists {} with (force)", name)
            self._admin.close()
        if self._thread is not None and self._token is not None:
            self._token.run_sync_soon(self._stop.set)
            self._thread.join(10)

    def create_database(self, *, migrated: bool = True, like: str | None = None) -> str:
        """A fresh database, by default with ngos's schema in it, or a copy of that at `like`; returns its conninfo."""
        name = f"ngos_test_{uuid.uuid4().hex[:12]}"
        if like is not None:
            self._execute("create database {} template {}", name, str(conninfo_to_dict(like)["dbname"]))
        elif migrated:
            self._execute("create database {} template {}", name, self._migrated_template())
        else:
            self._execute("create database {} template template0", name)
        self._names.add(name)
        return self._conninfo_of(name)

    def drop_database(self, conninfo: str) -> None:
        """Drop it, whoever is still connected."""
        name = str(conninfo_to_dict(conninfo)["dbname"])
        self._execute("drop database if exists {} with (force)", name)
        self._names.discard(name)

    def _migrated_template(self) -> str:
        if self._template is None:
            name = f"ngos_template_{uuid.uuid4().hex[:12]}"
            self._execute("create database {} template template0", name)
            # A thread, because a test that is on Trio may be who asks.
            thread = threading.Thread(
                target=partial(trio.run, partial(migrate, self._conninfo_of(name), connect_s=START_S, lock_s=START_S))
            )
            thread.start()
            thread.join()
            # Else each copy would be taken for a restored database.
            with psycopg.connect(self._conninfo_of(name), autocommit=True) as db:
                db.execute("delete from ngos_identity")
            self._template = name
        return self._template

    def _conninfo_of(self, name: str) -> str:
        return make_conninfo(self.conninfo, dbname=name)

    def _execute(self, statement: str, *names: str) -> None:
        assert self._admin is not None, "start() first"
        self._admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    async def _serve(self, ready: threading.Event) -> None:
        try:
            self._token = trio.lowlevel.current_trio_token()
            with tempfile.TemporaryDirectory(prefix="ngos-test-", dir=_place()) as directory:
                async with embedded_postgres(Path(directory) / "data", start_s=START_S) as self.conninfo:
                    ready.set()
                    await self._stop.wait()
        except Exception as error:
            self._failure = error
        finally:
            ready.set()
