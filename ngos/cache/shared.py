"""The answers in Redis, which the nodes on one database share. Every failure of it is a miss.

Promises: a read waits for Redis no longer than GET_S, and for one that does not answer only once in a while; a write
waits for nothing. What waits to be written is bounded. What is read was written by one of us, under the very key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import trio
from attrs import define, field

from ngos.backplane.line import Cluster
from ngos.cache.entry import Entry
from ngos.config import MIB
from ngos.errors import RedisUnavailable
from ngos.redis import CONNECT_S, Address, Client, errors, open_redis

GET_S: Final = 0.05
SET_S: Final = 0.5
WAITING_BYTES: Final = 4 * MIB
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 16.0

_log = structlog.get_logger("ngos.cache")


@define
class Breaker:
    """After a failure there is a pause, twice as long each time; then one may try, and the others when that worked."""

    _pause_s: float = 0.0
    _until: float = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether all is well."""
        return not self._pause_s

    def lets_through(self, now: float) -> bool:
        if not self._pause_s:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause_s  # for the others, while one tries
        return True

    def failed(self, now: float) -> bool:
        """Returns whether that is new."""
        was_s, self._pause_s = self._pause_s, min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._until = now + self._pause_s
        return not was_s

    def worked(self) -> None:
        self._pause_s = 0.0


@define(eq=False)
class Shared:
    """See the module. `run` is the one task; before it, and without Redis, everything is a miss.

    `failures` counts what Redis did not do, `forged` what was not written by one of us, `dropped` what was not written.
    """

    _address: Address
    _age_s: float
    failures: int = field(init=False, default=0)
    forged: int = field(init=False, default=0)
    dropped: int = field(init=False, default=0)
    _client: Client | None = field(init=False, default=None)
    _cluster: Cluster | None = field(init=False, default=None)
    _reading: Breaker = field(init=False, factory=Breaker)
    _writing: Breaker = field(init=False, factory=Breaker)
    _waiting: deque[tuple[bytes, Entry, int]] = field(init=False, factory=deque)
    _waiting_bytes: int = field(init=False, default=0)
    _grown: trio.Event = field(init=False, factory=trio.Event)

    @property
    def works(self) -> bool:
        """Whether there is a client, and it has not failed lately."""
        return self._client is not None and self._reading.is_closed

    async def get(self, key: bytes) -> Entry | None:
        """What is kept under a key. It is not known whether it still holds."""
        if self._client is None or self._cluster is None or not self._reading.lets_through(trio.current_time()):
            return None
        sealed = None
        with self._trying(self._reading, GET_S):
            sealed = await self._client.get(self._name(key))
            self._reading.worked()
        if sealed is None:
            return None
        entry = Entry.unsealed(key, sealed, self._cluster.secret)
        if entry is None:
            self.forged += 1
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Have an entry be written, soon, unless too much waits for that already."""
        size_bytes = entry.size_bytes
        if self._client is None or self._waiting_bytes + size_bytes > WAITING_BYTES:
            self.dropped += 1
            return
        self._waiting.append((key, entry, size_bytes))
        self._waiting_bytes += size_bytes
        self._grown.set()

    async def run(self, cluster: Cluster) -> None:
        """Keep a client, and write what is to be kept, until cancelled."""
        self._cluster = cluster
        while True:
            try:
                async with open_redis(self._address) as client:
                    # coredis connects for the first command, and a read has no time for that.
                    with self._trying(self._reading, CONNECT_S):
                        await client.ping()
                    self._client = client
                    await self._write()
            except RedisUnavailable as exc:
                self._fail(self._reading, str(exc))
            finally:
                self._client = None
            self._waiting.clear()
            self._waiting_bytes = 0
            await trio.sleep(FIRST_PAUSE_S)

    async def _write(self) -> None:
        assert self._client is not None
        assert self._cluster is not None
        while True:
            if not self._waiting:
                self._grown = trio.Event()
                await self._grown.wait()
            key, entry, size_bytes = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            if not self._writing.lets_through(trio.current_time()):
                self.dropped += 1
                continue
            sealed = entry.sealed(key, self._cluster.secret)
            with self._trying(self._writing, SET_S):
                await self._client.set(self._name(key), sealed, px=max(1, int(self._age_s * 1000)))
                self._writing.worked()

    def _name(self, key: bytes) -> str:
        assert self._cluster is not None
        return f"ngos:{self._cluster.cluster_id}:answer:{key.hex()}"

    @contextmanager
    def _trying(self, breaker: Breaker, within_s: float) -> Iterator[None]:
        """Ask Redis. Where it fails, or takes longer, the breaker is told, and the block is over."""
        try:
            with trio.fail_after(within_s), errors():
                yield
        except RedisUnavailable as exc:
            self._fail(breaker, str(exc))
        except trio.TooSlowError:
            self._fail(breaker, f"no answer within {within_s:g} s")

    def _fail(self, breaker: Breaker, reason: str) -> None:
        self.failures += 1
        if breaker.failed(trio.current_time()):
            _log.warning("cache.redis_away", reason=reason, hint="reads go on without it")
