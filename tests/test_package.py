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
