"""The Autobahn fuzzing client against `autobahn_echo.py`, from the start of both to the summary.

Promises: exits 0 where every case that was asked for was run and none failed, 1 where one failed or was not run, 2
where the client can't be had or no case is meant, 3 where there is no Python 2.7, which the client is written in.
Whatever happens, Ctrl-C included, the echo and the client end with it. The client is installed once, into the user's
cache; runs that do so at the same time do not disturb each other, and one that is broken off leaves nothing half-made.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ECHO = Path(__file__).with_name("autobahn_echo.py")
REPORTS = Path("autobahn-reports")

VIRTUALENV = "virtualenv==20.15.1"  # the last that makes environments of Python 2.7
SUITE = "autobahntestsuite==25.10.1"

AGENT = "echo"
BAD = frozenset({"FAILED", "UNCLEAN", "WRONG CODE"})

STOP_S = 10

# Asked of the suite itself: where it finds no case of a name, it waits for ever.
LIST_CASES = """
from autobahntestsuite.fuzzing import CaseBasename, Cases
print("\\n".join(case.__name__[len(CaseBasename):].replace("_", ".") for case in Cases))
"""
# Not `bin/wstest`: that knows its Python by the path it was installed under, and it is installed before it is moved.
RUN_CLIENT = "from autobahntestsuite.wstest import run; run()"


class CannotRun(Exception):
    """What the user has to mend; in one or more lines."""


def find_python27() -> str | None:
    """PYTHON27, if that is set, else the newest 2.7 among pyenv's versions; only what is a Python 2.7."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    named = os.environ.get("PYTHON27")
    for path in [named] if named else sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True):
        try:
            check = [path, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
            subprocess.run(check, check=True, stderr=subprocess.DEVNULL)  # a shim of pyenv's has much to say
        except (OSError, subprocess.CalledProcessError):
            continue
        return str(path)
    return None


def installed_client(python27: str) -> str:
    """The Python of an environment with the suite in it, made where there is none. Raises CannotRun."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autobahn-client"
    key = hashlib.sha256(f"{python27} {VIRTUALENV} {SUITE}".encode()).hexdigest()[:12]
    home = cache / key
    if not home.exists():
        print("autobahn: installing the client, once; this takes a minute", file=sys.stderr)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as made:
            _install(python27, Path(made))
            try:
                (Path(made) / "env").rename(home)
            except OSError:
                if not home.exists():  # else another run was faster, and its own is as good
                    raise
    return str(home / "bin" / "python")


def _install(python27: str, made: Path) -> None:
    plain = os.environ | {
        "PYTHONWARNINGS": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    boot, env = str(made / "boot"), made / "env"
    for command, variables in (
        ([python27, "-m", "pip", "install", "-q", "--target", boot, VIRTUALENV], plain),
        ([python27, "-m", "virtualenv", "-q", str(env)], plain | {"PYTHONPATH": boot}),
        ([str(env / "bin" / "python"), "-m", "pip", "install", "-q", SUITE], plain),
    ):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables, check=False
        )
        if done.returncode:
            raise CannotRun(f"the client can't be installed:\n{done.stdout}")


def cases_of(client: str, patterns: Sequence[str]) -> list[str]:
    """The cases that the patterns mean, in the suite's order. Raises CannotRun for a pattern that means none."""
    every = subprocess.run([client, "-c", LIST_CASES], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    for pattern in patterns:
        if not any(fnmatchcase(case, pattern) for case in every):
            raise CannotRun(
                f"no case is called {pattern}; {every[0]} is the first of {len(every)}, {every[-1]} the last"
            )
    return [case for case in every if any(fnmatchcase(case, pattern) for pattern in patterns)]


@contextmanager
def echo(options: Sequence[str]) -> Iterator[str]:
    """Run the echo server; yields its URL. Raises CannotRun where it does not start."""
    # A session of its own: Ctrl-C is for this process, which then ends the server by way of its stdin.
    with subprocess.Popen(
        [sys.executable, ECHO, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            if not url:
                raise CannotRun("the echo server did not start; above is why")
            yield url
        finally:
            server.stdin.close()
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()


def run_client(client: str, url: str, cases: Sequence[str], reports: Path) -> dict[str, Any]:
    """Run the cases; returns what became of each that was run. Its reports and its log are in `reports`."""
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir()
    spec = {"outdir": str(reports.resolve()), "servers": [{"agent": AGENT, "url": url}], "cases": cases}
    (reports / "fuzz.json").write_text(json.dumps(spec))
    with (reports / "log.txt").open("wb") as log:
        subprocess.run(
            [client, "-c", RUN_CLIENT, "-m", "fuzzingclient", "-s", str(reports / "fuzz.json")],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    index = reports / "index.json"
    results: dict[str, Any] = json.loads(index.read_text())[AGENT] if index.exists() else {}
    return results


def summary(cases: Sequence[str], results: dict[str, Any], reports: Path) -> bool:
    """Print how many came out how, and what was awaited of each that is not OK; returns whether all is well."""
    count = collections.Counter(result["behavior"] for result in results.values())
    print(f"{len(cases)} cases: " + ", ".join(f"{number} {behavior}" for behavior, number in sorted(count.items())))
    well = True
    unimplemented = collections.Counter[str]()
    for case in cases:
        if case not in results:
            print(f"{case}: NOT RUN, nor what comes after it; the end of {reports / 'log.txt'} may say why")
            return False
        behavior, close = results[case]["behavior"], results[case]["behaviorClose"]
        well = well and BAD.isdisjoint((behavior, close))
        if behavior == "UNIMPLEMENTED":
            unimplemented[case.split(".")[0]] += 1
        elif (behavior, close) != ("OK", "OK"):
            report = json.loads((reports / results[case]["reportfile"]).read_text())
            reasons = [report["expectation"]] * (behavior != "OK") + [report["resultClose"]] * (close != "OK")
            print(f"{case}: {behavior}, close {close} ({report['remoteCloseCode']}). " + " ".join(reasons))
    for group, number in unimplemented.items():
        print(f"{group}.*: {number} UNIMPLEMENTED: the server does not offer what they try")
    return well


def main() -> int:
    """Read the command line, and do it all; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/autobahn",
        description="RFC 6455, case by case: the Autobahn fuzzing client against an echo on our transport. Reports go "
        f"to ./{REPORTS}. The client needs a Python 2.7, from PYTHON27=… or among pyenv's versions. Exits 1 where a "
        "case fails, 3 where there is no Python 2.7.",
    )
    parser.add_argument(
        "cases", metavar="CASE", nargs="*", default=["*"], help="as '1.*' or 9.1.1; all take 12 minutes"
    )
    parser.add_argument(
        "--plain-asgi", action="store_true", help="echo over ASGI's receive and send, not the extension"
    )
    arguments = parser.parse_args()

    python27 = find_python27()
    if python27 is None:
        print("autobahn: the client is written in Python 2.7, and there is none (set PYTHON27)", file=sys.stderr)
        return 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended on the way out
    try:
        client = installed_client(python27)
        cases = cases_of(client, arguments.cases)
        with echo(["--plain-asgi"] if arguments.plain_asgi else []) as url:
            results = run_client(client, url, cases, REPORTS)
        return 0 if summary(cases, results, REPORTS) else 1
    except CannotRun as exc:
        print(f"autobahn: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
