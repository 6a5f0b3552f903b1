"""Tokens for a server that asks who somebody is: made by `ngos token`, as an operator makes them. Runs on Trio."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio
from chaos_parts.processes import ROOT, ChaosError
from chaos_parts.server import clean_environment

AT_ONCE = 4
LIFETIME_S = 3600


@attrs.frozen
class Tokens:
    """The server's flags, a file with the honest ones' tokens, a line each, and one with the attackers' single one."""

    flags: Sequence[str]
    honest: Path
    attackers: Path


async def make_tokens(directory: Path, honest: int) -> Tokens:
    """A secret, and a token for each honest client and one for all attackers. Raises ChaosError: there is no such
    command yet, or it does something else.
    """
    secret = directory / "secret"
    if (await _ngos("token", "--help")).returncode != 0:
        raise ChaosError("--jwt needs `ngos token`, which this ngos does not have")
    done = await _ngos("token", "secret", str(secret))
    if done.returncode != 0:
        raise ChaosError(f"ngos token secret: {done.stdout.decode(errors='replace').strip()}")
    issued: dict[str, str] = {}
    limiter = trio.CapacityLimiter(AT_ONCE)
    subjects = [*(f"honest-{number}" for number in range(honest)), "attacker"]
    async with trio.open_nursery() as nursery:
        for subject in subjects:
            nursery.start_soon(_issue, subject, secret, issued, limiter)
    tokens = Tokens(
        ("--auth-mode", "jwt", "--auth-secret-file", str(secret)), directory / "honest.tokens", directory / "token"
    )
    tokens.honest.write_text("\n".join(issued[subject] for subject in subjects[:-1]))
    tokens.attackers.write_text(issued["attacker"])
    return tokens


async def _issue(subject: str, secret: Path, issued: dict[str, str], limiter: trio.CapacityLimiter) -> None:
    may = ("--read", "--write", "--subscribe", "*", "--publish", "*")
    async with limiter:
        done = await _ngos(
            *("token", "issue", subject, *may), *("--secret-file", str(secret), "--lifetime-s", str(LIFETIME_S))
        )
    if done.returncode != 0:
        raise ChaosError(f"ngos token issue: {done.stdout.decode(errors='replace').strip()}")
    issued[subject] = done.stdout.decode().split()[-1]


async def _ngos(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        [sys.executable, "-m", "ngos", *arguments],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
        cwd=ROOT,
        env=clean_environment(),
    )
