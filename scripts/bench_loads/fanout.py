"""Fan-out: one publisher, many subscribers; deliveries per second with N messages on their way.

Promises: a message more is published whenever one more has been delivered to all (by count: the k-th is through when
as many bytes have come as k messages to all subscribers are; its latency is from its publishing to then). The first
and the last message of each subscriber are parsed and must hold the payload. In between, one subscriber, the
witness, has every message parsed and compared, and says how long it was; of the others, bytes are counted and not
frames, since parsing millions of frames a second would measure the load. At the end the sum must be exact.
Where the server has another node, all subscribers are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from picows import WSFrame

from bench_loads.common import DRAIN_S, LoadError, Numbers, Run, count, latencies, main
from bench_loads.dialects import DIALECTS, Client, Dialect, connect, settle
from bench_loads.tally import Tally

TOPIC = "bench"
PROBE_S = 20.0
LIST_S = 0.1  # a plain server says nothing when it has put a subscriber on its list


class Subscriber(Client):
    """Looks for the payload in a message of its own; between two of those, only lengths count."""

    def __init__(self, run: Run, dialect: Dialect, tally: Tally, payload: bytes) -> None:
        super().__init__(run, dialect, [TOPIC])
        self.tally = tally
        self.payload = payload
        self.probing = True
        self.probes = 0

    def on_message(self, frame: WSFrame) -> None:
        if self.probing:
            self.check(frame.get_payload_as_bytes())
            self.probes += 1
        else:
            self.tally.buffer_updated(frame.payload_size)

    def check(self, message: bytes) -> None:
        if self.payload not in message:
            self.run.fail(f"a subscriber got something else than what was published: {message[:500]!r}")


class Witness(Subscriber):
    """Parses and compares all that it gets, and tells the tally how long each message was."""

    def __init__(self, run: Run, dialect: Dialect, tally: Tally, payload: bytes) -> None:
        super().__init__(run, dialect, tally, payload)
        self._rest = b""

    def on_message(self, frame: WSFrame) -> None:
        if self.probing:
            super().on_message(frame)
            return
        messages, self._rest = self.dialect.split(self._rest + frame.get_payload_as_bytes(), len(self.payload))
        for message in messages:
            self.check(message)
            self.tally.witness(self.dialect.counted_bytes(message))


async def load(arguments: argparse.Namespace) -> Numbers:
    """Connect, try one message, warm up, count, drain, try one more; return the numbers."""
    run = Run()
    dialect = DIALECTS[arguments.dialect]
    payload = payload_of(arguments.payload_bytes)
    message = dialect.publish(TOPIC, payload)
    publisher = Client(run, dialect, [])
    tally = Tally(run, arguments.subscribers, lambda: publisher.send(message))
    subscribers = [Subscriber(run, dialect, tally, payload) for _ in range(arguments.subscribers - 1)]
    url = arguments.other_url[0] if arguments.other_url else arguments.url
    await connect(run, url, "sub", subscribers)
    # Last, so that it hears last from a server that keeps the order: then a message's length is known in time.
    subscribers.append(Witness(run, dialect, tally, payload))
    await connect(run, url, "sub", subscribers[-1:])
    await connect(run, arguments.url, "pub", [publisher])
    await settle(run, [*subscribers, publisher])
    await run.pause(LIST_S)

    async def probe(times: int) -> None:
        publisher.send(message)
        await run.until(
            lambda: all(subscriber.probes >= times for subscriber in subscribers),
            PROBE_S,
            lambda: f"{sum(s.probes < times for s in subscribers)} of {len(subscribers)} subscribers got no message",
        )

    await probe(1)
    parse_again = _count_from_now(subscribers, tally)
    for _ in range(arguments.in_flight):
        tally.publish()
    window = await count(run, arguments, tally.deliveries)
    await run.until(tally.is_drained, DRAIN_S, tally.missing)
    await run.pause(0.05)
    if tally.surplus_bytes():
        raise LoadError(f"{tally.surplus_bytes()} bytes more came than were published: did the server ping?")
    parse_again()
    await probe(2)
    for client in (publisher, *subscribers):
        client.leave()
    return {
        **window.numbers(),
        **latencies(tally.latencies_ms),
        "published": tally.published,
        "message_bytes": tally.last_bytes,
    }


def payload_of(length_bytes: int) -> bytes:
    """JSON of just this length, since ngos's payloads are JSON."""
    return b'{"data":"%b"}' % (b"0123456789" * length_bytes)[: length_bytes - len('{"data":""}')]


def _count_from_now(subscribers: Sequence[Subscriber], tally: Tally) -> Callable[[], None]:
    """Stop parsing (or, where messages share frames, stop looking into them); returns what ends that."""
    parsers = []
    for subscriber in subscribers:
        subscriber.probing = False
        if subscriber.dialect.one_per_frame and not isinstance(subscriber, Witness):
            assert subscriber.transport is not None
            transport = subscriber.transport.underlying_transport
            parsers.append((transport, transport.get_protocol()))
            transport.set_protocol(tally)

    def parse_again() -> None:
        for subscriber in subscribers:
            subscriber.probing = True
        for transport, parser in parsers:
            transport.set_protocol(parser)

    return parse_again


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True, help="messages not yet delivered to all")
    parser.add_argument("--payload-bytes", type=int, required=True)


if __name__ == "__main__":
    main(__doc__, load, options)
