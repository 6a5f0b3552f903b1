"""What the server's database holds before anybody comes: tokens, edges and events, so that reading them costs.

Promises: the same names in every process, made from nothing but their number.
"""

from __future__ import annotations

from random import Random
from uuid import UUID

from bench_postgres import fill_log

from ngos.postgres.driver import TrioConnection

TOKENS = 2000
EDGES_EACH = 4
EVENTS = 10_000
EVENT_BYTES = 500

_TOKENS = """
insert into tokens (token_id, type, weight, flags, x, y, z, metadata)
select name, 'world', 1, 0, zeros, zeros, zeros, '{}' from unnest(%s::uuid[]) as name,
(select array_fill(0.0::double precision, array[8]) as zeros) as origin
"""
_EDGES = """
insert into edges (connection_id, source_id, target_id, type, weight, bidirectional, metadata)
select gen_random_uuid(), source, target, 'world', 1, false, '{}'
from unnest(%s::uuid[], %s::uuid[]) as e(source, target)
"""


def token_id(number: int) -> str:
    """The name of a token."""
    return str(UUID(int=(0xA77AC << 100) | (0x8 << 60) | number))


async def make_world(database_url: str) -> None:
    """Fill a database that nobody uses yet; past the log, so that no limit of the server's is in the way."""
    rng = Random(1)
    edges = [(a, b) for a in range(TOKENS) for b in rng.sample(range(TOKENS), EDGES_EACH) if a != b]
    async with await TrioConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(_TOKENS, [[token_id(number) for number in range(TOKENS)]])
        await connection.execute(_EDGES, [[token_id(a) for a, _ in edges], [token_id(b) for _, b in edges]])
        await connection.execute("analyze tokens, edges")
    await fill_log(database_url, "tokens", EVENTS, EVENT_BYTES)
