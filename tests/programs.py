"""Programs of the machine that tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def needed(program: str) -> str:
    """Where a program is. Without it the test is skipped, loudly; under CI it fails."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not on this machine"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(f"LOUD: {reason}")
    return found
