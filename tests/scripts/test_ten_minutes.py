"""scripts/ten_minutes, all but the installation; and the README has its commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "ten_minutes"


def test_a_stranger_s_first_ten_minutes(tmp_path: Path) -> None:
    """Tries to start, use, look at and stop a server by what the README says, and stumble."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
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
