"""Known attacks by name, each with what must come of it: a close code, an error code, or an answer.

Promises: bounded in what is sent and in time; the same each time. A rate limit may answer any of them: `rate_limited`,
or a Close with 4429. Whether the server is as it was before, `Target.judge` says afterwards. Runs on Trio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Any, Final

import attrs
import orjson
import trio
from chaos_parts.postgres import connected

from fuzz_parts import material
from fuzz_parts.oracles import Defect, holds
from fuzz_parts.server import Peer, Target
from fuzz_parts.sessions import LAST, TOO_MUCH, judge_reply
from fuzz_parts.wire import BINARY, CLOSE, CONT, DEFLATE_OFFER, PING, PONG, TEXT, fragmented, frame, upgrade
from ngos.gateway.wire import deflate

PATIENCE_S: Final = 300.0
BATCH_BYTES: Final = 64 * 1024
MESSAGE_BYTES: Final = 65536
TOPIC_NAMES: Final = 1_000_000
TOPIC_NAMES_S: Final = 25.0
"""Of five minutes; of each of the two attacks by topics. It takes an hour or so to come to a million."""

Attack = Callable[[Target, float], Awaitable[str]]


@attrs.define
class _Named:
    """Attacks by their names; those with `compressed` go to a server that does that."""

    plain: dict[str, Attack] = attrs.field(factory=dict)
    compressed: dict[str, Attack] = attrs.field(factory=dict)


ATTACKS: Final = _Named()


def attack(function: Attack) -> Attack:
    """Name an attack. It returns a remark for the report, and gets how much of its full size there is time for."""
    ATTACKS.plain[function.__name__] = function
    return function


def compressed_attack(function: Attack) -> Attack:
    ATTACKS.compressed[function.__name__] = function
    return function


async def run(target: Target, name: str, scale: float) -> str:
    """Carry one out. Raises Defect."""
    function = (ATTACKS.plain | ATTACKS.compressed)[name]
    remark = None
    with trio.move_on_after(PATIENCE_S):
        remark = await function(target, scale)
    if remark is None:
        target.is_alive()
        raise Defect(f"{name} is answered")
    return remark


def _size(full: int, scale: float) -> int:
    return max(1, int(full * min(1, scale)))


async def _replies(target: Target, frames: Iterable[bytes], count: int, client_id: str = "") -> list[dict[str, Any]]:
    """Send frames without waiting; the replies to them, which are fewer only where a limit has cut it."""
    found: list[dict[str, Any]] = []
    async with target.connected(client_id) as peer:
        await peer.message()

        async def send() -> None:
            batch = bytearray()
            for data in frames:
                batch += data
                if len(batch) >= BATCH_BYTES:
                    await peer.send(bytes(batch))
                    batch.clear()
            await peer.send(bytes(batch))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(found) < count:
                incoming = await peer.next()
                if incoming is None or incoming[0] == CLOSE:
                    code = int.from_bytes(incoming[1][:2], "big") if incoming else None
                    holds(code in TOO_MUCH, f"a flood of commands is answered, not closed with {code}")
                    nursery.cancel_scope.cancel()
                    break
                if incoming[0] == TEXT:
                    message = orjson.loads(incoming[1])
                    if "topic" not in message:
                        found.append(message)
                    if message.get("reply_to") == LAST:
                        break
    return found


def _codes(replies: list[dict[str, Any]]) -> str:
    counts = Counter(reply["payload"]["code"] if reply["type"] == "error" else reply["type"] for reply in replies)
    return ", ".join(f"{count:,} {what}" for what, count in counts.most_common())


async def _end_of(target: Target, wire: bytes, headers: dict[str, str] | None = None) -> int | None:
    """The close code that bytes lead to."""
    async with target.connected(headers=headers) as peer:
        await peer.message()
        await peer.send(wire)
        return await peer.closed()


@attack
async def terabyte(target: Target, _scale: float) -> str:
    """What declares more than the limit is refused at its head: nobody waits for the rest."""
    for declared in (MESSAGE_BYTES + 1, 2**32, 2**40, 2**63 - 1):
        code = await _end_of(target, frame(TEXT, declared=declared))
        holds(code == 1009, f"{declared} bytes declared end with 1009")
    fragments = frame(TEXT, b" " * 60_000, fin=False) + frame(CONT, declared=2**40)
    holds(await _end_of(target, fragments) == 1009, "a terabyte in a second fragment ends with 1009")
    return "1009"


@attack
async def long_control(target: Target, _scale: float) -> str:
    """Control frames over 125 bytes, or in fragments, are 1002."""
    for opcode in (PING, PONG, CLOSE):
        for wire in (frame(opcode, b"x" * 126), frame(opcode, declared=2**40), frame(opcode, b"x", fin=False)):
            code = await _end_of(target, wire)
            # Both are true of the one that declares a terabyte.
            holds(code in (1002, 1009), f"a control frame over 125 bytes, or in parts, ends with 1002, not {code}")
    return "1002"


@attack
async def wrong_frames(target: Target, _scale: float) -> str:
    """What breaks RFC 6455 otherwise has the code that says so."""
    for wire, code in (
        (frame(BINARY, b"{}"), 1003),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"{}", mask=None), 1002),
        (frame(3, b"{}"), 1002),
        (frame(CONT, b"{}"), 1002),
        (frame(TEXT, b"{}", compressed=True), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    ):
        holds(await _end_of(target, wire) == code, f"{wire!r} ends with {code}")
    return "each its code"


@attack
async def tiny_fragments(target: Target, scale: float) -> str:
    """One message in 100,000 fragments, every other of them empty, is read; one byte over the limit is 1009."""
    message = b'{"type":"ping","id":"tiny"}'.ljust(_size(50_000, scale))
    wire = [frame(TEXT, b"", fin=False)]
    for n in range(len(message)):
        wire += [frame(CONT, message[n : n + 1], fin=False), frame(CONT, b"", fin=n == len(message) - 1)]
    replies = await _replies(target, wire, 1)
    holds([reply.get("reply_to") for reply in replies] in (["tiny"], []), "a message in tiny fragments is read")
    over = frame(TEXT, b" ", fin=False) + frame(CONT, b" ", fin=False) * MESSAGE_BYTES
    code = await _end_of(target, over)
    holds(code in TOO_MUCH | {1009}, "tiny fragments over the limit end with 1009")
    return f"{len(wire):,} fragments read"


@attack
async def tiny_messages(target: Target, scale: float) -> str:
    """100,000 messages of one byte are as many errors."""
    count = _size(100_000, scale)
    replies = await _replies(target, [frame(TEXT, b"1")] * count, count)
    allowed = {"invalid_json", "rate_limited"}
    holds({reply["payload"].get("code") for reply in replies} <= allowed, "tiny messages are invalid_json")
    return _codes(replies)


@attack
async def ping_flood(target: Target, scale: float) -> str:
    """Pings by the hundred thousand: a Pong for the last, or cut; others are served meanwhile, read or not read."""
    count = _size(200_000, scale)
    async with target.connected() as deaf, target.connected() as peer:
        await deaf.message()
        await peer.message()
        flood = frame(PING, b"x" * 125) * 500

        async def send(to: Peer) -> None:
            for _ in range(count // 500):
                await to.send(flood)
            await to.send(frame(PING, b"last"))

        pongs = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, peer)
            nursery.start_soon(send, deaf)
            await target.canary()
            while (incoming := await peer.next()) is not None and incoming != (PONG, b"last"):
                pongs += 1
            nursery.cancel_scope.cancel()
    await target.canary()
    return f"{pongs:,} Pongs for {count:,} Pings"


@attack
async def unknown_types(target: Target, scale: float) -> str:
    """10,000 types that there are not are 10,000 errors, each with its command's id."""
    count = _size(10_000, scale)
    frames = [frame(TEXT, b'{"type":"type.%d","id":"%d"}' % (n, n)) for n in range(count)]
    replies = await _replies(target, frames, count)
    codes = {reply["payload"].get("code") for reply in replies}
    holds(codes <= {"unknown_type", "rate_limited"}, "unknown types are unknown_type")
    named = [reply.get("reply_to") for reply in replies]
    holds(named == [str(n) for n in range(len(replies))], "each error names its command, in their order")
    return _codes(replies)


