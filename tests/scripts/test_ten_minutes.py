"""scripts/ten_minutes, all but the installation: README has its commands, what fails is named, nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "ten_minutes"


def test_a_stranger_s_first_ten_minutes(tmp_path: Path) -> None:
    """Tries to start, use, look at and stop a server by what the README says, and stumble."""
    # A stranger has set nothing; whoever runs this may have.
    environment = {**os.environ, "TMPDIR": str(tmp_path), "NGOS_PORT": "nonsense", "NGOS_CLIENT_ID": "x"}
    done = subprocess.run(
        [str(SCRIPT), "--installed"], capture_output=True, text=True, check=False, env=environment, timeout=100
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert done.stdout.endswith("all went well\n")
    assert [] == list(tmp_path.iterdir()), "it leaves something behind"


def test_the_readme_has_its_commands() -> None:
    """Tries to find a command in it that the README does not tell."""
    commands = set(re.findall(r"\.venv/bin/(ngos \w+)", SCRIPT.read_text()))
    assert {"ngos demo", "ngos watch", "ngos send", "ngos status", "ngos doctor", "ngos verify"} == commands
    readme = (ROOT / "README.md").read_text()
    assert all(command in readme for command in (*commands, "scripts/run"))


def processes_of(folder: Path) -> list[str]:
    """The command lines that name a folder, but for the script's own clean-up."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if str(folder) in line:
            found.append(line)
    return found


def start(script: Path, folder: Path) -> subprocess.Popen[str]:
    """Start the short form; all that it writes is in `folder`."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.Popen(
        [script, "--installed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    """Tries to have a server, its Postgres or a folder left, when the script is stopped while they run."""
    process = start(SCRIPT, tmp_path)
    assert process.stdout is not None
    assert "start (scripts/run)" in process.stdout.readline()
    assert processes_of(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert 143 == process.returncode
    assert [] == list(tmp_path.iterdir())
    assert [] == processes_of(tmp_path)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


SERVER: Final = """
trap 'exit ${END:-0}' TERM
echo "http://127.0.0.1:1"
while :; do read -rt 0.2 <> <(:) || :; done
"""
NGOS: Final = """
case "$1" in
  watch) while [ ! -e "$NGOS_DATA_DIR.sent" ]; do read -rt 0.05 <> <(:) || :; done; echo '"type":"token.created"' ;;
  status) case "$*" in *json*) echo '{"subscriptions":1}' ;; *) printf 'ready\ntokens  ab  78\n' ;; esac ;;
  demo) echo "tokens: 77 created, 0 there already" ;;
  send) touch "$NGOS_DATA_DIR.sent" ;;
  doctor) printf 'ok  port  an ngos 1.0 is running there\nok  database\n' ;;
esac
"""
"""As much of the command as the script asks for; a line put before it spoils one of them."""


@pytest.mark.parametrize(
    ("server", "spoilt", "said"),
    [
        ("echo boom >&2; exit 3", "", "boom"),
        (SERVER, '[ "$1" != demo ] || { echo oops; exit 4; }', "ngos demo: .venv/bin/ngos demo (exit code 4)\noops"),
        (SERVER, '[ "$1" != demo ] || { echo "tokens: 3 created"; exit; }', "no '^tokens: 77 created' in:"),
        (
            SERVER,
            '[ "$1" != watch ] || { echo refused >&2; exit 1; }\n[ "$*" != "status --json --over-s 0.1" ] || exit 1',
            "refused",
        ),
        (SERVER, '[ "$1" != send ] || exit 5', "(exit code 5)"),
        (SERVER, '[ "$1" != doctor ] || { echo "problem port"; exit 1; }', "problem port"),
        ("END=7\n" + SERVER, "", "stop (SIGTERM): stopped (exit code 7)"),
        (SERVER, "", ""),
    ],
    ids=["no-start", "demo", "demo-few", "watch", "send", "doctor", "end", "well"],
)
def test_what_fails_is_named(tmp_path: Path, server: str, spoilt: str, said: str) -> None:
    """Tries to have a step that failed pass, hang, or leave its neighbours running; nothing spoilt passes."""
    program(tmp_path / "scripts" / "run", server)
    program(tmp_path / ".venv" / "bin" / "ngos", spoilt + NGOS)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    folder = tmp_path / "t"
    folder.mkdir()
    process = start(tmp_path / "scripts" / "ten_minutes", folder)
    _, err = process.communicate(timeout=50)
    assert (1 if said else 0) == process.returncode, err
    assert said in err
    assert [] == list(folder.iterdir())
    assert [] == processes_of(tmp_path)


def test_asked_for_wrongly() -> None:
    """Tries an option that there is not: usage, and exit code 2, before anything is done."""
    done = subprocess.run([SCRIPT, "--quick"], capture_output=True, text=True, check=False)
    assert (2, "", "usage: scripts/ten_minutes [--installed]\n") == (done.returncode, done.stdout, done.stderr)
