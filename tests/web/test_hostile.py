"""What an attacker does: the server answers or closes with the right code, goes on, and nothing of it stays."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import trio

from ngos.client.trio import connect
from tests.servers import Running
from tests.web.wire import BINARY, CLOSE, PING, PONG, TEXT, RawSocket, frame, origin_of, raw_socket, request, upgrade

MESSAGE_BYTES = 65536


async def error_of(socket: RawSocket) -> tuple[str, str | None]:
    """The next message must be an error; return its code and the command that it answers."""
    message = await socket.message()
    assert "error" == message["type"], message
    assert message["payload"]["original_message_id"] == message.get("reply_to")
    return message["payload"]["code"], message.get("reply_to")


BAD_FRAMES = (
    (frame(BINARY, b'{"type":"ping"}'), 1003),
    (frame(BINARY), 1003),
    (frame(TEXT, b'{"type":"ping","x":"' + b"x" * MESSAGE_BYTES), 1009),
    (frame(TEXT, b" " * (MESSAGE_BYTES + 1)), 1009),
    (frame(TEXT, b" " * 40_000, fin=False) + frame(0, b" " * 40_000), 1009),
    (frame(TEXT, b'{"type":"\xff\xfe"}'), 1007),
    (frame(TEXT, b"\xed\xa0\x80"), 1007),
    (frame(TEXT, b"\xce", fin=False) + frame(0, b"x"), 1007),
    (frame(TEXT, b"{}", masked=False), 1002),
    (frame(3, b"{}"), 1002),
    (frame(11, b"{}"), 1002),
    (frame(0, b"{}"), 1002),
    (frame(TEXT, b"{}", fin=False) + frame(TEXT, b"{}"), 1002),
    (frame(PING, b"x" * 126), 1002),
    (frame(PING, b"x", fin=False), 1002),
    (b"\xc1\x80\0\0\0\0", 1002),
    (frame(CLOSE, b"\x03\xe8"), 1000),
    (frame(CLOSE, b"\x03"), 1002),
    (frame(CLOSE, b"\x03\xed"), 1002),
    (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    (b"\x81\xff\x7f" + b"\xff" * 7, 1009),
)


async def test_bad_frames(target: Running) -> None:
    """What breaks RFC 6455, or is over the limit, is closed with the code that says so; others don't notice."""
    async with connect(target.url) as bystander:
        for data, code in BAD_FRAMES:
            async with raw_socket(target.http) as socket:
                await socket.message()
                await socket.stream.send_all(data)
                assert code == await socket.closed(), data[:40]
        await bystander.ping()


async def test_a_message_of_the_limit(target: Running) -> None:
    """A message of exactly `message_bytes`, in one frame or many, is read."""
    message = b'{"type":"ping","id":"a"}'.ljust(MESSAGE_BYTES)
    async with raw_socket(target.http) as socket:
        await socket.message()
        await socket.text(message)
        assert "pong" == (await socket.message())["type"]
        parts = [
            frame(TEXT, message[:1], fin=False),
            *(frame(0, message[n : n + 1], fin=False) for n in range(1, 2000)),
        ]
        await socket.stream.send_all(b"".join([*parts, frame(PING), frame(0, message[2000:])]))
        assert (PONG, b"") == await socket.next_frame()
        assert "pong" == (await socket.message())["type"]


async def test_garbage(target: Running) -> None:
    """Thousands of messages that are no commands are each answered once, in order, and the connection stays."""
    kinds: list[tuple[bytes, str]] = [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"[" * 60_000, "invalid_json"),
        (b'{"a":' * 10_000, "invalid_json"),
        (b'{"type":"token.create","payload":{"weight":1e999}}', "invalid_json"),
        (b"{}", "invalid_message"),
        (b'{"type":"ping","id":7}', "invalid_message"),
        (b'{"type":"' + b"a" * 60_000 + b'"}', "unknown_type"),
        (b'{"type":"token.create","payload":{"coord_x":[%s1]}}' % (b"1," * 30_000), "invalid_payload"),
        (b'{"type":"token.create","payload":{"metadata":{"a":[%s1]}}}' % (b"1," * 30_000), "invalid_payload"),
        (b'{"type":"ping","payload":{%s"a":1}}' % b"".join(b'"%d":1,' % n for n in range(6000)), "invalid_payload"),
        (b'{"type":"subscribe","payload":{"topic":"\\u0000"}}', "invalid_payload"),
        (b'{"type":"publish","payload":{"topic":"tokens","type":"token.created"}}', "forbidden"),
    ]
    rounds = 20

    async def send() -> None:
        for _ in range(rounds):
            for message, _code in kinds:
                await socket.text(message)

    async with raw_socket(target.http) as socket:
        await socket.message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for _ in range(rounds):
                for _message, code in kinds:
                    assert (code, None) == await error_of(socket)
        await socket.command("ping")
        assert "pong" == (await socket.message())["type"]


async def test_unknown_types(target: Running) -> None:
    """Ten thousand different unknown types, sent without waiting, are ten thousand errors in their order."""
    count = 10_000

    async def send() -> None:
        for n in range(0, count, 100):
            frames = [frame(TEXT, b'{"type":"type.%d","id":"%d"}' % (i, i)) for i in range(n, n + 100)]
            await socket.stream.send_all(b"".join(frames))

    async with raw_socket(target.http) as socket:
        await socket.message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for n in range(count):
                assert ("unknown_type", str(n)) == await error_of(socket)


