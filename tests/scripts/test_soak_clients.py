"""The clients of scripts/soak: every byte is checked, they come back and go on, and know what they cause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import orjson
import pytest
from bench_loads.dialects import frame_head
from soak_parts.link import Fleet
from soak_parts.mix import EDGES, SPREAD, TOKENS, Mix
from soak_parts.readers import Reader
from soak_parts.stream import Cursor, Lost, Stream
from soak_parts.writers import Decoder, Seen, Writer

HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
PING = b"\x89\x01x"
EPOCH = "00c0ffee"


def framed(message: dict[str, Any]) -> bytes:
    data = orjson.dumps(message)
    return frame_head(len(data)) + data


GREETING = framed({"id": "1", "type": "connection.established", "payload": {}})


def event(seq: int, topic: str = "tokens", size: int = 10) -> bytes:
    payload = {"x": "y" * size}
    return framed({"id": f"e{seq}", "type": "t", "topic": topic, "seq": seq, "epoch": EPOCH, "payload": payload})


def subscribed(seq: int, since: int, topic: str = "tokens", *, recovered: bool = True) -> bytes:
    payload = {"topic": topic, "epoch": EPOCH, "seq": seq, "recovered": recovered, "replay": seq - since}
    return framed({"id": "2", "type": "subscribed", "reply_to": topic, "payload": payload})


def fed(fleet: Fleet, reader: Reader, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        fleet.buffer[: len(piece)] = piece
        reader.buffer_updated(len(piece))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def with_readers(topics: tuple[str, ...], use: Callable[..., None], count: int = 2) -> Fleet:
    """Call `use` with a fleet and so many readers that share the streams of these topics."""

    async def run() -> Fleet:
        fleet = Fleet(1, 1)
        streams = [Stream(topic) for topic in topics]
        use(fleet, *(Reader(fleet, f"r{n}", streams) for n in range(count)))
        return fleet

    return asyncio.run(run())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000, 100_000])
def test_frames_may_be_cut_anywhere(size: int) -> None:
    """Tries to have a reader lose its place by how the kernel cuts two topics, Pings, and frames of all lengths."""
    coming = [subscribed(0, 0), event(1), subscribed(0, 0, "graph")]
    coming += [event(2), event(1, "graph", 300), PING, event(2, "graph"), event(3, size=70_000), event(4), event(5)]

    def use(fleet: Fleet, first: Reader, second: Reader) -> None:
        for reader, at in ((first, size), (second, size + 1)):
            fed(fleet, reader, cut(HEAD + GREETING + b"".join(coming), at))
            assert {"tokens": 5, "graph": 2} == {topic: cursor.seq for topic, cursor in reader.cursors.items()}
            assert [True, True] == [cursor.at == cursor.stream.end for cursor in reader.cursors.values()]
            assert reader.ready.is_set()

    assert {} == with_readers(("tokens", "graph"), use).faults


OTHER = event(2).replace(b"yyy", b"yzy")


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([event(1), event(3)], "tokens: event 2 was due"),
        ([event(1), event(1)], "tokens: event 2 was due"),
        ([event(2)], "tokens: event 1 was due"),
        ([event(1), OTHER], "tokens: event 2 was due"),
        ([event(1), event(2, "graph")], "not an event"),
        ([event(1), framed({"id": "1", "type": "error", "payload": {}})], "not an event"),
    ],
    ids=["lost", "repeated", "begun late", "other bytes", "of another topic", "no event"],
)
def test_a_lost_event_is_noticed(events: list[bytes], found: str) -> None:
    """Tries to have a reader miss, or see twice, or see otherwise than the others an event, without a word."""

    def use(fleet: Fleet, first: Reader, second: Reader) -> None:
        begun = [HEAD, GREETING, subscribed(0, 0)]
        fed(fleet, first, [*begun, event(1), event(2), event(3)])
        fed(fleet, second, [*begun, *events])
        assert second.lost
        assert not first.lost

    faults = with_readers(("tokens",), use).faults
    assert 1 == len(faults)
    assert f"r1: {found}" in next(iter(faults))


def test_the_first_reader_finds_a_gap_too() -> None:
    """Tries to have a gap believed because nobody else has been there yet."""

    def use(fleet: Fleet, reader: Reader) -> None:
        fed(fleet, reader, [HEAD, GREETING, subscribed(0, 0), event(1), event(3)])
        assert reader.lost

    assert 1 == len(with_readers(("tokens",), use, count=1).faults)


def test_who_is_not_recovered_is_a_finding() -> None:
    """Tries to have a resume that the log did not hold pass for one that it did."""

    def use(fleet: Fleet, reader: Reader) -> None:
        fed(fleet, reader, [HEAD, GREETING, subscribed(5, 5, recovered=False)])
        assert reader.lost

    assert 1 == len(with_readers(("tokens",), use, count=1).faults)


def test_what_all_have_is_forgotten() -> None:
    """Tries to have positions move, or memory grow, as a stream forgets."""
    stream = Stream("tokens")
    first, second = Cursor(stream), Cursor(stream)
    for seq in range(1, 101):
        first.at = stream.take(event(seq), first.at)
        if seq > 3:
            second.at = stream.take(event(seq - 3), second.at)
        stream.forget(second.at + 1)
        assert 4 >= len(stream.frames) // len(event(seq))
    assert (100, 97) == (first.seq, second.seq)
    assert stream.last == 100
    with pytest.raises(Lost, match="event 98 was due"):
        stream.take(event(99), second.at)


def test_a_decoder_finds_a_gap() -> None:
    """Tries to have a decoding client pass over a number."""

    async def run() -> Fleet:
        fleet = Fleet(1, 1)
        decoder = Decoder(fleet, "d0", Seen())
        decoder.take(HEAD + GREETING + subscribed(0, 0) + subscribed(0, 0, "graph") + event(1) + event(3))
        assert decoder.lost
        return fleet

    (fault,) = asyncio.run(run()).faults
    assert "d0: tokens: event 2 was due" in fault


class Scripted:
    """A server that says to each connection what it is told, and keeps what was said to it."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heard: list[dict[str, Any]] = []
        self.all_said = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + GREETING)
        head = await reader.readexactly(2)
        size = head[1] & 0x7F
        size = int.from_bytes(await reader.readexactly(2), "big") if size == 126 else size
        await reader.readexactly(4)
        self.heard.append(orjson.loads(await reader.readexactly(size)))
        writer.write(self.answers.pop(0))
        if not self.answers:
            self.all_said.set()
        await reader.read(1)  # the answer to a Close, or the end
        writer.close()


