"""Spans of a job, whoever collects them: a narrow door behind which OpenTelemetry stands, or nothing.

Used by `cluster.observing`. `cluster.tracing_otel` is the real one, built by the conductor where `[telemetry]` asks for
it. A trace comes in with the headers of a job's message (W3C `traceparent`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Span(Protocol):
    """One timed piece of a trace."""

    @property
    def traceparent(self) -> str:
        """W3C trace context of this span; empty where nothing is traced."""

    def note(self, name: str, value: str | int | float) -> None:
        """One attribute more."""

    def end(self, error: str = "") -> None:
        """Over now; `error` is the code of what went wrong."""


class Tracing(Protocol):
    """Begins spans. Never raises, never waits."""

    def job(self, headers: Mapping[str, str], attributes: Mapping[str, str | int]) -> Span:
        """The span of a job from its taking to its settlement, as part of the trace in its message's headers."""

    def stage(self, job: Span, name: str) -> Span:
        """The span of one stage of it."""

    def past(self, parent: Span, name: str, began_ns: int, took_ns: int, attributes: Mapping[str, str]) -> None:
        """A span below another that is over: what somebody else measured. `began_ns`: of the wall clock."""

    def close(self) -> None:
        """Send what is waiting to be sent, within a few seconds."""


class NoSpan:
    """A span where nothing is traced."""

    traceparent = ""

    def note(self, name: str, value: str | int | float) -> None:
        return

    def end(self, error: str = "") -> None:
        return


NO_SPAN = NoSpan()


class NoTracing:
    """Where nobody asked for traces."""

    def job(self, headers: Mapping[str, str], attributes: Mapping[str, str | int]) -> Span:
        return NO_SPAN

    def stage(self, job: Span, name: str) -> Span:
        return NO_SPAN

    def past(self, parent: Span, name: str, began_ns: int, took_ns: int, attributes: Mapping[str, str]) -> None:
        return

    def close(self) -> None:
        return
