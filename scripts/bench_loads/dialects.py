"""What has to be said to which server, and a client that says it until it is subscribed.

Promises: a client is `settled` when the server has confirmed all its subscriptions and will by itself say nothing
more, pings after twenty seconds of silence apart. Knows the three protocols and nothing of any load.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Protocol

import orjson
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench_loads.common import LoadError, Run

READ_BYTES = 64 * 1024
CONNECT_S, SETTLE_S = 60.0, 20.0
AT_ONCE = 100  # handshakes: no server's backlog is the bottleneck


def frame_head(length_bytes: int) -> bytes:
    """The head of a server's text frame (RFC 6455, 5.2)."""
    if length_bytes < 126:
        return bytes([0x81, length_bytes])
    if length_bytes < 65_536:
        return b"\x81\x7e" + length_bytes.to_bytes(2, "big")
    return b"\x81\x7f" + length_bytes.to_bytes(8, "big")


class Dialect(Protocol):
    """How a server is spoken to."""

    binary: bool
    one_per_frame: bool  # else messages are joined and split as it happens

    def path(self, role: str) -> str:
        """Where a `sub`, a `pub` or an `echo` connects to."""

    def greet(self, topics: Sequence[str]) -> list[bytes]:
        """What subscribes to the topics."""

    def settled(self, received: bytes, topics: Sequence[str]) -> bool:
        """Whether all that came so far says that the greeting was heard."""

    def answer(self, payload: bytes) -> bytes | None:
        """What this message wants to hear, if anything."""

    def publish(self, topic: str, payload: bytes) -> bytes: ...

    def split(self, received: bytes, payload_bytes: int) -> tuple[list[bytes], bytes]:
        """The messages in what frames held, and the rest, which is not whole yet."""

    def counted_bytes(self, message: bytes) -> int:
        """What is counted of it: with its frame's header where it has a frame of its own."""


class _OnePerFrame:
    binary = False
    one_per_frame = True

    def split(self, received: bytes, payload_bytes: int) -> tuple[list[bytes], bytes]:
        return [received], b""

    def counted_bytes(self, message: bytes) -> int:
        return len(frame_head(len(message))) + len(message)


class Ngos(_OnePerFrame):
    """ngos: an envelope around everything, both ways; a publish has no id, and gets its reply all the same."""

    def path(self, role: str) -> str:
        return "/ws"

    def greet(self, topics: Sequence[str]) -> list[bytes]:
        return [orjson.dumps({"type": "subscribe", "payload": {"topic": topic}}) for topic in topics]

    def settled(self, received: bytes, topics: Sequence[str]) -> bool:
        return b'"connection.established"' in received and received.count(b'"type":"subscribed"') == len(topics)

    def answer(self, payload: bytes) -> bytes | None:
        return None

    def publish(self, topic: str, payload: bytes) -> bytes:
        return b'{"type":"publish","payload":{"topic":"%b","type":"bench","payload":%b}}' % (topic.encode(), payload)


class NgosOnce(Ngos):
    """ngos with a client_id, another one in each run: what has an id is kept, so that it takes effect once."""

    def path(self, role: str) -> str:
        return f"/ws?client_id={role}-{os.getpid()}"


class Plain(_OnePerFrame):
    """The peers of bench_peers/: a message of who comes with `?role=pub` goes to all with `?role=sub`, as it is."""

    def path(self, role: str) -> str:
        return f"/ws?role={role}"

    def greet(self, topics: Sequence[str]) -> list[bytes]:
        return []

    def settled(self, received: bytes, topics: Sequence[str]) -> bool:
        return True

    def answer(self, payload: bytes) -> bytes | None:
        return None

    def publish(self, topic: str, payload: bytes) -> bytes:
        return payload


