"""Random connections, and what each may get back.

A session is a plan in JSON, made from a `Random` and nothing else, so it can be saved and run again:

- `tidy`: every message is a whole one by RFC 6455, in whatever fragments and cuts; each is a command or nearly one, and
  gets exactly the reply that `codec.decode` says is due, in order;
- `wild`: frames of any kind; what comes back must be frames, messages and close codes of the protocol;
- `http`: requests that are mutated, one after the other; no answer may be a defect's.

Promises: a session ends by itself within its deadline, whatever the server does. Runs on Trio.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode
from random import Random
from typing import Any, Final

import attrs
import orjson
import trio

from fuzz_parts import material
from fuzz_parts.guided import any_frame
from fuzz_parts.oracles import Defect, holds
from fuzz_parts.server import Target
from fuzz_parts.wire import CLOSE, DEFLATE_OFFER, PING, TEXT, Frames, NotAFrame, fragmented, frame, in_chunks, upgrade
from ngos.gateway.wire import deflate
from ngos.protocol import codec
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.faults import DecodeError, ErrorCode

Plan = dict[str, Any]

PATIENCE_S: Final = 40.0
"""Nothing owed takes this long, not even where others have the machine."""
LAST: Final = "the-last"
ERRORS: Final = frozenset({*ErrorCode} - {ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE})
"""`internal` is a defect; so is `unavailable`, where the database is well and has all the time it wants."""
CLOSES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1013, 4401, 4403, 4408, 4429, None})
MADE_UP: Final = frozenset({1000, 1001, 3000, 3999, 4000, 4999, 1011, 1012, 1014})
"""What a peer may say in a Close of its own, and gets back."""
TOO_MUCH: Final = frozenset({4429, 1013})
METHODS: Final = (b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI", b"get", b"G\0T", b"")
TARGETS: Final = (
    b"/ws", b"/", b"/ws/stats", b"/ws/connections", b"/ws/broadcast", b"/ws/publish/x", b"/livez", b"/readyz",
    b"/metrics", b"/asyncapi.json", b"/ws?client_id=a", b"/ws?client_id=%00", b"/ws?client_id=" + b"x" * 200, b"*",
    b"/ws?client_id=%ff%fe", b"/ws?%zz=%", b"//ws", b"/../ws", b"/ws/..%2f", b"/%2e%2e/etc/passwd", b"/ws#x",
    b"http://127.0.0.1/ws", b"/\xff", b"/assets/../index.html", b"/assets/%00", b"/ws/publish/%00",
    b"/ws/publish/" + b"x" * 300, b"/" + b"a" * 9000, b"/ws/publish/tokens", b"/ws/publish/%f0%9f%98%80", b"",
)  # fmt: skip
HEADERS: Final = (
    b"Host: 127.0.0.1", b"Host: ", b"Host: a, b", b"Upgrade: websocket", b"Upgrade: h2c", b"Upgrade: WebSocket, x",
    b"Connection: Upgrade", b"Connection: keep-alive, Upgrade", b"Connection: close", b"Connection: \xff",
    b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8", b"Sec-WebSocket-Version: 13, 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Key: \xe9",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    b'Sec-WebSocket-Extensions: permessage-deflate; a; b="', b"Sec-WebSocket-Extensions: ;;,,",
    b"Sec-WebSocket-Extensions: " + b"permessage-deflate, " * 300, b"Sec-WebSocket-Protocol: ,,\xff,",
    b"HTTP2-Settings: AAMAAABkAAQAAP__", b"HTTP2-Settings: !", b"Content-Length: 5", b"Content-Length: -1",
    b"Content-Length: 99999999999999999999", b"Content-Length: 5, 6", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Content-Type: application/json", b"Content-Type: text/plain; charset=x",
    b"Expect: 100-continue", b"Origin: null", b"Origin: http://\xff", b"Authorization: Bearer \xff\x01",
    b"Authorization: Basic Og==", b"Cookie: " + b"a=b; " * 1000, b"X: " + b"y" * 70_000, b": x", b"x", b" folded",
    b"X-Forwarded-For: '\"", b"Range: bytes=0-,0-,0-", b"Accept-Encoding: gzip;q=x", b'If-None-Match: W/"', b"A\0: b",
    b"If-Modified-Since: Sat, 99 Foo 99999 99:99:99 GMT", b'Forwarded: for="["',
)  # fmt: skip
BODIES: Final = (
    b"", b"{}", b'{"type":"x","payload":{}}', b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"ffffffffffffffff\r\n",
    b'{"type":"\\ud800"}', b"[" * 5000, b"\xff\xfe", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 30,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0\0\3\0\0\0d",
)  # fmt: skip


def make(rng: Random, kind: str, *, compresses: bool) -> Plan:
    """A session of a kind."""
    match kind:
        case "tidy":
            return _tidy(rng)
        case "wild":
            return _wild(rng, compresses=compresses)
        case "http":
            return _http(rng)
        case _:
            raise ValueError(kind)


def _tidy(rng: Random) -> Plan:
    name = f"fuzz-{rng.randbytes(4).hex()}"
    messages: list[bytes] = []
    for number in range(rng.choice([1, 5, 30])):
        id_ = rng.choice([None, f"{name}-{number}", f"{name}-{number}", f"{name}-0"])
        message = material.command(rng, id_)
        if rng.random() < 0.4:
            message = material.mutated(rng, message, 60_000)
        if _has_no_utf8(message) or not message:
            continue  # which is another close code: see wild
        messages += [message] * (2 if rng.random() < 0.1 else 1)
    messages.append(orjson.dumps({"type": "ping", "id": LAST}))
    wire = b"".join(fragmented(rng, message) for message in messages)
    chunks = in_chunks(rng, wire, rng.choice([1, 6, 60]))
    upgraded = upgrade(f"/ws?client_id={name}" if rng.random() < 0.7 else "/ws")
    return {
        "kind": "tidy",
        "messages": [_text(message) for message in messages],
        # Some don't wait for the answer to their upgrade.
        "steps": [["send", _text(upgraded)], *[["send", _text(chunk)] for chunk in chunks]],
    }


def _has_no_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return True
    return False


def _wild(rng: Random, *, compresses: bool) -> Plan:
    wire = upgrade("/ws?client_id=wild", DEFLATE_OFFER if compresses else None)
    waits = compresses or rng.random() < 0.5
    first = [["send", _text(wire)], ["wait"]] if waits else []
    wire = b"" if waits else wire
    for _ in range(rng.choice([1, 3, 10, 40])):
        match rng.randrange(6):
            case 0 | 1:
                wire += any_frame(rng)
            case 2:
                wire += fragmented(rng, material.command(rng))
            case 3:
                wire += fragmented(rng, material.mutated(rng, material.command(rng)))
            case 4 if compresses:
                wire += _compressed(rng)
            case _:
                wire += frame(TEXT, b'{"type":"ping"}', mask=rng.randbytes(4))
    if rng.random() < 0.5:
        wire = material.mutated_bytes(rng, wire)
    end = rng.choice(["eof", "eof", "reset", "close"])
    return {
        "kind": "wild",
        "compresses": compresses,
        "steps": [*first, *[["send", _text(chunk)] for chunk in in_chunks(rng, wire, 20)], [end]],
    }


def _compressed(rng: Random) -> bytes:
    """A compressed message, which may be a bomb, or broken."""
    message = rng.choice([material.command(rng), b" " * rng.choice([1000, 65536, 65537, 20_000_000]), b""])
    data = deflate(message, rng.choice([9, 12, 12, 15]))
    if rng.random() < 0.2:
        data = material.mutated_bytes(rng, data)
    if rng.random() < 0.2:
        data = zlib.compress(data)
    return frame(TEXT, data, compressed=True, mask=rng.randbytes(4))


def _http(rng: Random) -> Plan:
    wire = b""
    for _ in range(rng.choice([1, 1, 2, 5])):
        request = rng.choice([upgrade().partition(b"\r\n")[2], b"Host: 127.0.0.1\r\n\r\n"])
        lines = request.split(b"\r\n")[:-2]
        for _ in range(rng.choice([0, 1, 3])):
            lines.insert(rng.randint(0, len(lines)), rng.choice(HEADERS))
        if rng.random() < 0.2 and lines:
            lines.pop(rng.randrange(len(lines)))
        version = rng.choice([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2", b"HTTP/9.9", b"", b"http/1.1"])
        target = rng.choice(TARGETS)
        method = rng.choice(METHODS) if rng.random() < 0.4 else b"POST" if b"/publish" in target else b"GET"
        end = b"\r\n" if rng.random() < 0.95 else b"\n"
        wire += end.join([b" ".join([method, target, version]), *lines, b"", b""])
        if rng.random() < 0.4:
            wire += rng.choice(BODIES)
    if rng.random() < 0.5:
        wire = material.mutated_bytes(rng, wire)
    end = rng.choice(["eof", "eof", "reset", "close"])
    return {"kind": "http", "steps": [*[["send", _text(chunk)] for chunk in in_chunks(rng, wire)], [end]]}


def _text(data: bytes) -> str:
    return b64encode(data).decode()


async def run(target: Target, plan: Plan) -> None:
    """Live through a session. Raises Defect where the server does what it may not."""
    reader = _Reader(plan["kind"])
    with trio.move_on_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", target.port) as stream:
            reading = trio.CancelScope()

            async def read() -> None:
                with reading:
                    await reader.run(stream)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await _act(stream, plan["steps"], reader)
                if plan["kind"] == "tidy":
                    await reader.is_done.wait()
                    reading.cancel()
                elif plan["steps"][-1][0] != "eof":
                    reading.cancel()
            reader.finished = True
    if not reader.finished:
        _why(target, plan)
    reader.judge()
    if plan["kind"] == "tidy":
        judge_replies(plan, reader)


def _why(target: Target, plan: Plan) -> None:
    target.is_alive()
    if plan["kind"] == "tidy":
        raise Defect("every command of a session is answered")
    raise Defect("a peer that ends its side is let go")


async def _act(stream: trio.SocketStream, steps: list[list[str]], reader: _Reader) -> None:
    try:
        for step in steps:
            match step:
                case ["send", data]:
                    await stream.send_all(b64decode(data))
                case ["wait"]:
                    await reader.is_upgraded.wait()
                case ["eof"]:
                    await stream.send_eof()
                case ["reset"]:
                    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    stream.socket.close()
                case ["close"]:
                    await stream.aclose()
                case _:
                    raise ValueError(step)
            await trio.lowlevel.checkpoint()  # what was written is on its way before what follows
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the server has cut it, as it may


@attrs.define(eq=False)
class _Reader:
    """Reads what a server answers, to its end; judges when all is there."""

    kind: str
    finished: bool = False
    is_upgraded: trio.Event = attrs.field(factory=trio.Event)
    is_done: trio.Event = attrs.field(factory=trio.Event)
    messages: list[dict[str, Any]] = attrs.field(factory=list)
    close: int | None = None
    defect: str = ""
    _head: bytes = b""
    _frames: Frames = attrs.field(factory=Frames)

    async def run(self, stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                if not self.defect:
                    self._take(bytes(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except NotAFrame as exc:
            self.defect = f"a server sends frames, but {exc}"
        finally:
            self.is_upgraded.set()
            self.is_done.set()

    def _take(self, data: bytes) -> None:
        if not self.is_upgraded.is_set():
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if self.kind == "http" or not found or not head.startswith(b"HTTP/1.1 101 "):
                return
            data = rest
            self.is_upgraded.set()
        for incoming in self._frames.feed(data):
            if incoming.opcode == CLOSE:
                self.close = int.from_bytes(incoming.payload[:2], "big") if incoming.payload else None
                self.is_done.set()
            elif incoming.opcode == TEXT and not incoming.compressed:
                self._message(incoming.payload)

    def _message(self, data: bytes) -> None:
        try:
            message = orjson.loads(data)
            known = {type(message["id"]), type(message["type"])} == {str} and type(message["timestamp"]) is int
        except (orjson.JSONDecodeError, KeyError, TypeError):
            known = False
        if not known or type(message["payload"]) is not dict:
            self.defect = f"a message is an envelope, not {data[:100]!r}"
            return
        if message["type"] == "error" and message["payload"].get("code") not in ERRORS:
            self.defect = f"an error has a code of the protocol, not {message['payload'].get('code')!r}"
        if "topic" not in message:
            self.messages.append(message)
            if message.get("reply_to") == LAST:
                self.is_done.set()

    def judge(self) -> None:
        """Raise Defect for what came that may not."""
        if self.defect:
            raise Defect(self.defect)
        holds(
            self.close in CLOSES | MADE_UP or self.close >= 3000, f"a close code is one of the list, not {self.close}"
        )
        for status in re.findall(rb"^HTTP/1\.1 (\d{3})", self._head, re.MULTILINE):
            holds(status not in (b"500", b"502", b"504"), f"no answer is {status.decode()}")


def judge_replies(plan: Plan, reader: _Reader) -> None:
    """Raise Defect where a command has not got the one reply that is due."""
    if reader.close in TOO_MUCH:
        return
    holds(reader.messages, "a connection begins with a greeting")
    greeting, *replies = reader.messages
    holds(greeting["type"] == "connection.established", "a connection begins with a greeting")
    messages = [b64decode(message) for message in plan["messages"]]
    holds(len(replies) == len(messages), "every command has exactly one reply")
    for message, reply in zip(messages, replies, strict=True):
        judge_reply(message, reply)


def judge_reply(message: bytes, reply: dict[str, Any]) -> None:
    """Raise Defect where this is no reply to that."""
    code = reply["payload"].get("code") if reply["type"] == "error" else None
    try:
        received = codec.decode(message)
    except DecodeError as exc:
        id_ = exc.command_id
        holds(code in (exc.code, "rate_limited"), "what decode refuses is refused by the server, for the same reason")
    else:
        id_ = received.id
        allowed = {reply.TYPE for reply in COMMANDS[received.command.TYPE].REPLIES} | {"error"}
        holds(reply["type"] in allowed, f"{received.command.TYPE} is answered by its reply, not by {reply['type']}")
    holds(reply.get("reply_to") == id_, "a reply names its command")


__all__ = ["PING", "Plan", "make", "run"]
