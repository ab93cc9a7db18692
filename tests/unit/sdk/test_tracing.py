"""A job carries the trace of the span in which it is submitted: `sandpool.tracing`."""

from __future__ import annotations

import subprocess
import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sandpool import SqlJob
from sandpool.session import Session
from sandpool.tracing import current_traceparent

JOB = SqlJob(database="d", sql="select 1")


class NoTransport:
    tenant = "acme"


def headers_of(traceparent: str = "") -> dict[str, object]:
    _, message = Session(NoTransport()).prepare(JOB, traceparent)  # type: ignore[arg-type]
    return dict(message.headers)


def test_a_job_submitted_in_a_span_carries_its_trace_as_the_library_would_write_it() -> None:
    tracer = TracerProvider().get_tracer("t")
    with tracer.start_as_current_span("request"):
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        assert current_traceparent() == carrier["traceparent"]
        assert headers_of()["traceparent"] == carrier["traceparent"]
        assert headers_of("00-given")["traceparent"] == "00-given"


def test_outside_of_a_span_there_is_no_header() -> None:
    assert current_traceparent() == ""
    assert "traceparent" not in headers_of()


def test_a_program_that_does_not_trace_itself_never_imports_opentelemetry() -> None:
    code = (
        "import sys, sandpool; from sandpool.tracing import current_traceparent as c; "
        "assert c() == ''; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
