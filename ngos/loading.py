"""How the settings are filled: flags, then `NGOS_…` variables, then a TOML file. Says what is wrong in one line.

Nobody else reads the environment, except for NGOS_URL and NGOS_TOKEN, which are the clients' (`ngos.cli`). Imports only
`ngos.config`, `ngos.errors` and `ngos.setting_types`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import typed_settings as ts
from attrs import frozen
from typed_settings.loaders import DictLoader

from ngos.config import FIELDS, Settings
from ngos.errors import SetupError
from ngos.setting_types import KINDS, SECRETS, make_converter

PREFIX: Final = "NGOS_"
CONFIG_VARIABLE: Final = "NGOS_CONFIG"
TABLE: Final = "ngos"


@frozen
class Loaded:
    """Settings, and for each field where its value came from: `default`, or the flag, variable or file."""

    settings: Settings
    sources: dict[str, str]


def load_settings(overrides: Mapping[str, object], config_file: Path | None) -> Settings:
    """Return what is in force: `overrides` (the flags, by field name), then the environment, then the TOML file.

    `config_file` goes before the variable NGOS_CONFIG; without both there is none. Texts are read as the field's
    type; lists of texts are split at commas. Raises SetupError, the operator's fault, with exit code 2: one line
    that names the flag, variable or key, and what would be right.
    """
    return load(overrides, config_file).settings


def load(overrides: Mapping[str, object], config_file: Path | None) -> Loaded:
    """Do as `load_settings`, and tell where each value came from."""
    values, sources = _gather(overrides, config_file)
    if faults := _faults(values, sources):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise SetupError(faults[0] + more, exit_code=2)
    settings = ts.load_settings(Settings, [DictLoader(values)], converter=_converter)
    if settings.workers > 1 and settings.backplane == "none":  # workers are nodes, which have to hear of each other
        settings = attrs.evolve(settings, backplane="postgres")
        sources["backplane"] = sources["workers"]
    return Loaded(settings, sources)


def faults(overrides: Mapping[str, object], config_file: Path | None) -> list[str]:
    """Return a line for each value that is wrong; none: `load` will do.

    Raises SetupError for a file that can't be read.
    """
    return _faults(*_gather(overrides, config_file))


def _faults(values: Mapping[str, object], sources: Mapping[str, str]) -> list[str]:
    return [f"{sources[name]}: {fault}" for name in values if (fault := _fault(name, values[name]))]


def _gather(overrides: Mapping[str, object], config_file: Path | None) -> tuple[dict[str, object], dict[str, str]]:
    """The values that are given, by field, and the source of every field."""
    values: dict[str, object] = {}
    sources = dict.fromkeys(FIELDS, "default")

    def lay(name: str, value: object, source: str) -> None:
        values[name] = value
        sources[name] = source

    path = config_file if config_file is not None else _path_from_environment()
    if path is not None:
        for name, value in _read_file(path).items():
            lay(name, value, f"{path}: {name}")
    for name in FIELDS:
        if (text := os.environ.get(variable(name))) is not None:
            lay(name, text, variable(name))
    for name, value in overrides.items():
        lay(name, value, flag(name))
    return values, sources


def variable(name: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + name.upper()


def flag(name: str) -> str:
    """Return the command line flag of a field."""
    return "--" + name.replace("_", "-")


def expected(name: str) -> str:
    """Say in a few words what a field takes, as in `an integer from 0 to 65535`."""
    attribute = FIELDS[name]
    kind = KINDS.get(attribute.type, "text")
    if options := _find(attribute.validator, "options"):
        values = options[0]
        if isinstance(values, range):
            return f"{kind} from {values[0]} to {values[-1]}"
        return "one of " + ", ".join(map(str, values))
    if takes := attribute.metadata.get("takes"):
        return str(takes)
    least = [bound for bound, is_least in _bounds(attribute.validator) if is_least]
    most = [bound for bound, is_least in _bounds(attribute.validator) if not is_least]
    if least and most:
        return f"{kind} from {max(least):g} to {min(most):g}"
    return f"{kind}, at least {max(least):g}" if least else kind


def shown(value: object) -> str:
    """Write a setting's value for people: secrets masked, lists as one gives them."""
    if value is None:
        return "none"
    if isinstance(value, ts.SecretStr):
        return "*****"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value)


def _fault(name: str, value: object) -> str | None:
    """What is wrong with one value, or None; the value itself is told only if it is not a secret."""
    attribute = FIELDS[name]
    convert: Any = attribute.converter
    try:
        converted = _converter.structure(value, attribute.type)
        if convert is not None:
            converted = convert(converted)
        if attribute.validator is not None:
            attribute.validator(None, attribute, converted)
    except (ValueError, TypeError):
        secret = attribute.type in SECRETS
        return f"must be {expected(name)}" + ("" if secret else f", not {value!r}")
    return None


def _bounds(validator: Any) -> Iterator[tuple[float, bool]]:
    """The bounds of a validator of attrs and of those that it joins, and whether each is the least."""
    if hasattr(validator, "bound"):
        yield validator.bound, validator.compare_op == ">="
    for inner in getattr(validator, "_validators", ()):
        yield from _bounds(inner)


def _find(validator: Any, what: str) -> list[Any]:
    """Collect an attribute of a validator of attrs and of those that it joins."""
    found = [getattr(validator, what)] if hasattr(validator, what) else []
    for inner in getattr(validator, "_validators", ()):
        found += _find(inner, what)
    return found


def _path_from_environment() -> Path | None:
    text = os.environ.get(CONFIG_VARIABLE)
    return Path(text) if text else None


def _read_file(path: Path) -> dict[str, object]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror or exc}", exit_code=2) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SetupError(f"{path}: not TOML: {exc}", exit_code=2) from exc
    for key in content:
        if key != TABLE:
            raise SetupError(f"{path}: {key}: unknown; settings go into the table [{TABLE}]", exit_code=2)
    table = content.get(TABLE, {})
    if not isinstance(table, dict):
        raise SetupError(f"{path}: {TABLE}: must be a table, [{TABLE}]", exit_code=2)
    for key in table:
        if key not in FIELDS:
            close = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SetupError(f"{path}: {key}: no such setting{hint}", exit_code=2)
    return table


_converter = make_converter()
