"""What tests print of the log where nothing else is set up."""

from __future__ import annotations

import structlog


def log_plainly() -> None:
    """As structlog has it by default, but for tracebacks.

    Its own, with all local variables, take seconds on a busy machine, in which nothing else of the process runs.
    """
    structlog.reset_defaults()
    *before, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before, renderer])