@attack
async def json_bombs(target: Target, _scale: float) -> str:
    """Depth, huge numbers, repeated keys, half surrogate pairs: each gets the one reply that `decode` says."""
    bombs = [
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"[" * 30_000 + b"]" * 30_000,
        b'{"type":"ping","id":"a","x":%b}' % (b"[" * 33 + b"]" * 33),
        b'{"type":"ping","timestamp":%b}' % (b"9" * 60_000),
        b'{"type":"ping","timestamp":1%b}' % (b"0" * 300),
        b'{"type":"token.create","payload":{"weight":0.%b1}}' % (b"0" * 60_000),
        b'{"type":"token.create","payload":{"weight":1e%b}}' % (b"9" * 60_000),
        b'{"type":"token.create","payload":{"flags":1%b}}' % (b"0" * 60_000),
        b'{"type":"ping",%b"id":"b"}' % (b'"type":"ping",' * 4000),
        b'{"type":"ping","payload":{%b"a":1}}' % (b'"a":1,' * 10_000),
        b'{"type":"ping","payload":{%b"a":1}}' % b"".join(b'"%d":1,' % n for n in range(6000)),
        b'{"type":"ping","payload":{%b"a":1}}' % b"".join(b'"%d%b":1,' % (n, b"\\u0001" * 250) for n in range(40)),
        b'{"type":"publish","payload":{"topic":"x","type":"y","payload":{"a":"\\ud800"}}}',
        b'{"type":"ping","id":"\\ud800"}',
        b'{"type":"ping","\\udfff":1}',
        b'{"type":"token.create","payload":{"metadata":{"a":%b}}}' % (b"[" * 29 + b"]" * 29),
        b'{"type":"token.create","payload":{"metadata":{"a":[%b1]}}}' % (b"1," * 30_000),
        b'{"type":"token.create","payload":{"coord_x":[%b1]}}' % (b"1," * 30_000),
        b'{"type":"experience.record","payload":{"event_type":"x","action":"%b"}}' % (b"\\u0000" * 2500),
        *(b'{"type":"token.create","payload":{"weight":%b}}' % evil for evil in material.EVIL if b"\xff" not in evil),
        *(b'{"type":"token.create","payload":{"metadata":{"a":%b}}}' % evil for evil in material.EVIL),
        *(b'{"type":"ping","id":%b}' % evil for evil in material.EVIL),
        *(b'{"type":%b}' % evil for evil in material.EVIL),
        *(b'{"type":"ping","payload":%b}' % evil for evil in material.EVIL),
    ]
    return await _judged(target, [bomb for bomb in bombs if _is_utf8(bomb)])


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _judged(target: Target, messages: list[bytes]) -> str:
    replies = await _replies(target, [frame(TEXT, message) for message in messages], len(messages))
    for message, reply in zip(messages, replies, strict=False):
        judge_reply(message, reply)
        code = reply["payload"].get("code")
        if reply["type"] == "error" and code in ("internal", "unavailable"):
            raise Defect(f"no command is answered by {code}, as {message[:100]!r} is")
    return _codes(replies)


