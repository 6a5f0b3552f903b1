"""What a check says. A check is a function of the settings; what it can't help raising becomes a finding, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Final, TypeVar, TypeVarTuple

import trio
from attrs import frozen

from ngos.config import Settings
from ngos.errors import NgosError
from ngos.incidents import report

P = TypeVarTuple("P")
T = TypeVar("T")

CHECK_S: Final = 10.0
"""What one check may take; what it asks has shorter deadlines of its own."""


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@frozen
class Finding:
    """One line: what was looked at, how it is, and, where that is not `ok`, what to do."""

    about: str
    state: State
    text: str
    advice: str = ""


Check = Callable[[Settings], Awaitable[list[Finding]]]
"""Looks at something; raises NgosError, whose text says what to do, or anything else: then it is a defect of ours."""


def ok(about: str, text: str) -> Finding:
    return Finding(about, State.OK, text)


def warning(about: str, text: str, advice: str) -> Finding:
    return Finding(about, State.WARNING, text, advice)


def problem(about: str, text: str, advice: str = "") -> Finding:
    return Finding(about, State.PROBLEM, text, advice)


async def aside(ask: Callable[[*P], T], *args: *P) -> T:
    """Call what may wait for a name server or a file system, in a thread; cancelled, it is left there."""
    return await trio.to_thread.run_sync(ask, *args, abandon_on_cancel=True)


async def run(checks: Iterable[tuple[str, Check]], settings: Settings) -> list[Finding]:
    """Run checks, in order; `about` is what each is called where it can't say so itself."""
    found: list[Finding] = []
    for about, check in checks:
        try:
            with trio.fail_after(CHECK_S):
                found += await check(settings)
        except trio.TooSlowError:
            found.append(problem(about, f"no answer within {CHECK_S:g} s", "look at what it needs: it hangs"))
        except NgosError as exc:
            found.append(problem(about, str(exc)))
        except Exception as exc:
            incident_id = report("doctor.defect", exc, check=about)
            found.append(problem(about, "the check itself failed", f"a defect of ngos: incident {incident_id}"))
    return found
