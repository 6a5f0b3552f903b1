"""What attackers do to handshakes and to sockets. Each is one attempt, or one round of some; runs on Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from attack_parts.attacker import Attacker
from attack_parts.blocks import PING_COMMAND, half_a_frame
from attack_parts.wire import cut_at_end, failure_of, reset

SLOW_S = 20.0
SILENT_S = 30.0
BYTE_EVERY_S = 1.0
SOCKETS = 16
HEADERS_BYTES = 100_000
ENDLESS_HEADERS = 20_000


async def slow_handshakes(attacker: Attacker) -> None:
    """A byte of the request every second, on some sockets at once."""
    async with trio.open_nursery() as nursery:
        for _ in range(SOCKETS):
            nursery.start_soon(_slow_handshake, attacker)


async def _slow_handshake(attacker: Attacker) -> None:
    async def drip(stream: trio.SocketStream) -> None:
        attacker.tally.did(1)
        for byte in attacker.target.upgrade():
            await attacker.send(stream, bytes([byte]))
            await trio.sleep(BYTE_EVERY_S)

    await held(attacker, drip, SLOW_S)


async def endless_headers(attacker: Attacker) -> None:
    """Headers without an end to them."""

    async def flood(stream: trio.SocketStream) -> None:
        await attacker.send(stream, b"GET /ws HTTP/1.1\r\nHost: x\r\n", 1)
        for number in range(ENDLESS_HEADERS):
            await attacker.send(stream, b"X-%d: %s\r\n" % (number, b"x" * 50))

    await held(attacker, flood, 5.0)


async def big_headers(attacker: Attacker) -> None:
    """100 kB of headers in one piece."""
    data = attacker.target.upgrade(headers={"X-Big": "x" * HEADERS_BYTES})

    async def send(stream: trio.SocketStream) -> None:
        await attacker.send(stream, data, 1)

    await held(attacker, send, 5.0)


async def connect_and_close(attacker: Attacker) -> None:
    """A connection that ends as soon as it is there, now by a FIN, now by a reset."""
    attacker.tally.did(1)
    stream = await attacker.target.connect()
    if attacker.rng.random() < 0.5:
        await stream.aclose()
    else:
        reset(stream)
    attacker.tally.got("accepted")


async def connect_and_be_silent(attacker: Attacker) -> None:
    """Connections that say nothing."""

    async def nothing(_stream: trio.SocketStream) -> None:
        attacker.tally.did(1)
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(SOCKETS):
            nursery.start_soon(held, attacker, nothing, SILENT_S)


async def half_closed(attacker: Attacker) -> None:
    """A client that says it sends no more: before, in the midst of, and after the handshake."""
    when = attacker.rng.randrange(3)
    request = attacker.target.upgrade()
    if when == 2:
        await attacker.converse([(1, PING_COMMAND)], then=_end_sending_and_stay)
        return

    async def send(stream: trio.SocketStream) -> None:
        await attacker.send(stream, request[: len(request) // 2] if when else b"", 1)
        await stream.send_eof()

    await held(attacker, send, 5.0)


async def _end_sending_and_stay(stream: trio.SocketStream) -> None:
    await stream.send_eof()
    await trio.sleep(5.0)  # the reader ends it when the server does


async def reset_in_mid_frame(attacker: Attacker) -> None:
    """A reset in the midst of a frame."""

    async def cut(stream: trio.SocketStream) -> None:
        reset(stream)
        await trio.lowlevel.checkpoint()

    await attacker.converse(half_a_frame(attacker.rng), then=cut)


async def open_and_reset(attacker: Attacker) -> None:
    """A WebSocket that is left as soon as it is open."""

    async def leave(_stream: trio.SocketStream) -> None:
        await trio.lowlevel.checkpoint()

    await attacker.converse([(1, b"")], then=leave)
    attacker.tally.got("opened")


async def held(attacker: Attacker, act: Callable[[trio.SocketStream], Awaitable[None]], seconds: float) -> None:
    """Do something to a new connection, then stay until the server ends it or the time is over."""
    try:
        with cut_at_end(await attacker.target.connect()) as stream, trio.move_on_after(seconds) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watched, attacker, stream, nursery.cancel_scope)
                try:
                    await act(stream)
                except trio.BrokenResourceError:
                    pass  # whoever watches counts how it ended
        if limit.cancelled_caught:
            attacker.tally.got("not ended")
    except OSError as exc:
        attacker.tally.got(failure_of(exc))


async def _watched(attacker: Attacker, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        await attacker.watch(stream)
    except trio.BrokenResourceError as exc:
        attacker.tally.got(failure_of(exc))
    scope.cancel()