@attack
async def bad_ids(target: Target, _scale: float) -> str:
    """Ids with NUL are invalid_message, and not echoed."""
    ids = ["\0", "a\0b", "\0" * 128, "a" * 127 + "\0"]
    replies = await _replies(target, [frame(TEXT, orjson.dumps({"type": "ping", "id": id_})) for id_ in ids], len(ids))
    for reply in replies:
        holds(reply["payload"].get("code") in ("invalid_message", "rate_limited"), "an id with NUL is invalid_message")
        holds("reply_to" not in reply, "an id with NUL is not echoed")
    return await _judged(
        target, [b'{"type":"token.create","id":%b}' % evil for evil in material.EVIL if _is_utf8(evil)]
    )


@attack
async def texts_in_every_field(target: Target, _scale: float) -> str:
    """SQL, NUL, half surrogate pairs and long texts in every field of every command are refused or kept as text."""
    messages = []
    for cls, field in material.every_field():
        for text in (*material.SQL, "a\0b", "\0", "\ufffe", "x" * 50, "x" * 51, "x" * 128, "", "\u0130" * 60):
            messages += [material.with_text(cls, field, text, id_) for id_ in ({}, {"id": text[:128]})]
        surrogate = material.with_text(cls, field, "@evil@")
        messages.append(surrogate.replace(b"@evil@", b"\\ud800"))
        messages.append(surrogate.replace(b"@evil@", b"a\\udc00\\ud800b"))
    return await _judged(target, messages)


