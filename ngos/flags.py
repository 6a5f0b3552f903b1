"""A flag for each setting, for the commands that take some of them. Imports only `ngos.config`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ngos.config import FIELDS
from ngos.loading import expected, flag, shown, variable

Command = Callable[..., Any]


def settings_flags(*names: str) -> Callable[[Command], Command]:
    """Add a flag for each setting, and --config. The command gets `given` (texts by field) and `config_file`.

    Options that it has already stay its own.
    """
    fields = names or tuple(FIELDS)

    def decorate(command: Command) -> Command:
        def collect(config_file: Path | None, **values: Any) -> Any:
            texts = {name: values.pop(name) for name in fields}
            given = {name: text for name, text in texts.items() if text is not None}
            return command(given=given, config_file=config_file, **values)

        collect.__name__ = command.__name__
        collect.__doc__ = command.__doc__
        collect.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
        wrapped: Command = collect
        for name in reversed(fields):
            wrapped = click.option(flag(name), name, metavar=_metavar(name), help=_help(name))(wrapped)
        return click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            help="TOML file with a table [ngos]; its keys are the settings' names. [env: NGOS_CONFIG]",
        )(wrapped)

    return decorate


def _metavar(name: str) -> str:
    if name.endswith("_s"):
        return "SECONDS"
    if name.endswith("_bytes"):
        return "BYTES"
    kind: Any = FIELDS[name].type
    return {int: "N", Path: "PATH", Path | None: "PATH", tuple[str, ...]: "A,B,…"}.get(kind, "TEXT")


def _help(name: str) -> str:
    default: Any = FIELDS[name].default
    text = shown(default.factory() if hasattr(default, "factory") else default)
    takes = expected(name)
    limits = f" Takes {takes}." if " " in takes and not takes.startswith("a path") else ""
    return f"{FIELDS[name].metadata['help']}{limits} [default: {text}; env: {variable(name)}]"
