"""The backplane on Redis: PUBLISH, and SUBSCRIBE on a connection of its own."""

from __future__ import annotations

from typing import Final

import trio
from attrs import define, field

from ngos.backplane.line import SEND_S, Cluster, Line
from ngos.config import MIB
from ngos.errors import RedisUnavailable
from ngos.redis import Address, Client, open_publisher, open_redis

BUNDLE_BYTES: Final = MIB
UNHEARD_BYTES: Final = 8 * MIB
"""What may have been read and not heard yet. coredis reads faster than it hands on, and keeps what is between without
a bound: past this the line is made anew, which drops it."""


@define(eq=False)
class RedisCarrier:
    """See the module."""

    _address: Address
    bundle_bytes: int = field(init=False, default=BUNDLE_BYTES)

    async def carry(self, line: Line, cluster: Cluster) -> None:
        """As `ngos.backplane.line.Carrier` has it."""
        channel = f"ngos:{cluster.cluster_id}"
        async with (
            open_redis(self._address) as client,
            open_publisher(client) as publisher,
            client.pubsub(channels=[channel], retry_policy=None, ignore_subscribe_messages=True) as pubsub,
            trio.open_nursery() as nursery,
        ):
            line.linked()
            nursery.start_soon(self._send, publisher, channel, line)
            statistics = pubsub.connection.statistics
            heard_bytes = statistics.bytes_read
            async for message in pubsub:
                if message["type"] == "message" and isinstance(message["data"], bytes):
                    heard_bytes += _on_the_wire(channel, message["data"])
                    if statistics.bytes_read - heard_bytes > UNHEARD_BYTES:
                        pubsub.connection.invalidate()  # so that nobody waits for the end of what comes
                        raise RedisUnavailable(f"more than {UNHEARD_BYTES:,} bytes wait to be heard")
                    line.hear(message["data"])
            raise RedisUnavailable("the subscription has ended")

    async def _send(self, publisher: Client, channel: str, line: Line) -> None:
        while True:
            await line.outbox.wait()
            with trio.move_on_after(SEND_S) as scope:
                await publisher.publish(channel, line.bundle())
            if scope.cancelled_caught:
                raise RedisUnavailable(f"no answer within {SEND_S:g} s")


def _on_the_wire(channel: str, data: bytes) -> int:
    """How many bytes a message is in RESP3: a push of three strings, each with its length before it."""
    frame = b">3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n\r\n"
    return len(frame % (len(channel), channel.encode(), len(data))) + len(data)
