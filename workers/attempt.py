"""What goes to a worker and what comes back: one allowed statement, one attempt's ending. Data only, cheap to pickle.

The scheduler builds a `Statement` from a job and its verdict; a pool answers with an `Attempt`, which the scheduler
records.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sandpool.outcome import Ending, ErrorInfo, Manifest, Usage
from workers.errors import WorkerError


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement that the policy allowed, with every limit already resolved to a number."""

    tenant: str
    job_id: str
    attempt_id: str
    """Unique name of this attempt (`<number>-<random>`): its data lies under that name and nowhere else."""
    digest: str
    sql: str
    """The printed text of the verdict, never the caller's original."""
    params: tuple[Any, ...] = ()
    writes: bool = False
    """The verdict's statement is an INSERT, UPDATE, DELETE or MERGE."""
    timeout_s: float
    max_rows: int
    max_bytes: int
    """Most bytes of result as Arrow buffers in memory."""
    max_cost: float | None = None
    """Ceiling on the planner's total cost estimate; None: not checked."""
    volume: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one attempt ended. `error.retryable` asks the scheduler for another attempt."""

    job_id: str
    attempt_id: str
    ending: Ending
    error: ErrorInfo | None = None
    usage: Usage = Usage()
    manifest: Manifest = Manifest()
    inline: bytes = b""
    """The whole result as an Arrow IPC stream where it is at most INLINE_LIMIT_BYTES."""


def not_started(statement: Statement, error: WorkerError) -> Attempt:
    """The attempt that a worker refused before it began."""
    return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=error.ending, error=error.info())
