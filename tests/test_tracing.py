"""Traces: each command and each batch has its span, who sent one with a context finds it again, and nothing leaks."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import h11
import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ngos.client.trio import connect
from ngos.daemon import HTTP_DRAIN_S
from ngos.errors import SetupError
from ngos.tracing import FLUSH_S, LINKS, Traces, open_traces, traces_of
from tests.daemons import LIMIT_S, daemon
from tests.web.wire import raw_socket

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Traces:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return traces_of(provider)


def test_the_parent_is_the_sender_s(traces: Traces, exporter: InMemorySpanExporter) -> None:
    """Tries to lose the trace that a command was sent in."""
    traces.end(traces.begin("ping", f"00-{TRACE}-{PARENT}-01"), "ok")
    (span,) = exporter.get_finished_spans()
    assert (int(TRACE, 16), int(PARENT, 16)) == (span.context.trace_id, span.parent.span_id)
    assert {"rpc.system": "ngos", "rpc.method": "ping", "ngos.outcome": "ok"} == dict(span.attributes)


def test_a_sender_that_does_not_trace(traces: Traces, exporter: InMemorySpanExporter) -> None:
    """Tries to have a command recorded whose sender has decided that it is not."""
    traces.end(traces.begin("ping", f"00-{TRACE}-{PARENT}-00"), "ok")
    assert () == exporter.get_finished_spans()


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "x" * 100_000,
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-01-more",
    ],
    ids=["empty", "long", "no-trace", "no-span", "version", "upper", "line", "more"],
)
def test_a_context_that_can_t_be_read(traces: Traces, exporter: InMemorySpanExporter, traceparent: str) -> None:
    """Tries to have a context taken that W3C's form does not allow: a trace of our own begins."""
    traces.end(traces.begin("ping", traceparent), "ok")
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


def test_a_batch_is_linked_to_its_commands(traces: Traces, exporter: InMemorySpanExporter) -> None:
    """Tries to lose the way from a command to its transaction, or to make it longer than it may be."""
    commands = [traces.begin("token.create", None) for _ in range(LINKS + 10)]
    traces.end_batch(traces.batch(commands), len(commands), 7)
    (batch,) = exporter.get_finished_spans()
    assert [command.get_span_context().span_id for command in commands[:LINKS]] == [
        link.context.span_id for link in batch.links
    ]
    assert {"db.system": "postgresql", "ngos.writes": LINKS + 10, "ngos.events": 7} == dict(batch.attributes)


@pytest.fixture
async def collector(nursery: trio.Nursery) -> AsyncIterator[tuple[str, trio.MemoryReceiveChannel[Any]]]:
    """An OTLP collector: its address, and the spans that come."""
    send, receive = trio.open_memory_channel[Any](1000)

    async def take(stream: trio.SocketStream) -> None:
        async with stream:
            protocol = h11.Connection(h11.SERVER)
            body = b""
            while True:
                event = protocol.next_event()
                if event is h11.NEED_DATA:
                    protocol.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif isinstance(event, h11.ConnectionClosed):
                    return
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        send.send_nowait(span)
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    (listener,) = await nursery.start(partial(trio.serve_tcp, take, 0, host="127.0.0.1"))
    yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1/traces", receive


async def test_through_a_server(database_url: str, collector: tuple[str, Any], nursery: trio.Nursery) -> None:
    """Tries to find a span missing on its way to a collector, or in one what a client has sent."""
    url, spans = collector
    # They leave before the end, which does not wait for long.
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
    flags = ("--traces-url", url, "--traces-share", "1")
    found = []
    async with daemon(database_url, *flags, environment=environment) as server:
        async with raw_socket(server.http) as socket:
            await socket.message()
            for type_, payload in (("token.create", {"type": "geheim"}), ("token.get", {"token_id": "geheim"})):
                context = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
                await socket.command(type_, payload, id="1-geheim", **context)
                await socket.message()
        with trio.fail_after(LIMIT_S):
            while len(found) < 2:
                found.append(await spans.receive())
        server.process.terminate()
        assert 0 == await server.ends()
    while spans.statistics().current_buffer_used:
        found.append(spans.receive_nowait())
    by_name = {span.name: span for span in found}
    assert {"commit", "token.create"} == by_name.keys()
    assert TRACE == by_name["token.create"].trace_id.hex()
    assert by_name["token.create"].span_id == by_name["commit"].links[0].span_id
    assert "geheim" not in str(found)
    nursery.cancel_scope.cancel()


async def test_a_collector_that_is_away(database_url: str) -> None:
    """Tries to hold up commands, or the end, by a collector that nobody answers for."""
    flags = ("--traces-url", "http://127.0.0.1:1/v1/traces", "--traces-share", "1", "--drain-s", "0.5")
    async with daemon(database_url, *flags) as server:
        async with connect(server.url) as client:
            for _ in range(10):
                await client.create_token()
        server.process.terminate()
        with trio.fail_after(5):
            assert 0 == await server.process.wait()


def test_a_collector_that_hangs_has_its_part_of_the_end() -> None:
    """Tries to have the last spans, after the last of HTTP, take the end beyond a second after the drain."""
    assert HTTP_DRAIN_S * 1.5 + FLUSH_S <= 1.0


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have traces wanted, and none made, in silence: one line says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SetupError, match=r"pip install 'ngos\[otel\]'"):
        async with open_traces("http://127.0.0.1:4318/v1/traces", 1.0):
            pass


async def test_no_traces() -> None:
    """Tries to have anything made where nobody asked for it."""
    async with open_traces(None, 1.0) as traces:
        assert traces is None
