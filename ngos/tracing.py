"""Traces: a span per command and one per batch, by OpenTelemetry, where the extra `ngos[otel]` is installed and the
setting `traces_url` is set. Floor 3: imports `ngos.errors`.

Spans have types, sizes and outcomes; of what clients send, nothing. They leave by OTLP over HTTP from a thread of the
exporter's own, out of a bounded queue: where the collector is away, they are dropped. A span that is recorded costs
9 us, one that is not sampled 3, and where there are no traces it is a comparison with None.

A command may carry `traceparent` in its envelope (W3C Trace Context, section 3.2); its span is then that one's child.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import define

from ngos import __version__
from ngos.errors import SetupError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

LINKS: Final = 128
"""Commands of a batch that its span is linked to."""
FLUSH_S: Final = 0.25
"""What sending the last spans may take when the server ends, within the second that it has after the drain."""
QUEUE_SPANS: Final = 2048

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


@define(eq=False)
class Traces:
    """Makes spans. `begin` and `end` of a command are called by its connection, `batch` by the committer."""

    _tracer: Tracer
    _api: Any

    def begin(self, type_: str, traceparent: str | None) -> Span:
        """A span for a command that was decoded, to be handed to `end`."""
        return self._tracer.start_span(
            type_, self._parent(traceparent), self._api.SpanKind.SERVER, {"rpc.system": "ngos", "rpc.method": type_}
        )

    def end(self, span: Span, outcome: str) -> None:
        """The command was answered: by `ok`, or the code of an error."""
        if span.is_recording():
            span.set_attribute("ngos.outcome", outcome)
            if outcome in ("internal", "unavailable"):
                span.set_status(self._api.StatusCode.ERROR)
        span.end()

    def batch(self, spans: Sequence[Span]) -> Span:
        """A span for a transaction of the committer, linked to those of its commands that are recorded."""
        links = [self._api.Link(span.get_span_context()) for span in spans[:LINKS] if span.is_recording()]
        return self._tracer.start_span("commit", kind=self._api.SpanKind.INTERNAL, links=links)

    def end_batch(self, span: Span, writes: int, events: int) -> None:
        """It is committed, or was not: then there are no events."""
        if span.is_recording():
            span.set_attributes({"db.system": "postgresql", "ngos.writes": writes, "ngos.events": events})
        span.end()

    def _parent(self, traceparent: str | None) -> Any:
        """The context that a command was sent in; what can't be read is none (section 3.2.2.1)."""
        match = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
        if match is None:
            return None
        context = self._api.SpanContext(
            int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=self._api.TraceFlags(int(match[3], 16))
        )
        return self._api.set_span_in_context(self._api.NonRecordingSpan(context))


@asynccontextmanager
async def open_traces(url: str | None, share: float) -> AsyncIterator[Traces | None]:
    """Traces that go to an OTLP collector at `url`, of that share of the commands; without a URL there are none.

    A command that comes with a trace context is traced if its sender does. Raises SetupError where the extra is not
    installed. Leaving sends what is left, for at most `FLUSH_S`.
    """
    if url is None:
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as exc:
        raise SetupError(f"NGOS_TRACES_URL needs OpenTelemetry: pip install 'ngos[otel]' ({exc})") from exc
    resource = Resource.create({"service.name": "ngos", "service.version": __version__})
    sampler = ParentBased(TraceIdRatioBased(share))
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=url, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS))
    try:
        yield traces_of(provider)
    finally:
        with trio.move_on_after(FLUSH_S, shield=True):
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def traces_of(provider: Any) -> Traces:
    """Traces by this provider of OpenTelemetry."""
    from opentelemetry import trace

    return Traces(provider.get_tracer("ngos", __version__), trace)
