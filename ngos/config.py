"""Settings: all that an operator can set, frozen; `ngos.loading` fills them. Floor 1: imports nothing of ngos."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import attrs
import platformdirs
import typed_settings as ts
from attrs import field, frozen
from attrs.validators import and_, ge, in_, le

KIB = 1024
MIB = 1024 * KIB
DAY_S = 24 * 60 * 60
LONG_S = 1_000_000_000
"""31 years: longer times are no dates, nor numbers that Postgres takes."""


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:  # ~somebody, who is not here
        raise ValueError(str(exc)) from exc


def _expanded_if_set(path: str | Path | None) -> Path | None:
    return None if path is None else _expanded(path)


def _networks(_settings: object, _field: object, values: tuple[str, ...]) -> None:
    for value in values:
        ip_network(value)


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
        default=5.0,
        validator=and_(ge(0.001), le(float(DAY_S))),
        metadata={"help": "Seconds to reach Postgres before it counts as down."},
    )
    database_query_s: float = field(
        default=5.0,
        validator=and_(ge(0.001), le(float(DAY_S))),
        metadata={"help": "Seconds for the database part of a command; then the client gets `unavailable`."},
    )
    redis_url: ts.SecretStr | None = field(
        default=None,
        metadata={
            "help": "Redis, as redis://, rediss://, redis+sentinel:// or redis+cluster://…, for the cache that nodes "
            "share and for --backplane redis; never needed for what was committed."
        },
    )
    backplane: str = field(
        default="none",
        validator=in_(("none", "postgres", "redis")),
        metadata={
            "help": "How nodes on one database tell each other what happened. none: there is one node, and a second "
            "one is refused. postgres: LISTEN and NOTIFY. redis: publish and subscribe, at --redis-url."
        },
    )
    workers: int = field(
        default=1,
        validator=in_(range(1, 257)),
        metadata={
            "help": "Processes that share the port, each a node; with more than one, backplane none means postgres. "
            "Limits by address, subject or connection are each one's own."
        },
    )
    cache_bytes: int = field(
        default=32 * MIB,
        validator=ge(0),
        metadata={"help": "Memory for answers that cost the database much to find; 0: none is kept."},
    )
    cache_age_s: float = field(
        default=300.0,
        validator=and_(ge(0.001), le(float(DAY_S))),
        metadata={"help": "Seconds that such an answer is kept, at most; in Redis too, where there is one."},
    )
    durable_topics: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Patterns (with * and ?) of custom topics whose events are logged and can be resumed."},
    )
    retention_age_s: float = field(
        default=7 * DAY_S,
        validator=and_(ge(1), le(LONG_S)),
        metadata={"help": "Seconds that an event stays in the log, about."},
    )
    retention_events: int = field(
        default=10_000_000, validator=ge(1), metadata={"help": "Events of one topic that stay in the log, about."}
    )
    retention_replies_s: float = field(
        default=DAY_S,
        validator=and_(ge(DAY_S), le(LONG_S)),
        metadata={"help": "Seconds for which a command that is sent again gets the reply that it had."},
    )
    allow_anonymous: bool = field(
        default=False,
        metadata={"help": "Whether to listen beyond the loopback with --auth-mode none: who reaches it may do all."},
    )
    auth_mode: str = field(
        default="none",
        validator=in_(("none", "jwt")),
        metadata={"help": "none: who can connect may do all. jwt: a token says who may do what; no token, nothing."},
    )
    auth_secret_file: Path | None = field(
        default=None,
        converter=_expanded_if_set,
        metadata={"help": "File with the secret of HS256, for few programs that trust each other; mode 600."},
    )
    auth_keys_file: Path | None = field(
        default=None,
        converter=_expanded_if_set,
        metadata={"help": "File with public keys, PEM or JWKS, of RS256, ES256 and EdDSA."},
    )
    auth_jwks_url: str | None = field(
        default=None, metadata={"help": "Where the issuer publishes such keys; needs an issuer and an audience."}
    )
    auth_algorithms: tuple[str, ...] = field(
        default=(), metadata={"help": "Algorithms that tokens may be signed by; empty: all that fit the keys."}
    )
    auth_issuer: str | None = field(default=None, metadata={"help": "What a token's `iss` must be."})
    auth_audience: str | None = field(default=None, metadata={"help": "What a token's `aud` must have in it."})
    auth_claim: str = field(default="ngos", metadata={"help": "The claim that holds what a token's bearer may do."})
    auth_leeway_s: float = field(
        default=5.0,
        validator=and_(ge(0), le(300)),
        metadata={"help": "Seconds that the issuer's clock and ours may be apart."},
    )
    auth_timeout_s: float = field(
        default=10.0, validator=ge(0.001), metadata={"help": "Seconds to authenticate in; then closed with 4401."}
    )
    auth_jwks_age_s: float = field(
        default=900.0, validator=ge(1), metadata={"help": "Seconds that keys from the URL are good for."}
    )
    auth_jwks_timeout_s: float = field(
        default=5.0, validator=ge(0.001), metadata={"help": "Seconds that fetching them may take."}
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "Origins that browsers may connect from, beside our own page; *: any. "
            "Without a list also pages of this machine, where the server is reached by a name of this machine."
        },
    )
    proxies: tuple[str, ...] = field(
        default=(),
        validator=_networks,
        metadata={
            "help": "Addresses of reverse proxies, whose X-Forwarded-For says who the client is.",
            "takes": "addresses and networks, as 10.0.0.0/8, separated by commas",
        },
    )
    message_bytes: int = field(
        default=64 * KIB, validator=ge(KIB), metadata={"help": "Largest message from a client, bytes; over it: 1009."}
    )
    message_depth: int = field(
        default=32,
        validator=in_(range(4, 65)),
        metadata={"help": "Objects and lists within each other in a message; over it: invalid_json."},
    )
    subscriptions: int = field(
        default=128, validator=ge(1), metadata={"help": "Topics that one connection may follow."}
    )
    custom_topics: int = field(
        default=128,
        validator=ge(1),
        metadata={"help": "Custom topics that one connection may follow, and durable ones that it may publish to."},
    )
    durable_topic_names: int = field(
        default=10_000, validator=ge(1), metadata={"help": "Durable topics that the log keeps, at most."}
    )
    in_flight: int = field(
        default=256, validator=ge(1), metadata={"help": "Unanswered commands of a connection; then it is not read."}
    )
    connections: int = field(
        default=10_000, validator=ge(1), metadata={"help": "WebSockets in all; over it: 503, come back later."}
    )
    connections_per_address: int = field(
        default=2_500,
        validator=ge(1),
        metadata={"help": "Connections from one address (IPv6: one /64); over it: 429."},
    )
    connections_per_subject: int = field(
        default=1_000, validator=ge(1), metadata={"help": "WebSockets of one authenticated subject; over it: 429."}
    )
    arrivals_per_s: float = field(
        default=100.0,
        validator=ge(0.1),
        metadata={
            "help": "Connections and HTTP requests that one address may begin in a second, on average; else 429."
        },
    )
    arrivals_at_once: int = field(
        default=1_000,
        validator=ge(1),
        metadata={"help": "The same at once, as when all of an address come back after a restart."},
    )
    commands_per_s: float = field(
        default=2_000.0,
        validator=ge(0.1),
        metadata={"help": "Commands of one connection in a second, on average; else rate_limited, and then 4429."},
    )
    bytes_per_s: float = field(default=4.0 * MIB, validator=ge(1), metadata={"help": "The same in bytes of messages."})
    subject_commands_per_s: float = field(
        default=4_000.0,
        validator=ge(0.1),
        metadata={"help": "Commands of one authenticated subject, over all its connections; else rate_limited."},
    )
    subject_bytes_per_s: float = field(
        default=8.0 * MIB, validator=ge(1), metadata={"help": "The same in bytes of messages."}
    )
    burst_s: float = field(
        default=5.0, validator=ge(0.1), metadata={"help": "Seconds' worth of those that may come at once."}
    )
    over_limit_s: float = field(
        default=10.0, validator=ge(0.1), metadata={"help": "Seconds of sending more than that; then 4429."}
    )
    handshake_s: float = field(
        default=5.0, validator=ge(0.1), metadata={"help": "Seconds to send a request's headers in; then cut."}
    )
    header_bytes: int = field(
        default=16 * KIB, validator=in_(range(KIB, MIB + 1)), metadata={"help": "A request's headers; over it: 431."}
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
        default=10.0,
        validator=and_(ge(0.001), le(float(DAY_S))),
        metadata={"help": "Seconds that a byte may wait for a client; then 1013."},
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
    traces_url: str | None = field(
        default=None,
        metadata={"help": "Where traces go, by OTLP over HTTP, as http://127.0.0.1:4318/v1/traces; none: nowhere."},
    )
    traces_share: float = field(
        default=0.01,
        validator=and_(ge(0), le(1)),
        metadata={"help": "Share of the commands that are traced, where their sender has not decided that."},
    )
    log_format: str = field(
        default="console", validator=in_(("console", "json")), metadata={"help": "console or json."}
    )
    log_level: str = field(
        default="info",
        validator=in_(("debug", "info", "warning", "error")),
        metadata={"help": "Least severe level that is logged: debug, info, warning, error."},
    )


attrs.resolve_types(Settings)
FIELDS: Final[dict[str, attrs.Attribute[Any]]] = attrs.fields_dict(Settings)

RESTART: Final = frozenset(
    {
        *("host", "port", "database_url", "data_dir", "database_pool_size", "database_connect_s", "database_query_s"),
        *(
            "redis_url",
            "backplane",
            "workers",
            "cache_bytes",
            "cache_age_s",
            "allow_anonymous",
            "auth_mode",
            "auth_jwks_url",
            "auth_jwks_age_s",
            "auth_jwks_timeout_s",
        ),
        *("proxies", "compression", "log_format", "traces_url", "traces_share"),
    }
)
"""Settings that are the same from start to end; SIGHUP changes all others."""
