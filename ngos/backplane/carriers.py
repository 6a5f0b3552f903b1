"""Which backplane the settings ask for."""

from __future__ import annotations

from ngos.backplane.line import Carrier
from ngos.backplane.postgres import PostgresCarrier
from ngos.backplane.redis import RedisCarrier
from ngos.config import Settings
from ngos.errors import SetupError
from ngos.postgres.pool import Configure
from ngos.redis import parse


def carrier_of(settings: Settings, conninfo: str, configure: Configure) -> Carrier | None:
    """What carries messages to the other nodes; None: there are none. `conninfo` is that of the database.

    Raises SetupError, the operator's fault, where Redis is to be it and can't be.
    """
    match settings.backplane:
        case "postgres":
            return PostgresCarrier(conninfo, settings.database_connect_s, settings.database_query_s, configure)
        case "redis":
            if settings.redis_url is None:
                raise SetupError("--backplane redis needs --redis-url", exit_code=2)
            return RedisCarrier(parse(str.__str__(settings.redis_url)))
        case _:
            return None
