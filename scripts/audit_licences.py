"""LICENCES.md: what a server and its page depend on, and under which licences. `--fix` writes it; else it's checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "LICENCES.md"
ALLOWED: Final = (
    "MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "MPL-2.0", "Mozilla Public License 2.0",
    "PostgreSQL", "0BSD", "Unlicense", "LGPL", "Lesser General Public License",
)  # fmt: skip
"""Licences under which a program of any licence may use a library; LGPL because psycopg is imported, not copied."""
IN_THE_PAGE: Final = ("react", "react-dom", "scheduler")
HEAD: Final = """# Licences of what ngos depends on

ngos itself is under the MIT licence. `scripts/audit --fix` writes this list from what is locked; `scripts/audit` checks
that it is current, and that each licence is one that may be depended on. Tools for development are not in it.
"""


def main() -> int:
    """Exit code 0: the list is current and all may be used."""
    python, npm = python_packages(), npm_packages()
    rows = [f"| {name} | {licence} |" for name, licence in sorted(python.items(), key=lambda item: item[0].lower())]
    scripts = [f"| {name} | {licence} |" for name, licence in sorted(npm.items())]
    table = ["| package | licence |", "|---|---|"]
    text = "\n".join(
        [HEAD, "## Python", "", *table, *rows, "", "## The page and the TypeScript client", "", *table, *scripts, ""]
    )
    faults = [
        f"{name}: {licence}" for name, licence in (python | npm).items() if not any(a in licence for a in ALLOWED)
    ]
    if "--fix" in sys.argv:
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        faults.append("LICENCES.md is not current: scripts/audit --fix")
    for fault in faults:
        print(f"licences: {fault}", file=sys.stderr)
    return 1 if faults else 0


def python_packages() -> dict[str, str]:
    """What `ngos` with all its extras installs."""
    command = [".venv/bin/uv", "export", "-q", "--frozen", "--all-extras", "--no-default-groups", "--no-emit-project",
               "--no-header", "--no-hashes"]  # fmt: skip
    exported = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = {normal(found) for found in re.findall(r"^([A-Za-z0-9._-]+)==", exported, re.MULTILINE)}
    command = [".venv/bin/pip-licenses", "--format=json", "--from=mixed", "--python=.venv/bin/python"]
    installed = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    return {row["Name"]: " ".join(row["License"].split()) for row in installed if normal(row["Name"]) in wanted}


def npm_packages() -> dict[str, str]:
    """What is built into the page; the client by itself has nothing but React, and that only for who uses it."""
    packages = json.loads((ROOT / "clients/package-lock.json").read_text("utf-8"))["packages"]
    return {name: packages[f"node_modules/{name}"]["license"] for name in IN_THE_PAGE}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
