"""A server to be attacked, in a process of its own, and what must be true of it afterwards.

Promises: it dies with us; what it logs goes to a file, of which each line is judged once. Linux only. Runs on Trio.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
import psycopg
import trio
from chaos_parts.postgres import connected
from chaos_parts.processes import start
from chaos_parts.server import clean_environment

from fuzz_parts.oracles import Defect, holds
from fuzz_parts.wire import CLOSE, PING, PONG, TEXT, Frames, frame, upgrade
from ngos.postgres.embedded import embedded_postgres

START_S: Final = 60.0
SETTLE_S: Final = 20.0
CANARY_S: Final = 5.0
MEMORY_BYTES: Final = 128 * 1024 * 1024
"""What it may have grown by when all is over; Python gives little of its memory back."""
POOL: Final = 8
"""Connections to Postgres are made when they are needed."""
_TAIL: Final = b"\x00\x00\xff\xff\x03\x00"
"""What RFC 7692 takes off a message, and the end that zlib wants."""
SETTINGS: Final = {
    # All sessions come from one address, and all of them misbehave.
    "NGOS_ARRIVALS_AT_ONCE": "1000000000",
    "NGOS_LOG_FORMAT": "json",
    "NGOS_DURABLE_TOPICS": "fuzz.*",
    # A shared machine may be slow; what is `unavailable` here is a finding.
    "NGOS_DATABASE_QUERY_S": "60",
    "NGOS_CLOSE_S": "0.5",
}


@attrs.define(eq=False)
class Target:
    """A running server. `judge` is called when all connections have ended."""

    process: subprocess.Popen[bytes]
    port: int
    database_url: str
    log: Path
    compresses: bool
    _judged_bytes: int = 0
    _base_bytes: int = 0
    _base_descriptors: int = 0

    @property
    def memory_bytes(self) -> int:
        """What it has in memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def sockets(self) -> int:
        """How many connections to its port it holds, the listener not counted."""
        inodes = set()
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.process.pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == self.port and fields[3] != "0A":
                    inodes.add(f"socket:[{fields[9]}]")
        return len(inodes & set(self._descriptors()))

    def _descriptors(self) -> list[str]:
        found = []
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found.append(str(path.readlink()))
            except OSError:
                pass  # closed meanwhile
        return found

    async def judge(self) -> None:
        """Raise Defect where it is not as it was before: alive, idle, answering, without a defect in its log."""
        self.is_alive()
        with trio.move_on_after(SETTLE_S) as scope:
            while self.sockets() or (await self.stats())["active_connections"]:  # noqa: ASYNC110 - a process has no event
                await trio.sleep(0.02)
        if scope.cancelled_caught:
            raise Defect(f"every connection ends, {self.sockets()} have not")
        await self.canary()
        self.log_is_clean()
        stats = await self.stats()
        holds(stats["total_subscriptions"] == 0, "every subscription ends with its connection")
        holds(not stats["topics"], "no topic is left of what nobody follows")
        descriptors = len(self._descriptors())
        self._base_descriptors = self._base_descriptors or descriptors
        holds(descriptors <= self._base_descriptors + POOL, "every descriptor is closed")
        memory_bytes = self.memory_bytes
        self._base_bytes = self._base_bytes or memory_bytes
        holds(memory_bytes - self._base_bytes <= MEMORY_BYTES, "memory does not grow without end")
        self.is_alive()

    def is_alive(self) -> None:
        """Raise Defect where it is not."""
        if (code := self.process.poll()) is not None:
            raise Defect(f"the server lives, it ended with {code}: {self.last_words()}")

    def last_words(self) -> str:
        return self.log.read_bytes()[-1000:].decode(errors="replace").strip()

    def log_is_clean(self) -> None:
        """Raise Defect for a line that tells of a defect; the last one may still be being written."""
        data = self.log.read_bytes()
        whole_bytes = data.rfind(b"\n") + 1
        new, self._judged_bytes = data[self._judged_bytes : whole_bytes], whole_bytes
        for line in new.splitlines():
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                if line.startswith(b"http://"):
                    continue
                raise Defect(f"the log is JSON, not {line[:100]!r}") from None
            bad = record.get("level") in ("error", "critical") or {"exception", "exc_info", "incident"} & record.keys()
            if bad:
                last = str(record.get("exception", "")).strip().rpartition("\n")[2]
                raise Defect(f"the log tells of no defect, but {record['event']}: {last[:200]}")

    async def stats(self) -> dict[str, Any]:
        """What /ws/stats says."""
        with trio.fail_after(SETTLE_S):
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(b"GET /ws/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b"".join([part async for part in stream])
        found: dict[str, Any] = orjson.loads(answer.partition(b"\r\n\r\n")[2])
        return found

    async def canary(self) -> None:
        """Raise Defect where somebody who does nothing wrong isn't served."""
        seen = []
        with trio.move_on_after(CANARY_S):
            async with self.connected(client_id="") as peer:
                seen.append(await peer.message())
                for type_, payload in (("ping", {}), ("token.create", {"metadata": {"a": "\0é"}})):
                    await peer.command(type_, payload)
                    seen.append(await peer.message())
                token = seen[-1]["payload"]
                await peer.command("token.get", {"token_id": token["token_id"]})
                seen.append(await peer.message())
                await peer.command("token.delete", {"token_id": token["token_id"]})
                seen.append(await peer.message())
        types = [message["type"] for message in seen]
        wanted = ["connection.established", "pong", "token.created", "token.data", "token.deleted"]
        holds(types == wanted, f"a canary is served within {CANARY_S:g} s")
        holds(seen[2]["payload"] == seen[3]["payload"], "what was created can be read")

    @asynccontextmanager
    async def connected(self, client_id: str = "", headers: dict[str, str] | None = None) -> AsyncIterator[Peer]:
        """An open WebSocket, the greeting not yet read; cut at the end."""
        target = f"/ws?client_id={client_id}" if client_id else "/ws"
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(upgrade(target, headers))
            head = b""
            while b"\r\n\r\n" not in head:
                data = await stream.receive_some()
                holds(data, "an upgrade is answered")
                head += data
            head, _, rest = head.partition(b"\r\n\r\n")
            holds(head.startswith(b"HTTP/1.1 101 "), "a right upgrade is agreed to")
            peer = Peer(stream)
            peer.take(rest)
            yield peer


@attrs.define(eq=False)
class Peer:
    """The client's end of a WebSocket, which does what it is told."""

    stream: trio.SocketStream
    frames: Frames = attrs.field(factory=Frames)
    waiting: list[tuple[int, bytes]] = attrs.field(factory=list)

    async def send(self, data: bytes) -> None:
        """Send bytes. That the server has cut meanwhile will be seen by who reads."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def command(self, type_: str, payload: object) -> None:
        await self.send(frame(TEXT, orjson.dumps({"type": type_, "payload": payload})))

    async def next(self) -> tuple[int, bytes] | None:
        """The next frame; None: the connection has ended."""
        while not self.waiting:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                return None
            self.take(data)
        return self.waiting.pop(0)

    def take(self, data: bytes) -> None:
        for opcode, payload, compressed in self.frames.feed(data):
            self.waiting.append((opcode, zlib.decompress(payload + _TAIL, wbits=-15) if compressed else payload))

    async def message(self) -> dict[str, Any]:
        """The next message. Raises Defect where the connection ends instead."""
        while (found := await self.next()) is not None:
            opcode, payload = found
            if opcode == TEXT:
                message: dict[str, Any] = orjson.loads(payload)
                return message
            if opcode == CLOSE:
                raise Defect(f"a message comes, not a Close with {int.from_bytes(payload[:2], 'big')}")
            assert opcode in (PING, PONG)
        raise Defect("a message comes, not the end")

    async def closed(self) -> int | None:
        """Read until the end; the code of the server's Close, or None."""
        code = None
        while (found := await self.next()) is not None:
            if found[0] == CLOSE:
                code = int.from_bytes(found[1][:2], "big")
        return code


@asynccontextmanager
async def postgres(directory: Path, outside: str | None) -> AsyncIterator[str]:
    """A Postgres to make databases in: the one outside, or one of our own in `directory`. Yields its conninfo."""
    if outside:
        yield outside
        return
    data_dir = directory / "data"
    data_dir.mkdir()
    async with embedded_postgres(data_dir, start_s=START_S) as url:
        yield url


@asynccontextmanager
async def database(url: str, name: str) -> AsyncIterator[str]:
    """A new database, gone afterwards; yields its conninfo."""
    async with connected(url) as admin:
        await admin.execute(f'create database "{name}" template template0')
        try:
            yield psycopg.conninfo.make_conninfo(url, dbname=name)
        finally:
            with trio.CancelScope(shield=True):
                await admin.execute(f'drop database "{name}" with (force)')  # noqa: ASYNC102 - bounded by Postgres


@asynccontextmanager
async def running(database_url: str, log: Path, *, compresses: bool) -> AsyncIterator[Target]:
    """A server. Raises Defect where it does not start."""
    command = [sys.executable, "-m", "ngos", "serve", "--port", "0"]
    environment = clean_environment() | SETTINGS | {"NGOS_DATABASE_URL": database_url}
    environment["NGOS_COMPRESSION"] = "true" if compresses else "false"
    with log.open("wb") as file:
        process = start(command, environment, file)
    try:
        with trio.move_on_after(START_S):
            while not (address := _address(log)) and process.poll() is None:  # noqa: ASYNC110 - as above
                await trio.sleep(0.05)
        if not address:
            raise Defect(f"the server starts: {log.read_text()[-1000:]}")
        target = Target(process, int(address.rpartition(":")[2]), database_url, log, compresses)
        await target.judge()
        yield target
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _address(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").split("\n")[:-1] if line.startswith("http://")]
    return lines[0] if lines else ""


def own_name(suffix: str) -> str:
    """A name for a database that no other run uses."""
    return f"ngos_fuzz_{os.getpid()}_{suffix}"
