"""A script of ours as it is typed, and all that it starts, found by a mark in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[2]


class Script:
    """Starts `scripts/NAME`, with `last` behind the arguments of each call."""

    def __init__(self, name: str, *last: str) -> None:
        self._command = [sys.executable, str(ROOT / "scripts" / name)]
        self._last = last
        # Not NGOS_…: scripts keep settings of that name from the servers that they start.
        self._mark = f"SCRIPT_TEST_MARK={uuid.uuid4().hex}"
        self._name = name
        self.pids: list[int] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self._command, *arguments, *self._last],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | dict([self._mark.split("=")]),
            cwd=ROOT,
        )
        self.pids.append(process.pid)
        return process

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=90)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def processes(self) -> list[str]:
        """Command lines of what runs with our mark; Postgres too, which inherits it."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (path / "environ").read_bytes():
                    found.append((path / "cmdline").read_text().replace("\0", " "))
            except OSError:
                pass  # not ours, or gone
        return found

    def directories(self) -> list[Path]:
        """Where our runs have their files, of a script that names these by its process: others may run beside us."""
        return [path for pid in self.pids for path in Path("/tmp").glob(f"ngos-{self._name}-{pid}-*")]

    def databases(self, conninfo: str) -> list[str]:
        """The databases of our runs, which are named as the directories are."""
        with psycopg.connect(conninfo) as connection:
            names = [name for (name,) in connection.execute("select datname from pg_database")]
        return [name for name in names for pid in self.pids if name.startswith(f"ngos_bench_{pid}_")]