class Nats:
    """NATS' client protocol in binary messages. The server pings a new client once: when that has come, it is still."""

    binary = True
    one_per_frame = False

    def path(self, role: str) -> str:
        return "/"

    def greet(self, topics: Sequence[str]) -> list[bytes]:
        subscriptions = b"".join(b"SUB %b %d\r\n" % (topic.encode(), sid) for sid, topic in enumerate(topics, 1))
        return [b'CONNECT {"verbose":false,"pedantic":false}\r\n' + subscriptions + b"PING\r\n"]

    def settled(self, received: bytes, topics: Sequence[str]) -> bool:
        return b"PONG\r\n" in received and b"PING\r\n" in received

    def answer(self, payload: bytes) -> bytes | None:
        return b"PONG\r\n" if b"PING\r\n" in payload else None

    def publish(self, topic: str, payload: bytes) -> bytes:
        return b"PUB %b %d\r\n%b\r\n" % (topic.encode(), len(payload), payload)

    def split(self, received: bytes, payload_bytes: int) -> tuple[list[bytes], bytes]:
        # MSG, topic, subscription and length are the same each time.
        length = received.find(b"\r\n") + payload_bytes + 4
        end = len(received) // length * length if length > payload_bytes + 4 else 0
        return [received[at : at + length] for at in range(0, end, length)], received[end:]

    def counted_bytes(self, message: bytes) -> int:
        return len(message)


DIALECTS: dict[str, Dialect] = {"ngos": Ngos(), "ngos-once": NgosOnce(), "plain": Plain(), "nats": Nats()}


class Client(WSListener):  # type: ignore[misc]
    """One connection. Greets, settles, then leaves every message to `on_message`."""

    def __init__(self, run: Run, dialect: Dialect, topics: Sequence[str]) -> None:
        super().__init__()
        self.run = run
        self.dialect = dialect
        self.topics = topics
        self.leaving = False
        self.settled = asyncio.get_running_loop().create_future()
        self.transport: WSTransport | None = None
        self._message_type = WSMsgType.BINARY if dialect.binary else WSMsgType.TEXT
        self._received = b""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        for message in self.dialect.greet(self.topics):
            self.send(message)
        self._look()

    def send(self, message: bytes) -> None:
        assert self.transport is not None
        self.transport.send(self._message_type, message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            if not self.leaving:
                self.run.fail(f"closed by the server with {frame.get_close_code()}")
        elif self.settled.done():
            self.on_message(frame)
        else:
            payload = frame.get_payload_as_bytes()
            self._received += payload
            if (answer := self.dialect.answer(payload)) is not None:
                self.send(answer)
            self._look()

    def _look(self) -> None:
        if not self.settled.done() and self.dialect.settled(self._received, self.topics):
            self._received = b""
            self.settled.set_result(None)

    def on_message(self, frame: WSFrame) -> None:
        """A message after settling; here: nobody waits for it."""

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.leaving:
            self.run.fail("connection lost")

    def leave(self) -> None:
        self.leaving = True
        assert self.transport is not None
        self.transport.disconnect()


async def connect(run: Run, url: str, role: str, clients: Sequence[Client], *, read_bytes: int = READ_BYTES) -> None:
    """Connect them, a hundred at a time; each greets at once. Raises LoadError where that takes too long."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(client: Client) -> None:
        async with free:
            # uvloop's own transport: a load may put another reader in picows' place (fanout does).
            address = url + client.dialect.path(role)
            await ws_connect(lambda: client, address, read_buffer_init_size=read_bytes, use_aiofastnet=False)

    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.gather(*map(one, clients))
    except TimeoutError:
        there = sum(client.transport is not None for client in clients)
        raise LoadError(f"only {there} of {len(clients)} clients were connected within {CONNECT_S:g} s") from None
    await run.pause(0)


async def settle(run: Run, clients: Sequence[Client]) -> None:
    """Wait until the greetings of all are answered."""
    await run.until(
        lambda: all(client.settled.done() for client in clients),
        SETTLE_S,
        lambda: f"{sum(not client.settled.done() for client in clients)} of {len(clients)} clients not subscribed",
    )