@attack
async def topic_names(target: Target, scale: float) -> str:
    """A million topics, each followed, published to and left: none stays."""
    before = target.memory_bytes
    end = trio.current_time() + TOPIC_NAMES_S * scale
    sent = 0

    def frames() -> Iterable[bytes]:
        nonlocal sent
        while sent < TOPIC_NAMES and trio.current_time() < end:
            for n in range(sent, sent + 100):
                topic = b"t%d" % n
                yield frame(TEXT, b'{"type":"subscribe","payload":{"topic":"%b"}}' % topic)
                yield frame(TEXT, b'{"type":"publish","payload":{"topic":"%b","type":"x"}}' % topic)
                yield frame(TEXT, b'{"type":"unsubscribe","payload":{"topic":"%b"}}' % topic)
            sent += 100
        yield frame(TEXT, orjson.dumps({"type": "ping", "id": LAST}))

    counts = Counter(reply["type"] for reply in await _replies(target, frames(), 3 * TOPIC_NAMES + 1))
    wanted = {"subscribed": sent, "published": sent, "unsubscribed": sent, "pong": 1}
    holds(counts == wanted or "pong" not in counts or counts["error"], "topics are followed, published to and left")
    grown = (target.memory_bytes - before) // 1024 // 1024
    return f"{sent:,} names, {counts.total():,} replies, {grown:+} MiB"


@attack
async def durable_topic_names(target: Target, scale: float) -> str:
    """New durable topics, as many as there is time for: each is logged under its name, or refused."""
    before = target.memory_bytes
    end = trio.current_time() + TOPIC_NAMES_S * scale
    sent = 0

    def frames() -> Iterable[bytes]:
        nonlocal sent
        while sent < TOPIC_NAMES and trio.current_time() < end:
            for n in range(sent, sent + 100):
                yield frame(TEXT, b'{"type":"publish","payload":{"topic":"fuzz.%d","type":"x"}}' % n)
            sent += 100
        yield frame(TEXT, orjson.dumps({"type": "ping", "id": LAST}))

    replies = await _replies(target, frames(), TOPIC_NAMES + 1)
    kinds = {reply["payload"].get("code", reply["type"]) for reply in replies}
    allowed = {"published", "pong", "rate_limited", "forbidden", "conflict"}
    holds(kinds <= allowed, f"new topics are published to, not answered by {sorted(kinds - allowed)}")
    grown = (target.memory_bytes - before) // 1024 // 1024
    async with connected(target.database_url) as db:
        row = await (await db.execute("select count(*) from topics")).fetchone()
    assert row is not None
    return f"{_codes(replies)}; {row[0]:,} rows; {grown:+} MiB"


