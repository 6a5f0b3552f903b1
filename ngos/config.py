"""Settings: frozen, checked once, filled from flags, then `NGOS_…` variables, then a TOML file.

Nobody else reads the environment. Imports only `ngos.errors`.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs
import typed_settings as ts
from attrs import field, frozen
from attrs.validators import ge, in_

KIB = 1024
MIB = 1024 * KIB




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
        converter=Path,
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
    allowed_origins: tuple[str, ...] = field(
        default=(), metadata={"help": "Origins that browsers may connect from; empty: not checked."}
    )
    message_bytes: int = field(
        default=64 * KIB, validator=ge(KIB), metadata={"help": "Largest message from a client, bytes; over it: 1009."}
    )
    subscriptions: int = field(default=128, validator=ge(1), metadata={"help": "Topics that one connection may follow."})
    in_flight: int = field(
        default=256, validator=ge(1), metadata={"help": "Unanswered commands of a connection; then it is not read."}
    )
    mailbox_bytes: int = field(
        default=MIB, validator=ge(64 * KIB), metadata={"help": "Bytes waiting for one client; over it: closed with 1013."}
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
    status_interval_s: float = field(
        default=5.0, validator=ge(0.1), metadata={"help": "Seconds between two system.status events."}
    )
    log_format: str = field(default="console", validator=in_(("console", "json")), metadata={"help": "console or json."})
    log_level: str = field(
        default="info",
        validator=in_(("debug", "info", "warning", "error")),
        metadata={"help": "Least severe level that is logged: debug, info, warning, error."},
    )
