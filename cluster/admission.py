"""May this job run, and with which limits? Pure: (job, tenant's rules, database's limits, now) -> Admitted or Refused.

Called by the scheduler for each job taken, before the policy looks at the SQL. Never awaits, never reads anything.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from cluster.fairness import EQUAL, Share
from cluster.sandbox_admission import Room, SandboxRules, refusal_of, room_of
from sandpool.job import Job, Limits, SqlJob, is_expired
from sandpool.outcome import Ending, ErrorInfo, Verdict
from workers.sandbox.limits import Limits as SandboxLimits


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What one tenant may use."""

    databases: frozenset[str]
    volumes: tuple[str, ...]
    """The first one also records what cannot be recorded where the job asked."""
    max_timeout_s: float
    max_attempts: int
    images: frozenset[str] | None = None
    """Images in which its code may run; None: every one."""
    share: Share = EQUAL


@dataclass(frozen=True, slots=True)
class DatabaseLimits:
    """Ceilings of one database: the policy's, and the longest statement the pool lets run."""

    max_rows: int
    max_bytes: int
    max_cost: float | None
    statement_timeout_s: float


_CODE = DatabaseLimits(max_rows=0, max_bytes=0, max_cost=None, statement_timeout_s=math.inf)
"""For code, which has limits of its own."""
_NOTHING, _USUAL = Limits(), SandboxRules()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job may go to the policy; every limit is the lowest of what job, tenant and database say."""

    timeout_s: float
    max_rows: int
    max_bytes: int
    max_cost: float | None
    max_attempts: int
    room: Room
    """In a sandbox, where the job needs one."""

    @property
    def limits(self) -> SandboxLimits:
        """Of that sandbox."""
        most = self.room.limits
        return replace(most, wall_s=min(max(self.timeout_s, 0.1), most.wall_s))


@dataclass(frozen=True, slots=True)
class Refused:
    """The job ends here."""

    ending: Ending
    error: ErrorInfo
    verdict: Verdict | None = None


def admit(
    job: Job,
    tenant: TenantRules,
    databases: Mapping[str, DatabaseLimits],
    now: datetime,
    *,
    name: str = "",
    sandboxes: SandboxRules | None = None,
    shared: Collection[str] = (),
    sealed: Mapping[str, str] | None = None,
) -> Admitted | Refused:
    """The first rule that refuses wins. A database that exists but is not the tenant's is answered like an unknown one,
    so that names cannot be probed. `name`: the tenant's; `shared`: volumes of which everybody may read everything;
    `sealed`: databases whose files code may not have, and why."""
    if is_expired(job, now):
        return Refused(Ending.TimedOut, ErrorInfo("job.expired", "the deadline passed before the job could start"))
    named = (job.database,) if isinstance(job, SqlJob) else job.databases
    for database in named:
        if database not in tenant.databases or database not in databases:
            return _deny("database.unknown", f"no database {database!r} for this tenant", "ask for the right to it")
        if sealed and database in sealed and not isinstance(job, SqlJob):
            return _deny("database.sealed", *sealed_words(database, sealed[database]))
    if job.volume not in tenant.volumes or job.volume in shared:
        return _deny("volume.unknown", f"no volume {job.volume!r} for this tenant", "ask for the right to it")
    limits = databases[job.database] if isinstance(job, SqlJob) else _CODE
    remaining_s = (job.deadline - now).total_seconds() if job.deadline else job.timeout_s
    timeout_s = min(job.timeout_s, tenant.max_timeout_s, limits.statement_timeout_s, remaining_s)
    if not isinstance(job, SqlJob) and (
        refusal := refusal_of(job, name, images=tenant.images, volumes=tenant.volumes, shared=shared)
    ):
        return _deny(*refusal)
    room = room_of(_NOTHING if isinstance(job, SqlJob) else job.limits, sandboxes or _USUAL)
    if not isinstance(room, Room):
        return _deny(*room)
    wanted = job if isinstance(job, SqlJob) else None
    return Admitted(
        timeout_s=timeout_s,
        max_rows=min((wanted and wanted.max_rows) or limits.max_rows, limits.max_rows),
        max_bytes=min((wanted and wanted.max_bytes) or limits.max_bytes, limits.max_bytes),
        max_cost=limits.max_cost,
        max_attempts=min(job.max_attempts, tenant.max_attempts),
        room=room,
    )


def sealed_words(database: str, keeps_back: str) -> tuple[str, str]:
    """(message, hint) for code that asks for a file of which its policy keeps something back."""
    message = f"code may not have the file of database {database!r}: {keeps_back}, and a file shows everything"
    return message, "submit a SqlJob on it, and name its result in `inputs` of the code (or use its `transform`)"


def denied(verdict: Verdict) -> Refused:
    """The refusal for a statement that the policy denied."""
    return Refused(Ending.Denied, ErrorInfo(verdict.rule, verdict.reason), verdict)


def _deny(rule: str, message: str, hint: str) -> Refused:
    return Refused(Ending.Denied, ErrorInfo(rule, message, hint), Verdict(False, rule, message))
