"""A small disk of its own for Postgres, that can be filled to the last byte.

Promises: mounted in a mount namespace of our own, so it is gone when we are, however we end, and nobody else sees
it. Where we may not mount, `may_mount` says so, and the fault is left out. Linux, and root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from chaos_parts.processes import ChaosError

DISK_MB = 640
OWN_MOUNTS = "NGOS_CHAOS_OWN_MOUNTS"
TOP_UP_EVERY_S = 0.02
PIECE_BYTES = 1024 * 1024
SMALLEST_BYTES = 512


def enter_own_mounts() -> None:
    """Start this program again in a mount namespace of its own, once, where we may; else return."""
    if os.environ.get(OWN_MOUNTS) or os.geteuid() != 0 or (unshare := shutil.which("unshare")) is None:
        return
    inside = [unshare, "--mount", "--propagation", "private", "--"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        return
    os.environ[OWN_MOUNTS] = "1"
    os.execv(unshare, [*inside, sys.executable, *sys.argv])


def may_mount() -> bool:
    """Whether we are in a mount namespace of our own."""
    return OWN_MOUNTS in os.environ


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A tmpfs on `directory`, for as long as the block. It takes memory only for what is written. Blocks."""
    directory.mkdir()
    options = f"size={DISK_MB}m,mode=0711"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "ngos-chaos", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChaosError(f"can't mount a small disk: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        # Lazily: somebody may still have a file open there.
        subprocess.run(["umount", "--lazy", str(directory)], capture_output=True, check=False)


async def keep_full(directory: Path, seconds: float) -> None:
    """Fill the disk and keep it full for so long, whatever Postgres gives back meanwhile; then free it."""
    ballast = directory / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, trio.move_on_after(seconds):
            while True:
                _fill(file.fileno())
                await trio.sleep(TOP_UP_EVERY_S)
    finally:
        ballast.unlink(missing_ok=True)


def _fill(fd: int) -> None:
    size = PIECE_BYTES
    while size >= SMALLEST_BYTES:
        try:
            os.posix_fallocate(fd, os.fstat(fd).st_size, size)
        except OSError:
            size //= 2
