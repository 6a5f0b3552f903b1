"""The package as it is shipped."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_has_all_that_the_checkout_has(tmp_path: Path) -> None:
    """Tries to ship a package without the page, the migrations or a module that works in the checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        shipped = {name for name in wheel.namelist() if name.startswith("ngos/")}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ngos").rglob("*") if path.is_file()}
    assert shipped == {name for name in files if "__pycache__" not in name}
    assert "ngos/web/page/index.html" in shipped


def test_a_server_loads_what_it_needs() -> None:
    """Tries to have each start, and each worker's memory, pay for what only some servers need, or only clients."""
    program = "import sys, ngos.cli, ngos.daemon, ngos.workers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not {"coredis", "trio_websocket", "networkx", "opentelemetry"} & set(done.stdout.split())
