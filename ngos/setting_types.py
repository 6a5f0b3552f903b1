"""What the text of a flag or a variable, or a TOML value, means as a setting. Strict: nothing is cut or coerced.

Floor 1: imports nothing of ngos.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import typed_settings as ts

SECRETS: Final = (ts.SecretStr, ts.SecretStr | None)
"""Types whose values are never shown."""
KINDS: Final[dict[Any, str]] = {
    int: "an integer",
    float: "a number",
    Path: "a path",
    Path | None: "a path",
    tuple[str, ...]: "a list of texts, separated by commas",
    bool: "true or false",
}
"""A type in words; all others are text."""


def _to_int(value: Any, _: object) -> int:
    if type(value) is str:
        return int(value)
    if type(value) is not int:
        raise TypeError(value)
    return value


def _to_float(value: Any, _: object) -> float:
    if type(value) not in (int, float, str):
        raise TypeError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _to_bool(value: Any, _: object) -> bool:
    if type(value) is bool:
        return value
    if value not in ("true", "false"):
        raise TypeError(value)
    return bool(value == "true")


def _to_text(value: Any, kind: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError(value)
    return kind(value)


def _to_optional_secret(value: Any, _: object) -> ts.SecretStr | None:
    # An empty variable is how service files and compose files say "none".
    return None if value is None or value == "" else ts.SecretStr(_to_text(value, str))


def _to_optional_text(value: Any, _: object) -> str | None:
    return None if value is None or value == "" else _to_text(value, str)


def _to_optional_path(value: Any, _: object) -> Path | None:
    return None if value is None or value == "" else _to_path(value, None)


def _to_path(value: Any, _: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise TypeError(value)
    return Path(value)


def _to_texts(value: Any, _: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part for text in value.split(",") if (part := text.strip()))
    if not isinstance(value, list | tuple):
        raise TypeError(value)
    return tuple(_to_text(item, str) for item in value)


def make_converter() -> Any:
    """Return a converter of the library's, with hooks that raise ValueError or TypeError for what is not the type."""
    converter: Any = ts.converters.get_default_cattrs_converter()
    converter.register_structure_hook(int, _to_int)
    converter.register_structure_hook(float, _to_float)
    converter.register_structure_hook(bool, _to_bool)
    converter.register_structure_hook(str, _to_text)
    converter.register_structure_hook(Path, _to_path)
    for kind, hook in (
        (ts.SecretStr | None, _to_optional_secret),
        (str | None, _to_optional_text),
        (Path | None, _to_optional_path),
        (tuple[str, ...], _to_texts),
    ):
        converter.register_structure_hook_func(lambda type_, kind=kind: type_ == kind, hook)
    return converter
