"""Redis on Trio, by coredis: a single server, Sentinel or Cluster, by one address. Floor 3: imports `ngos.errors`.

Nothing that was committed depends on it. Whatever Redis, coredis and the way to it raise becomes RedisUnavailable.
coredis is loaded by the first address that is read, before the server runs: it takes a third of a second.
"""

from __future__ import annotations

import secrets
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from ngos.errors import RedisUnavailable, SetupError

_MISREAD: Final = (LookupError, TypeError, ValueError)
"""What coredis makes of an answer that is none: it reads what it expects, by index, key and type."""
_BENEATH: Final = sys.stdlib_module_names | {"anyio", "trio", "outcome"}
"""What raises such, too, if it is called wrongly: then it is the caller's."""

Client = Any
"""coredis.Redis or coredis.RedisCluster, whose answers are bytes."""

CONNECT_S: Final = 2.0
CONNECTIONS: Final = 8
"""To one server, at most."""
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_FORMS: Final = (
    "redis://[user:password@]host[:port][/db], redis+sentinel://host[,host…]/service[/db], "
    "redis+cluster://host[,host…]; rediss… for TLS; unix:///path"
)


@attrs.frozen
class Address:
    """Where Redis is. `kind`: `redis`, `redis+sentinel`, `redis+cluster` or `unix`. Printed, it shows no password.

    `hosts` are names and ports; `path` is that of a Unix socket. `service` is the one that Sentinels know by name.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    is_tls: bool = False
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)


def parse(url: str) -> Address:
    """Read an address. Raises SetupError, the operator's fault, which tells nothing of the address itself."""
    try:
        import coredis  # noqa: F401
    except ImportError:
        raise SetupError("Redis is asked for, and its client is not installed: pip install 'ngos[redis]'") from None
    try:
        return _address(urlsplit(url))
    except ValueError:
        raise SetupError(f"the address of Redis is none of {_FORMS}", exit_code=2) from None


def _address(parts: SplitResult) -> Address:
    if parts.query or parts.fragment:
        raise ValueError("more than an address")
    is_tls = parts.scheme.startswith("rediss")
    kind = parts.scheme.replace("rediss", "redis", 1)
    account, _, names = parts.netloc.rpartition("@")
    username, _, password = account.partition(":")
    given: dict[str, Any] = {"username": unquote(username) or None, "password": unquote(password) or None}
    if kind == "unix" and parts.path and not names:
        return Address(kind, path=parts.path, **given)
    hosts = tuple(_host(name, SENTINEL_PORT if kind == "redis+sentinel" else REDIS_PORT) for name in names.split(","))
    match kind, [part for part in parts.path.split("/") if part]:
        case "redis", path if len(path) <= 1 and len(hosts) == 1:
            return Address(kind, hosts, db=int("".join(path) or 0), is_tls=is_tls, **given)
        case "redis+sentinel", [service, *path] if len(path) <= 1:
            return Address(kind, hosts, service=service, db=int("".join(path) or 0), is_tls=is_tls, **given)
        case "redis+cluster", []:
            return Address(kind, hosts, is_tls=is_tls, **given)
    raise ValueError(kind)


def _host(name: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{name}")
    if not parts.hostname:
        raise ValueError(name)
    return parts.hostname, parts.port or default_port


@asynccontextmanager
async def open_redis(address: Address) -> AsyncIterator[Client]:
    """A client for the length of the block. It tries nothing twice, and waits: deadlines are the caller's.

    Raises RedisUnavailable, for what it does itself and for what the block does with it. Cancellation closes its
    connections.
    """
    import coredis
    from coredis.connection import TCPLocation
    from coredis.retry import NoRetryPolicy

    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "ssl_context": ssl.create_default_context() if address.is_tls else None,
        "connect_timeout": CONNECT_S,
        "max_connections": CONNECTIONS,
        "retry_policy": NoRetryPolicy(),
    }
    locations = [TCPLocation(host, port) for host, port in address.hosts]
    client: Client
    with errors():
        match address.kind:
            case "redis+cluster":
                client = coredis.RedisCluster(startup_nodes=locations, **options)
                async with client:
                    yield client
            case "redis+sentinel":
                # Sentinels are asked without the account, which is the servers' that they watch.
                sentinels = coredis.Sentinel(locations, sentinel_kwargs={"connect_timeout": CONNECT_S}, **options)
                async with sentinels, sentinels.primary_for(address.service, db=address.db) as client:
                    yield client
            case _:
                host, port = address.hosts[0] if address.hosts else (None, None)
                client = coredis.Redis(host, port, address.db, unix_socket_path=address.path or None, **options)
                async with client:
                    yield client


@asynccontextmanager
async def open_publisher(client: Client) -> AsyncIterator[Client]:
    """What to PUBLISH by, in an order that is kept: of a Cluster one member, where coredis takes another each time.

    Two members hand on what they were told on ways of their own, and what came first may be overtaken. All members have
    it in the end. Raises RedisUnavailable as `open_redis`, in whose block this belongs, when that member is gone.
    """
    import coredis

    if not isinstance(client, coredis.RedisCluster):
        yield client
        return
    async with secrets.choice(list(client.primaries)) as member:
        member.retry_policy = client.retry_policy  # coredis makes it with one of its own, which tries thrice
        yield member


@contextmanager
def errors() -> Iterator[None]:
    """Have what Redis, coredis and the way to it raise in this block be one exception, RedisUnavailable.

    What coredis makes of an answer that is none comes as TypeError and the like; where the block itself raises that, it
    is a defect, and leaves as such. coredis runs its connections in task groups, so it may come in a group, and so may
    a RedisUnavailable of the block's own; what else is in that, and be it Cancelled, is what leaves then.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        redis, rest = group.split(lambda exc: isinstance(exc, RedisUnavailable) or _is_of_redis(exc))
        if redis is None:
            raise
        if rest is not None:  # cancelled, coredis fails beside that, for what it closes twice
            raise rest from None
        raise RedisUnavailable(_one_line(redis)) from group
    except Exception as exc:
        if not _is_of_redis(exc):
            raise
        raise RedisUnavailable(_one_line(exc)) from exc


@cache
def _redis_errors() -> tuple[type[Exception], ...]:
    import anyio
    from coredis.exceptions import RedisError

    lost = anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream
    return RedisError, OSError, TimeoutError, *lost


def _is_of_redis(exc: BaseException) -> bool:
    """Whether Redis, coredis or the way to it is to blame."""
    if isinstance(exc, _redis_errors()):
        return True
    if not isinstance(exc, _MISREAD):
        return False
    packages = [
        frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in traceback.walk_tb(exc.__traceback__)
    ]
    return [package for package in packages if package not in _BENEATH][-1:] == ["coredis"]


def _one_line(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    if isinstance(exc, RedisUnavailable):
        return str(exc)
    return f"{type(exc).__name__}: {' '.join(str(exc).split())[:200]}"
