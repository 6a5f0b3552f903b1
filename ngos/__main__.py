"""`python -m ngos`, and what the command `ngos` runs. The border where exceptions become one line and an exit code.

Exit codes: 0 done; 1 it failed; 2 it was asked for wrongly; 70 the server ended by a defect of its own, which its log
has (EX_SOFTWARE of sysexits.h); 130 interrupted. A traceback is a defect of ngos.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import click

from ngos.cli import cli
from ngos.client.errors import CommandError
from ngos.errors import Defect, NgosError, SetupError
from ngos.protocol.codec import MessageError
from ngos.protocol.faults import ErrorCode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, `sys.argv` by default, and return its exit code."""
    try:
        code = cli.main(None if arguments is None else list(arguments), prog_name="ngos", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as exc:  # noqa: ASYNC103 - Trio is over here
        verdict = _verdict(list(_leaves(exc)))
        if verdict is None:
            raise
        code, line = verdict
        if line is not None:
            print(f"ngos: {' '.join(line.split())}", file=sys.stderr)  # noqa: T201
    return code if isinstance(code, int) else 0


def _verdict(leaves: list[BaseException]) -> tuple[int, str | None] | None:
    """Return the exit code and what to say, or None where a traceback is due."""
    if any(isinstance(leaf, KeyboardInterrupt | click.Abort) for leaf in leaves):
        return 130, None
    known = [(leaf, found) for leaf in leaves if (found := _known(leaf)) is not None]
    if len(known) < len(leaves):
        return None
    return known[0][1]


def _known(exc: BaseException) -> tuple[int, str | None] | None:
    match exc:
        case BrokenPipeError():
            # Who read our output has enough. What is still buffered would fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0, None
        case SetupError():
            return exc.exit_code, str(exc)
        case Defect():
            return os.EX_SOFTWARE, str(exc)
        case click.UsageError():
            command = exc.ctx.command_path if exc.ctx is not None else "ngos"
            return exc.exit_code, f"{exc.format_message()} ({command} --help tells more)"
        case click.ClickException():
            return exc.exit_code, exc.format_message()
        case CommandError() if exc.code == ErrorCode.UNAUTHENTICATED:
            return 1, f"{exc} (here: by --token, or by NGOS_TOKEN)"
        case NgosError():
            return 1, str(exc)
        case MessageError():
            return 1, f"the server's fault: {exc}"
        case SystemExit():
            return (exc.code if isinstance(exc.code, int) else 1), None
        case _:
            return None


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield what Trio's nurseries have wrapped."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc


if __name__ == "__main__":
    sys.exit(main())
