"""Builds attempts and outcomes: the values that are recorded. Pure; called by the scheduler and the control room."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from cluster.admission import Refused
from cluster.run import Run
from queues.door import Delivery
from sandpool.outcome import Ending, ErrorInfo, Outcome, Verdict
from workers.attempt import Attempt
from workers.errors import WorkerError
from workers.volumes.spec import VolumeSpec

MAX_RETENTION_S = 100 * 366 * 86_400
"""Longer than this is for ever: later moments do not fit into every calendar."""
SCHEDULER_ERROR = "scheduler.error"
"""Error code, and word in a job's history, of an attempt that ended by a bug of ours."""
POISON = "job.poison"
"""Error code of a job that took its scheduler or worker with it too often."""


def conclude(run: Run, attempt: Attempt, now: datetime) -> Outcome:
    """The outcome of a job whose attempt was its last."""
    retention_s = run.job.retention_s or run.home.retention_s
    submitted_s = run.delivery.submitted_at_s
    wait_s = max(0.0, now.timestamp() - submitted_s - attempt.usage.run_s) if submitted_s else 0.0
    return Outcome(
        job_id=run.job.id,
        tenant=run.tenant,
        ending=attempt.ending,
        digest=run.digest,
        volume=run.home.name,
        volume_url=run.home.url,
        attempt=run.number,
        verdict=run.verdict,
        error=attempt.error,
        usage=msgspec.structs.replace(attempt.usage, wait_s=round(wait_s, 6)),
        manifest=attempt.manifest,
        labels=run.job.labels,
        ended_at=now,
        retain_until=_after(now, retention_s) if retention_s else None,
        inline=attempt.inline,
        said=attempt.said,
    )


def refused(run: Run, refusal: Refused) -> Attempt:
    """The attempt of a job that admission or the policy refused."""
    if run.verdict is None:
        run.verdict = refusal.verdict
    return Attempt(job_id=run.job.id, attempt_id="", ending=refusal.ending, error=refusal.error)


def failed(run: Run, error: WorkerError) -> Attempt:
    """The attempt that a worker's error ended before it could run."""
    return Attempt(job_id=run.job.id, attempt_id="", ending=error.ending, error=error.info())


def failed_here(run: Run) -> Attempt:
    """The attempt that an error of the scheduler's own ended, time and again."""
    error = ErrorInfo(SCHEDULER_ERROR, "the scheduler failed on this job", "its log says why; submit under a new id")
    return Attempt(job_id=run.job.id, attempt_id="", ending=Ending.Failed, error=error)


def unrecorded(run: Run, error: WorkerError, now: datetime) -> Outcome:
    """What the caller hears when no ending can be recorded, ever: what lies in the record's place is no record."""
    return conclude(run, failed(run, error), now)


def lost(run: Run, code: str, message: str) -> Attempt:
    """The attempt whose worker is gone."""
    error = ErrorInfo(code, message, retryable=code != POISON)
    return Attempt(job_id=run.job.id, attempt_id="", ending=Ending.Lost, error=error)


def never(run: Run, reason: str) -> Attempt:
    """The attempt of a job that no node could run as the cluster is now: waiting would be silence."""
    hint = "ask for less or for something else, or have the cluster changed; then submit it again"
    error = ErrorInfo("placement.never", reason, hint)
    return Attempt(job_id=run.job.id, attempt_id="", ending=Ending.Failed, error=error)


def stopped(run: Run) -> Attempt:
    """The attempt of a job that was cancelled while it waited for a slot."""
    error = ErrorInfo("job.cancelled", "cancelled before it ran")
    return Attempt(job_id=run.job.id, attempt_id="", ending=Ending.Cancelled, error=error)


def tombstone(job_id: str, tenant: str, home: VolumeSpec, work_digest: str, now: datetime, retention_s: int) -> Outcome:
    """The record that cancels a job which does not run here: whoever takes it later finds this ending and adopts it."""
    return Outcome(
        job_id=job_id,
        tenant=tenant,
        ending=Ending.Cancelled,
        digest=work_digest,
        volume=home.name,
        volume_url=home.url,
        error=ErrorInfo("job.cancelled", "cancelled before it ran"),
        ended_at=now,
        retain_until=_after(now, retention_s),
    )


def unacceptable(delivery: Delivery, reason: str, now: datetime) -> Outcome | None:
    """What the publisher of a dead-lettered message hears, where the broker vouches for who that is and an answer is
    waited for. Never recorded: there is no job, or nobody with a right to a record."""
    if not delivery.tenant or not delivery.reply_to or not delivery.message_id:
        return None
    code, _, detail = reason.partition(": ")
    message = detail or {"tenant.unknown": f"no tenant {delivery.tenant!r} is registered here"}.get(code, code)
    return Outcome(
        job_id=delivery.message_id[:64],
        tenant=delivery.tenant,
        ending=Ending.Denied,
        digest="",
        volume="",
        error=ErrorInfo(code, message, "ask the operator; the message is kept as a dead letter"),
        verdict=Verdict(False, code, message),
        ended_at=now,
    )


def conflict(run: Run, recorded: Outcome) -> Outcome:
    """What the caller hears who reused a job id for other work. Never recorded: the first work's record stands."""
    message = f"job id {run.job.id} was already used for different work"
    return Outcome(
        job_id=run.job.id,
        tenant=run.tenant,
        ending=Ending.Denied,
        digest=run.digest,
        volume=run.home.name,
        error=ErrorInfo("job.id_conflict", message, "submit this job under a new id"),
        verdict=Verdict(False, "job.id_conflict", message),
        ended_at=recorded.ended_at,
    )


def _after(now: datetime, retention_s: int) -> datetime:
    return now + timedelta(seconds=min(retention_s, MAX_RETENTION_S))
