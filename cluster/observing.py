"""What happens to jobs, told to the metrics and the traces: one call for each thing that happens.

Used by the scheduler and the control room, which know neither metric nor span. Costs some 60 us of CPU a job with
Ray's recorder (one measurement, on a busy machine).
"""

from __future__ import annotations

import hashlib
import time
from types import TracebackType

from cluster import metrics
from cluster.metrics import NoRecorder, Recorder
from cluster.run import Run
from cluster.tracing import NoTracing, Span, Tracing
from sandpool.job import kind_of
from sandpool.outcome import Ending, Outcome
from workers.attempt import Attempt
from workers.sql.spec import name_at_server


class StageWatch:
    """Times one stage of one job: `with`."""

    __slots__ = ("_observer", "_run", "_span", "_stage", "_started_s")

    def __init__(self, observer: Observer, run: Run, stage: str) -> None:
        self._observer = observer
        self._run = run
        self._stage = stage

    def __enter__(self) -> Span:
        self._started_s = time.perf_counter()
        self._span = self._observer.tracing.stage(self._run.span, self._stage)
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took_s = time.perf_counter() - self._started_s
        self._observer.recorder.observe(metrics.STAGE, took_s, self._stage, kind_of(self._run.job))
        self._span.end(kind.__name__ if kind else "")


class Observer:
    """Where the scheduler says what happens."""

    def __init__(self, recorder: Recorder | None = None, tracing: Tracing | None = None) -> None:
        self.recorder: Recorder = recorder or NoRecorder()
        self.tracing: Tracing = tracing or NoTracing()

    def taken(self, run: Run) -> None:
        """A message became a job here."""
        kind, delivery = kind_of(run.job), run.delivery
        if delivery.submitted_at_s:
            self.recorder.observe(metrics.STAGE, max(0.0, time.time() - delivery.submitted_at_s), "queue", kind)
        run.span = self.tracing.job(
            delivery.headers,
            {
                "sandpool.job": run.job.id,
                "sandpool.tenant": run.tenant,
                "sandpool.kind": kind,
                "sandpool.attempt": run.number,
                "messaging.system": "rabbitmq",
                "messaging.destination.name": delivery.queue,
            },
        )

    def left(self, run: Run) -> None:
        """The scheduler is done with it, be it ended or gone back."""
        run.span.end()

    def stage(self, run: Run, name: str) -> StageWatch:
        """`with`: one stage of this job."""
        return StageWatch(self, run, name)

    def attempted(self, run: Run, attempt: Attempt, span: Span) -> None:
        """A worker has answered, within this span; what it measured becomes spans below."""
        if span.traceparent:
            self._trace_worker(run, attempt, span)
        self.recorder.add(metrics.ATTEMPTS, 1, kind_of(run.job), str(attempt.ending))
        if attempt.usage.hand_out_s:
            image = attempt.usage.image.partition("@")[0]
            self.recorder.observe(metrics.HAND_OUT, attempt.usage.hand_out_s, image)

    def _trace_worker(self, run: Run, attempt: Attempt, span: Span) -> None:
        """Its clock is not asked: the attempt ended when it came, less what it was under way."""
        span.note("sandpool.attempt_id", attempt.attempt_id)
        attributes = _database_of(run)
        began_ns = time.time_ns() - int(attempt.usage.run_s * 1e9)
        for timing in attempt.timings:
            at_ns = began_ns + int(timing.began_s * 1e9)
            self.tracing.past(span, timing.stage, at_ns, int(timing.took_s * 1e9), attributes)

    def ended(self, run: Run, outcome: Outcome) -> None:
        """This job's ending was recorded here."""
        self.recorder.add(metrics.JOBS, 1, run.tenant, kind_of(run.job), str(outcome.ending))
        if outcome.ending is Ending.Denied and outcome.error is not None:
            self.recorder.add(metrics.DENIALS, 1, outcome.error.code)
        if outcome.usage.rows:
            self.recorder.add(metrics.ROWS, outcome.usage.rows, run.tenant)
        if outcome.usage.size_bytes:
            self.recorder.add(metrics.BYTES, outcome.usage.size_bytes, run.tenant)
        run.span.note("sandpool.ending", str(outcome.ending))

    def retried(self, run: Run, code: str) -> None:
        """It goes back to the broker."""
        self.recorder.add(metrics.RETRIES, 1, code)
        run.span.note("sandpool.retry", code)

    def parked(self, tenant: str) -> None:
        """It waits in its tenant's own queue."""
        self.recorder.add(metrics.PARKED, 1, tenant)

    def died(self, reason: str) -> None:
        """A message became a dead letter; of its reason the code counts, not what was wrong with it."""
        self.recorder.add(metrics.DEAD, 1, reason.partition(":")[0])


def _database_of(run: Run) -> dict[str, str]:
    """By what a span finds its statement at the server (in `pg_stat_activity` and the server's log) and in the audit:
    the name under which the connection ran it, and a digest. Never the text."""
    if run.need is None or run.need.sandbox is not None or run.verdict is None:
        return {}
    return {
        "db.system": "postgresql",
        "db.namespace": run.need.database,
        "db.application_name": name_at_server(run.job.id),
        "db.statement.digest": hashlib.sha256(run.verdict.sql.encode()).hexdigest()[:16],
    }
