"""May this job run, and with which limits? Pure: (job, tenant's rules, database's limits, now) -> Admitted or Refused.

Called by the scheduler for each job taken, before the policy looks at the SQL. Never awaits, never reads anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sandpool.job import Job, SqlJob, is_expired
from sandpool.outcome import Ending, ErrorInfo, Verdict


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What one tenant may use."""

    databases: frozenset[str]
    volumes: tuple[str, ...]
    """The first one also records what cannot be recorded where the job asked."""
    max_timeout_s: float
    max_attempts: int


@dataclass(frozen=True, slots=True)
class DatabaseLimits:
    """Ceilings of one database: the policy's, and the longest statement the pool lets run."""

    max_rows: int
    max_bytes: int
    max_cost: float | None
    statement_timeout_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job may go to the policy; every limit is the lowest of what job, tenant and database say."""

    timeout_s: float
    max_rows: int
    max_bytes: int
    max_cost: float | None
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The job ends here."""

    ending: Ending
    error: ErrorInfo
    verdict: Verdict | None = None


def admit(job: Job, tenant: TenantRules, databases: Mapping[str, DatabaseLimits], now: datetime) -> Admitted | Refused:
    """The first rule that refuses wins. A database that exists but is not the tenant's is answered like an unknown one,
    so that names cannot be probed."""
    if is_expired(job, now):
        return Refused(Ending.TimedOut, ErrorInfo("job.expired", "the deadline passed before the job could start"))
    if not isinstance(job, SqlJob):
        return _deny("sandbox.none", "this cluster has no sandboxes: it runs no code", "ask the operator")
    if job.database not in tenant.databases or job.database not in databases:
        return _deny("database.unknown", f"no database {job.database!r} for this tenant", "ask for the right to it")
    if job.volume not in tenant.volumes:
        return _deny("volume.unknown", f"no volume {job.volume!r} for this tenant", "ask for the right to it")
    limits = databases[job.database]
    remaining_s = (job.deadline - now).total_seconds() if job.deadline else job.timeout_s
    return Admitted(
        timeout_s=min(job.timeout_s, tenant.max_timeout_s, limits.statement_timeout_s, remaining_s),
        max_rows=min(job.max_rows or limits.max_rows, limits.max_rows),
        max_bytes=min(job.max_bytes or limits.max_bytes, limits.max_bytes),
        max_cost=limits.max_cost,
        max_attempts=min(job.max_attempts, tenant.max_attempts),
    )


def denied(verdict: Verdict) -> Refused:
    """The refusal for a statement that the policy denied."""
    return Refused(Ending.Denied, ErrorInfo(verdict.rule, verdict.reason), verdict)


def _deny(rule: str, message: str, hint: str) -> Refused:
    return Refused(Ending.Denied, ErrorInfo(rule, message, hint), Verdict(False, rule, message))
