"""OpenTelemetry behind `cluster.tracing`: spans with the trace of whoever submitted the job, sent by OTLP over HTTP.

Built by the conductor. Spans are sent in batches from a thread of the library's own, from a queue that drops what it
cannot hold: no job ever waits for a collector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cluster.tracing import NO_SPAN, Span

SERVICE = "sandpool"
FLUSH_TIMEOUT_MS = 3000
_propagator = TraceContextTextMapPropagator()


class OtelSpan:
    """A `cluster.tracing.Span`."""

    __slots__ = ("span",)

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    @property
    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(self.span))
        return carrier.get("traceparent", "")

    def note(self, name: str, value: str | int | float) -> None:
        self.span.set_attribute(name, value)

    def end(self, error: str = "") -> None:
        if error:
            self.span.set_status(Status(StatusCode.ERROR, error))
        self.span.end()


class OtelTracing:
    """A `cluster.tracing.Tracing` on a provider of its own: the process's global one is left alone."""

    def __init__(self, processor: SpanProcessor, *, sample: float = 1.0) -> None:
        """`sample`: the part of jobs without a trace of their own that get one."""
        self._provider = TracerProvider(
            # Not `Resource.create`: it asks detectors, in threads that it waits for.
            resource=Resource({"service.name": SERVICE}),
            sampler=ParentBased(TraceIdRatioBased(sample)),
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("sandpool")

    def job(self, headers: Mapping[str, str], attributes: Mapping[str, str | int]) -> Span:
        parent = _propagator.extract(dict(headers))
        return OtelSpan(self._tracer.start_span("job", parent, kind=SpanKind.CONSUMER, attributes=dict(attributes)))

    def stage(self, job: Span, name: str) -> Span:
        if not isinstance(job, OtelSpan) or not job.span.is_recording():
            return NO_SPAN
        return OtelSpan(self._tracer.start_span(name, trace.set_span_in_context(job.span)))

    def past(self, parent: Span, name: str, began_ns: int, took_ns: int, attributes: Mapping[str, str]) -> None:
        if isinstance(parent, OtelSpan):
            context = trace.set_span_in_context(parent.span)
            span = self._tracer.start_span(
                name, context, kind=SpanKind.CLIENT, attributes=dict(attributes), start_time=began_ns
            )
            span.end(began_ns + took_ns)

    def close(self) -> None:
        self._provider.force_flush(FLUSH_TIMEOUT_MS)
        self._provider.shutdown()


def otlp_tracing(endpoint: str, *, headers: Mapping[str, str], sample: float) -> OtelTracing:
    """Spans sent to an OTLP collector, for example http://collector:4318/v1/traces."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - requests and protobuf cost 150 ms
        OTLPSpanExporter,
    )

    exporter: Any = OTLPSpanExporter(endpoint=endpoint, headers=dict(headers), timeout=10)
    return OtelTracing(BatchSpanProcessor(exporter), sample=sample)
