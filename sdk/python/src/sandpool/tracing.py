"""The trace in which a job is submitted, where the calling program traces itself with OpenTelemetry.

Called by `sandpool.session` for each job. Imports nothing: a program that has a current span has imported OpenTelemetry
already, and for any other this costs one look into a dictionary.
"""

from __future__ import annotations

import sys


def current_traceparent() -> str:
    """W3C trace context of the current span; empty where there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