async def test_too_many_subscriptions(target: Running) -> None:
    """The 129th topic is refused; moving a subscription and leaving a topic are not; all end with the connection."""
    async with raw_socket(target.http) as socket:
        await socket.message()
        for n in range(129):
            await socket.command("subscribe", {"topic": f"t{n}"}, id=str(n))
        for _ in range(128):
            assert "subscribed" == (await socket.message())["type"]
        assert ("too_many_subscriptions", "128") == await error_of(socket)
        for type_, topic, reply in (
            ("subscribe", "t5", "subscribed"),
            ("subscribe", "t999", "error"),
            ("unsubscribe", "t5", "unsubscribed"),
            ("subscribe", "t999", "subscribed"),
            ("subscribe", "t5", "error"),
        ):
            await socket.command(type_, {"topic": topic})
            assert reply == (await socket.message())["type"]
        assert 128 == (await request(target.http, "GET", "/ws/stats")).json["total_subscriptions"]


async def test_crowds_that_come_and_go(target: Running) -> None:
    """Hundreds of connects, subscribed and dropped without a goodbye, leave nothing behind."""

    async def come_and_go(n: int) -> None:
        async with limit:
            host, port = origin_of(target.http)
            async with await trio.open_tcp_stream(host, port) as stream:
                match n % 5:
                    case 0:
                        await stream.send_all(b"GET /ws HT")
                    case 1:
                        await stream.send_all(upgrade(host, port))
                    case 2:
                        await stream.send_all(upgrade(host, port))
                        await stream.receive_some()
                        await stream.send_all(frame(TEXT, SUBSCRIBE))
                    case 3:
                        await stream.send_all(upgrade(host, port))
                        await stream.receive_some()
                        await stream.send_all(frame(TEXT, SUBSCRIBE)[:9])
                    case _:
                        await stream.send_all(upgrade(host, port))
                        await stream.receive_some()
                        await stream.send_all(frame(TEXT, CREATE) * 3)

    limit = trio.CapacityLimiter(200)
    async with trio.open_nursery() as nursery:
        for n in range(500):
            nursery.start_soon(come_and_go, n)


SUBSCRIBE = b'{"type":"subscribe","payload":{"topic":"tokens"}}'
CREATE = b'{"type":"token.create"}'


async def test_half_open(target: Running) -> None:
    """A peer that only ends its sending side, in the midst of a frame or not, is let go."""
    for data in (b"", b"\x81", frame(TEXT, SUBSCRIBE), frame(TEXT, SUBSCRIBE)[:-3]):
        async with raw_socket(target.http) as socket:
            await socket.message()
            await socket.stream.send_all(data)
            await socket.stream.send_eof()
            with pytest.raises(trio.EndOfChannel):
                while True:
                    await socket.next_frame()


@pytest.mark.parametrize(
    "payload",
    [
        {"metadata": {"\0": "\0", "a": "\0\x01\x7f\u2028\ufffe😀"}},
        {"weight": 5e-324, "coord_x": [1.7976931348623157e308, -0.0, 1e-320]},
        {"type": "'; drop table tokens; --", "metadata": {"$1": "%s %(a)s {}", "\\": "\\u0000"}},
        {"type": "\U0010ffff" * 50, "flags": 2**32 - 1},
        {"metadata": {"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]}},
        {"metadata": {"": {"": [None, True, 0, -(2**63), 2**64 - 1, 1e308]}}},
    ],
)
async def test_odd_values_are_kept(target: Running, payload: dict[str, Any]) -> None:
    """What the protocol allows is kept exactly, however odd, through the database, the event and the list."""
    async with connect(target.url) as client:
        async with client.subscribe("tokens") as events:
            created = await client.request("token.create", payload)
            event = await anext(aiter(events))
        read = await client.request("token.get", {"token_id": created.payload["token_id"]})
    assert created.payload == event.payload == read.payload
    for name in ("metadata", "weight", "type", "flags"):
        if name in payload:
            assert orjson.dumps(payload[name]) == orjson.dumps(read.payload[name])


async def test_odd_cursors(target: Running) -> None:
    """A cursor that the server did not make is invalid_payload, whatever it looks like."""
    almost = "AAAAAAAAAAAAaAAAAAAAAAjAAAAAAAAA="  # 24 bytes, for who reads base64 as Python does
    cursors = [
        "x",
        almost,
        almost[:-1] + "+",
        "AAAA",
        "%",
        "é",
        "=" * 256,
        "bnVsbA==",
        "e30=",
        "W10",
        "-",
        "____",
        "MTc2MDAwMDAwMDAwMDp4",
    ]
    async with raw_socket(target.http) as socket:
        await socket.message()
        for type_ in ("token.list", "experience.list"):
            for cursor in cursors:
                await socket.command(type_, {"after": cursor})
                assert ("invalid_payload", None) == await error_of(socket), cursor


async def test_a_reader_that_does_not_read_holds_up_nobody(target: Running) -> None:
    """Commands whose replies nobody reads don't pile up without end, and others are served meanwhile."""
    async with raw_socket(target.http) as socket, connect(target.url) as bystander:
        with trio.move_on_after(0.5) as scope:
            while True:
                await socket.stream.send_all(frame(TEXT, b'{"type":"token.list","payload":{"limit":1000}}') * 50)
        assert scope.cancelled_caught
        with trio.fail_after(10):
            await bystander.ping()
        (connection,) = [c for c in target.app.connections.open.values() if c.id != bystander.connection_id]
        assert connection.mailbox.reply_bytes < 1024 * 1024


async def test_pings_of_a_peer_that_does_not_read(target: Running) -> None:
    """Pongs for a peer that reads none of them don't pile up without end."""
    async with raw_socket(target.http) as socket, connect(target.url) as bystander:
        await socket.message()
        with trio.move_on_after(0.3):
            while True:
                await socket.stream.send_all(frame(PING, b"x" * 125) * 500)
        await bystander.ping()
