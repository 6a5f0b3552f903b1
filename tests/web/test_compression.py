"""permessage-deflate, where it is switched on: what it saves, and what it may not cost (RFC 7692)."""

from __future__ import annotations

import zlib

import orjson
import trio
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from tests.daemons import daemon
from tests.servers import running_server
from tests.web.wire import RawSocket, frame, raw_socket, request

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
COMPRESSED_TEXT, COMPRESSED_CONT = 0x41, 0
GIB = 1 << 30
MIB = 1 << 20


def bomb(inflated_bytes: int) -> bytes:
    """A deflated row of zeros, a thousandth of its size."""
    compressor = zlib.compressobj(wbits=-12)
    block = compressor.compress(bytes(16 * MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)  # as often as one likes
    return block * (inflated_bytes // (16 * MIB))


async def test_twenty_bombs_at_once(database_url: str) -> None:
    """Tries to fill the memory with 20 x 1 GiB of zeros, whole and in fragments, each of which is within the limit."""
    data = bomb(GIB)
    pieces = [data[start : start + 60_000] for start in range(0, len(data), 60_000)]
    codes: list[int] = []
    async with daemon(database_url, "--compression", "true", "--message-bytes", "65536") as server:

        async def drop(number: int) -> None:
            async with raw_socket(server.http, headers=OFFER) as client:
                await client.next_frame()  # the greeting, compressed
                wire = frame(COMPRESSED_TEXT, data)
                if number % 2:
                    wire = frame(COMPRESSED_TEXT, pieces[0], fin=False)
                    wire += b"".join(frame(COMPRESSED_CONT, piece, fin=False) for piece in pieces[1:])
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_send_as_far_as_it_goes, client, wire)
                    codes.append(await client.closed())
                    nursery.cancel_scope.cancel()

        async with raw_socket(server.http) as bystander:
            await bystander.message()
            before = server.memory_bytes()
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(drop, number)
            assert [1009] * 20 == codes
            assert server.memory_bytes("VmHWM") - before < 50 * MIB
            await bystander.command("ping", id="1")
            assert "pong" == (await bystander.message())["type"]
    assert "Traceback" not in server.log


async def _send_as_far_as_it_goes(client: RawSocket, wire: bytes) -> None:
    try:
        await client.stream.send_all(wire)
    except trio.BrokenResourceError:
        pass  # it is closed, as it should be


async def test_both_ways(database_url: str) -> None:
    """Tries to get a message through that is not what was sent: compressed to the server, from it, or neither."""
    token = {"type": "demo", "metadata": {"text": "meaning " * 500}}
    async with (
        running_server(database_url, compression=True) as server,
        raw_socket(server.http, headers=OFFER) as client,
        raw_socket(server.http) as plain,
    ):
        await plain.message()
        await plain.command("subscribe", {"topic": "tokens"})
        assert "subscribed" == (await plain.message())["type"]
        ours = PerMessageDeflate(True, True, 12, 12)
        assert (await client.next_frame())[0] == 1
        command = orjson.dumps({"type": "token.create", "id": "1", "payload": token})
        small = ours.encode(Frame(Opcode.TEXT, command))
        assert len(small.data) < len(command) / 10
        await client.frame(COMPRESSED_TEXT, bytes(small.data))
        first, size = await client._exactly(2)
        assert 0xC1 == first, "compressed"
        size = int.from_bytes(await client._exactly(2), "big") if size == 126 else size
        assert size < 1000
        reply = ours.decode(Frame(Opcode.TEXT, await client._exactly(size), rsv1=True), max_size=1 << 20)
        assert token["metadata"] == orjson.loads(reply.data)["payload"]["metadata"]
        assert token["metadata"] == (await plain.message())["payload"]["metadata"]


async def test_off_by_default(database_url: str) -> None:
    """Tries to get compression agreed on that nobody has switched on."""
    async with running_server(database_url) as server, raw_socket(server.http, headers=OFFER) as client:
        await client.message()
        await client.frame(COMPRESSED_TEXT, bomb(16 * MIB))
        assert 1002 == await client.closed()
        assert 200 == (await request(server.http, "GET", "/livez")).status
