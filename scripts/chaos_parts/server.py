"""`ngos serve` as processes that are killed and come back on the same port: the nodes.

Promises: the port is one that the kernel gives to no client, so nobody takes it while the server is down, and no
client connects to itself. Short deadlines, so that a run is short. Runs on Trio.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from random import SystemRandom
from urllib.request import urlopen

import attrs
import trio

from chaos_parts.plan import OF_REDIS, Kind
from chaos_parts.processes import ChaosError, NotRecovered, Tended
from chaos_parts.proxy import Proxy

START_S = 40.0
ASK_S = 1.0
SETTINGS = {
    "NGOS_DURABLE_TOPICS": "chaos.*",
    "NGOS_MAILBOX_AGE_S": "2",
    "NGOS_HEARTBEAT_INTERVAL_S": "5",
    "NGOS_HEARTBEAT_TIMEOUT_S": "3",
    "NGOS_DRAIN_S": "1",
}
OF_DATABASE = {"NGOS_DATABASE_QUERY_S": "1", "NGOS_DATABASE_CONNECT_S": "2"}
LOWEST_PORT = 15_000


@attrs.frozen
class Node:
    """A server, and the proxy that most of its clients go through."""

    server: Tended
    port: int
    proxy: Proxy

    @property
    def url(self) -> str:
        """Past the proxy."""
        return _url(self.port)

    @property
    def proxy_url(self) -> str:
        """Through it; it must be serving."""
        return _url(self.proxy.port)


def _url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/ws"


def make_node(
    name: str, database_url: str, backplane: str, redis_url: str | None, directory: Path, kinds: Collection[Kind]
) -> Node:
    """A node, not yet running. `kinds`: the faults that there will be."""
    port = quiet_port()
    command = [sys.executable, "-m", "ngos", "serve", "--port", str(port), "--backplane", backplane]
    environment = clean_environment() | SETTINGS | {"NGOS_DATABASE_URL": database_url}
    # Where only Redis is hurt, a disk that stands still for a second would pass for a trouble with Redis.
    environment |= {} if OF_REDIS.issuperset(kinds) else OF_DATABASE
    if redis_url is not None:
        environment["NGOS_REDIS_URL"] = redis_url
    return Node(Tended(name, command, environment, directory / f"{name}.log"), port, Proxy(port))


def clean_environment() -> dict[str, str]:
    """Ours without what is meant for ngos."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NGOS_")}


def quiet_port() -> int:
    """A free port below those that the kernel gives to clients. Raises ChaosError where there is none."""
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = list(range(LOWEST_PORT, lowest_given))
    SystemRandom().shuffle(ports)
    for port in ports[:100]:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ChaosError(f"no free port from {LOWEST_PORT} to {lowest_given - 1}")


async def serving(port: int, server: Tended) -> None:
    """Wait until it serves. Raises NotRecovered."""

    with trio.move_on_after(START_S):
        while not await trio.to_thread.run_sync(_is_ready, port):  # noqa: ASYNC110 - a process has no event
            await trio.sleep(0.05)
        return
    raise NotRecovered(f"{server.name} did not get ready within {START_S:g} s: {server.last_words()}")


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=ASK_S) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def closed_connections(port: int) -> Counter[int]:
    """How many connections this life of the server has seen end, by close code. Blocks; none if it is down."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ASK_S) as response:
            text = response.read().decode()
    except OSError:
        return Counter()
    found = re.findall(r'^ngos_connections_closed_total{code="(\d+)"} (\S+)', text, re.MULTILINE)
    return Counter({int(code): int(float(count)) for code, count in found})