@attack
async def slow_handshakes(target: Target, scale: float) -> str:
    """Hundreds of requests that come byte by byte, or never to their end, hold up nobody, and are let go."""
    count = _size(300, scale)
    streams = []
    request = upgrade()
    try:
        for n in range(count):
            stream = await trio.open_tcp_stream("127.0.0.1", target.port)
            streams.append(stream)
            await stream.send_all(request[: 1 + n % (len(request) - 1)])
        await target.canary()
        for stream in streams[: count // 2]:
            await stream.send_eof()
        # The others say nothing more, and are let go all the same.
        for stream in streams:
            try:
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        slow = await trio.open_tcp_stream("127.0.0.1", target.port)
        streams.append(slow)
        for n in range(len(request)):
            await slow.send_all(request[n : n + 1])
        holds((await slow.receive_some()).startswith(b"HTTP/1.1 101 "), "a slow request is answered")
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)
    return f"{count} at once"


@attack
async def connection_close(target: Target, _scale: float) -> str:
    """Who asks for the connection to be closed sees its end."""
    for path in (b"/livez", b"/ws/stats", b"/nothing", b"/ws"):
        for version in (b"HTTP/1.1", b"HTTP/1.0"):
            async with await trio.open_tcp_stream("127.0.0.1", target.port) as stream:
                await stream.send_all(b"GET %b %b\r\nHost: x\r\nConnection: close\r\n\r\n" % (path, version))
                with trio.move_on_after(10) as scope:
                    while await stream.receive_some():
                        pass
                holds(not scope.cancelled_caught, "a connection that is to be closed is closed")
    return "closed"


@attack
async def half_closed(target: Target, _scale: float) -> str:
    """A peer that ends its sending side, anywhere in a frame, is let go."""
    wire = fragmented(Random(1), b'{"type":"subscribe","payload":{"topic":"tokens"}}')
    for at in range(len(wire) + 1):
        async with target.connected() as peer:
            await peer.send(wire[:at])
            await peer.stream.send_eof()
            await peer.closed()
    return f"at {len(wire) + 1} places"


@attack
async def cut_anywhere(target: Target, _scale: float) -> str:
    """A connection that is reset at any byte, of the request or of its frames, ends, and nothing else."""
    wire = upgrade("/ws?client_id=cut") + frame(TEXT, b'{"type":"token.create","id":"cut"}')
    wire += frame(TEXT, b'{"type":"subscribe","payload":{"topic":"tokens","since":0}}')
    for at in range(len(wire) + 1):
        stream = await trio.open_tcp_stream("127.0.0.1", target.port)
        await stream.send_all(wire[:at])
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(stream)
    return f"at {len(wire) + 1} places"


@compressed_attack
async def inflation_bombs(target: Target, _scale: float) -> str:
    """What inflates over the limit is 1009, whatever its size was; what is no deflate ends it too."""
    for size in (MESSAGE_BYTES + 1, 1_000_000, 100_000_000):
        bomb = deflate(b" " * size, 12)
        parts = [bomb] if len(bomb) <= MESSAGE_BYTES else [bomb[:60_000]]
        code = await _end_of(target, frame(TEXT, parts[0], compressed=True), DEFLATE_OFFER)
        holds(code == 1009, f"{size} bytes after inflation end with 1009")
    code = await _end_of(target, frame(TEXT, b"\xff" * 100, compressed=True), DEFLATE_OFFER)
    holds(code in (1002, 1007), "what can't be inflated ends with 1002 or 1007")
    before = target.memory_bytes
    many = frame(TEXT, deflate(b"1" * MESSAGE_BYTES, 12), compressed=True) * 2000
    async with target.connected(headers=DEFLATE_OFFER) as peer:
        await peer.message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, many)
            await target.canary()
            for _ in range(2000):
                if await peer.next() is None:
                    break
            nursery.cancel_scope.cancel()
    return f"1009; {(target.memory_bytes - before) // 1024 // 1024:+} MiB by 2,000 of the limit"


NAMES: Final = (*ATTACKS.plain, *ATTACKS.compressed)
