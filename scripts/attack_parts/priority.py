"""How urgent a process is to the kernel. Linux only."""

from __future__ import annotations

import os
from pathlib import Path


def lower_priority(nice: int) -> None:
    """Give way to others.

    Where the kernel schedules by session first (autogroup), a process's own nice value counts only within its own;
    there, the session's is set as well.
    """
    os.nice(nice)
    try:
        Path("/proc/self/autogroup").write_text(str(nice))
    except OSError:
        pass  # no such kernel, or no leave: then the process's own counts