async def lived(client: Any, server: Scripted, until: Callable[[], bool]) -> None:
    """Let a client live with a server until something is so."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    client.fleet.port = listening.sockets[0].getsockname()[1]
    client.fleet.rng.uniform = lambda _least, _most: 0.0
    life = asyncio.create_task(client.live())
    try:
        async with asyncio.timeout(30):
            await server.all_said.wait()
            while not until():
                await asyncio.sleep(0)
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        listening.close()


CLOSE_1012 = b"\x88\x02\x03\xf4"


def test_a_reader_that_is_closed_goes_on_where_it_was() -> None:
    """Tries to have a reader that the server closes, in mid-frame, stay away, or begin anew."""

    async def run() -> None:
        client = Reader(Fleet(1, 1), "r", [Stream("tokens")])
        server = Scripted(subscribed(0, 0) + event(1) + event(2) + CLOSE_1012, subscribed(3, 2) + event(3))
        await lived(client, server, lambda: 3 == client.cursors["tokens"].seq)
        assert [0, 2] == [said["payload"]["since"] for said in server.heard]
        assert EPOCH == server.heard[1]["payload"]["epoch"]
        assert {"closed 1012": 1} == client.fleet.ended
        assert (1, 1, {}) == (client.fleet.came_back, client.fleet.resumed, client.fleet.faults)

    asyncio.run(run())


def test_a_writer_that_is_closed_sends_again() -> None:
    """Tries to have a command lost, or done under another id, that was not answered before the server closed."""

    async def run() -> None:
        seen = Seen()
        client = Writer(Fleet(1, 1), "w", Mix(Random(1)), seen)
        client.write(0.0)
        (id_,) = client.owed
        reply = framed({"id": "9", "type": "token.created", "reply_to": id_, "payload": {}})
        server = Scripted(CLOSE_1012, reply)
        await lived(client, server, lambda: not client.owed)
        assert server.heard[0] == server.heard[1]
        assert id_ == server.heard[0]["id"]
        assert (1, 1, {}) == (seen.sent, seen.answered, seen.errors)

    asyncio.run(run())


def run_mix(seed: int, steps: int) -> Sequence[tuple[str, int, int]]:
    """Do what a mix says to a store that minds; returns the command types and the events that there really were."""
    mix = Mix(Random(seed))
    tokens: set[str] = set()
    edges: set[tuple[str, str]] = set()
    done = []
    for _ in range(steps):
        step = mix.next()
        token, edge = step.payload.get("token_id"), (step.payload.get("source_id"), step.payload.get("target_id"))
        events = (1, 0)
        match step.type:
            case "token.create":
                assert token not in tokens
                tokens.add(token)
            case "token.update":
                assert token in tokens
            case "token.delete":
                tokens.remove(token)
                gone = {edge for edge in edges if token in edge}
                edges -= gone
                events = (1, len(gone))
            case "graph.connect":
                assert edge not in edges
                assert set(edge) <= tokens
                assert edge[0] != edge[1]
                edges.add(edge)
                events = (0, 1)
            case "graph.disconnect":
                edges.remove(edge)
                events = (0, 1)
        assert events == (step.tokens, step.graph)
        assert len(tokens) <= TOKENS + SPREAD
        assert len(edges) <= EDGES + SPREAD
        done.append((step.type, *events))
    return done


def test_the_writers_know_what_they_cause() -> None:
    """Tries to have a command fail, tables grow, or events be counted that there are not."""
    done = run_mix(7, 20_000)
    assert done == run_mix(7, 20_000) != run_mix(8, 20_000)
    assert {"token.create", "token.update", "token.delete", "graph.connect", "graph.disconnect"} == {d[0] for d in done}
    assert any(graph > 1 for _, _, graph in done)
