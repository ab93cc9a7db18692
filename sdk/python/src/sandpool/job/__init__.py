"""What a job is: one immutable unit of work, with an id that is its idempotency key.

A job never names its tenant: the tenant is the broker user who published it, which the broker itself verifies.
Built by services (`sandpool.SqlJob(...)`, `PythonJob`, `CommandJob`), decoded from the wire by `sandpool.wire`.

In import order: `fields` (checks), `limits`, `extraction`, `sql`, `code`. To add a kind: its struct, a line in KINDS,
golden files.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from sandpool.job.code import CommandJob, PythonJob
from sandpool.job.extraction import Extraction
from sandpool.job.fields import MAX_TIMEOUT_S, Group, Priority, check_job_id, check_object, new_job_id
from sandpool.job.limits import Gpu, Limits
from sandpool.job.sql import MAX_SQL_BYTES, SqlJob

__all__ = [
    "KINDS",
    "MAX_SQL_BYTES",
    "MAX_TIMEOUT_S",
    "CommandJob",
    "Extraction",
    "Gpu",
    "Group",
    "Job",
    "Limits",
    "Priority",
    "PythonJob",
    "SqlJob",
    "check_job_id",
    "check_object",
    "digest",
    "is_expired",
    "kind_of",
    "new_job_id",
    "work_of",
]

Job = SqlJob | PythonJob | CommandJob
"""Every kind of job."""

KINDS: dict[str, type[SqlJob] | type[PythonJob] | type[CommandJob]] = {
    "sql": SqlJob,
    "python": PythonJob,
    "command": CommandJob,
}
"""The envelope's `kind` -> the type of its `job`."""

_KIND_OF = {cls: kind for kind, cls in KINDS.items()}

# How soon and how often a job runs is not what it does: these may differ between two submissions of one id.
_NOT_IDENTITY = ("id", "priority", "timeout_s", "deadline", "max_attempts", "retention_s", "labels", "group")


def kind_of(job: Job) -> str:
    """The envelope's name for this kind of job."""
    return _KIND_OF[type(job)]


def work_of(job: Job) -> dict[str, Any]:
    """What the job does, as plain values: equal for two submissions of the same work."""
    work: dict[str, Any] = msgspec.to_builtins(job)
    for field in _NOT_IDENTITY:
        work.pop(field, None)
    return work


def digest(job: Job) -> str:
    """SHA-256 (hex) of what the job does: equal for two submissions of the same work under one id."""
    return hashlib.sha256(msgspec.json.encode([kind_of(job), work_of(job)], order="deterministic")).hexdigest()


def is_expired(job: Job, now: datetime) -> bool:
    """Whether nobody wants this job's result any more."""
    return job.deadline is not None and now.astimezone(UTC) >= job.deadline
