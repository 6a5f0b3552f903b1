"""Settings: frozen, checked once, filled from flags, then `NGOS_…` variables, then a TOML file.

Nobody else reads the environment, except for NGOS_URL, which is the clients' (`ngos.cli`). Floor 1: imports only
`ngos.errors` and `ngos.setting_types`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import platformdirs
import typed_settings as ts
from attrs import field, frozen
from attrs.validators import ge, in_
from typed_settings.loaders import DictLoader

from ngos.errors import SetupError
from ngos.setting_types import KINDS, SECRETS, make_converter

KIB = 1024
MIB = 1024 * KIB
DAY_S = 24 * 60 * 60


def _expanded(path: str | Path) -> Path:
    return Path(path).expanduser()


@frozen(kw_only=True)
class Settings:
    """Everything that an operator can set. Field `x_y` is the variable `NGOS_X_Y` and the flag `--x-y`."""

    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on."})
    port: int = field(default=8000, validator=[ge(0), in_(range(65536))], metadata={"help": "TCP port; 0: any free."})
    database_url: ts.SecretStr | None = field(
        default=None,
        metadata={"help": "Postgres 14 to 18, as postgresql://…; without it the server runs its own in the data dir."},
    )
    data_dir: Path = field(
        factory=lambda: Path(platformdirs.user_data_dir("ngos")),
        converter=_expanded,
        metadata={"help": "Where the embedded Postgres keeps everything."},
    )
    database_pool_size: int = field(default=8, validator=ge(2), metadata={"help": "Connections to Postgres, at most."})
    database_connect_s: float = field(
        default=5.0, validator=ge(0.001), metadata={"help": "Seconds to reach Postgres before it counts as down."}
    )
    database_query_s: float = field(
        default=5.0,
        validator=ge(0.001),
        metadata={"help": "Seconds for the database part of a command; then the client gets `unavailable`."},
    )
    durable_topics: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Patterns (with * and ?) of custom topics whose events are logged and can be resumed."},
    )
    retention_age_s: float = field(
        default=7 * DAY_S, validator=ge(1), metadata={"help": "Seconds that an event stays in the log, about."}
    )
    retention_events: int = field(
        default=10_000_000, validator=ge(1), metadata={"help": "Events of one topic that stay in the log, about."}
    )
    retention_replies_s: float = field(
        default=DAY_S,
        validator=ge(DAY_S),
        metadata={"help": "Seconds for which a command that is sent again gets the reply that it had."},
    )
    allowed_origins: tuple[str, ...] = field(
        default=(), metadata={"help": "Origins that browsers may connect from; empty: not checked."}
    )
    message_bytes: int = field(
        default=64 * KIB, validator=ge(KIB), metadata={"help": "Largest message from a client, bytes; over it: 1009."}
    )
    subscriptions: int = field(
        default=128, validator=ge(1), metadata={"help": "Topics that one connection may follow."}
    )
    in_flight: int = field(
        default=256, validator=ge(1), metadata={"help": "Unanswered commands of a connection; then it is not read."}
    )
    mailbox_bytes: int = field(
        default=MIB,
        validator=ge(256 * KIB),
        metadata={"help": "Bytes waiting for one client; over it: closed with 1013."},
    )
    mailbox_total_bytes: int = field(
        default=256 * MIB,
        validator=ge(MIB),
        metadata={"help": "Bytes waiting for all clients; over it: those with the most are closed with 1013."},
    )
    mailbox_age_s: float = field(
        default=10.0, validator=ge(0.001), metadata={"help": "Seconds that a byte may wait for a client; then 1013."}
    )
    heartbeat_interval_s: float = field(
        default=25.0, validator=ge(0.001), metadata={"help": "Seconds of silence before the server sends a Ping."}
    )
    heartbeat_timeout_s: float = field(
        default=10.0, validator=ge(0.001), metadata={"help": "Seconds to answer it; then closed with 4408."}
    )
    close_s: float = field(
        default=2.0, validator=ge(0.001), metadata={"help": "Seconds that saying goodbye to one client may take."}
    )
    drain_s: float = field(
        default=10.0, validator=ge(0), metadata={"help": "Seconds that a gentle stop may take before clients are cut."}
    )
    compression: bool = field(
        default=False, metadata={"help": "Whether to agree to permessage-deflate: less traffic, more CPU."}
    )
    status_interval_s: float = field(
        default=5.0, validator=ge(0.1), metadata={"help": "Seconds between two system.status events."}
    )
    log_format: str = field(
        default="console", validator=in_(("console", "json")), metadata={"help": "console or json."}
    )
    log_level: str = field(
        default="info",
        validator=in_(("debug", "info", "warning", "error")),
        metadata={"help": "Least severe level that is logged: debug, info, warning, error."},
    )


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

    faults = [f"{sources[name]}: {fault}" for name in values if (fault := _fault(name, values[name]))]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise SetupError(faults[0] + more, exit_code=2)
    return Loaded(ts.load_settings(Settings, [DictLoader(values)], converter=_converter), sources)


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
    if bounds := _find(attribute.validator, "bound"):
        return f"{kind}, at least {max(bounds):g}"
    return kind


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
    try:
        converted = _converter.structure(value, attribute.type)
        if attribute.validator is not None:
            attribute.validator(None, attribute, converted)
    except (ValueError, TypeError):
        secret = attribute.type in SECRETS
        return f"must be {expected(name)}" + ("" if secret else f", not {value!r}")
    return None


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


attrs.resolve_types(Settings)
FIELDS: Final[dict[str, attrs.Attribute[Any]]] = attrs.fields_dict(Settings)
_converter = make_converter()
