"""What goes to a worker and what comes back: one allowed statement, one attempt's ending. Data only, cheap to pickle.

The scheduler builds a `Statement` from a job and its verdict; a pool answers with an `Attempt`, which the scheduler
records. `Work` is what every kind of work has in common, all that a link or a mailbox needs to carry it.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from sandpool.outcome import Ending, ErrorInfo, Manifest, Said, Usage
from workers.errors import WorkerError


class Work(Protocol):
    """A piece of work for one worker; its JSON names the attempt that it becomes."""

    @property
    def tenant(self) -> str: ...
    @property
    def job_id(self) -> str: ...
    @property
    def attempt_id(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...


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
    ranges: tuple[str, ...] = ()
    """Allowed texts that together give the rows of `sql`, to be read at once in one snapshot; empty: `sql` alone."""


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """One stage of an attempt, as its worker measured it (`workers.timing`)."""

    stage: str
    began_s: float
    """After the beginning of the attempt at its worker."""
    took_s: float


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
    said: Said | None = None
    """What code in a sandbox printed and left."""
    timings: tuple[Timing, ...] = ()


def not_started(work: Work, error: WorkerError) -> Attempt:
    """The attempt that a worker refused before it began."""
    return Attempt(job_id=work.job_id, attempt_id=work.attempt_id, ending=error.ending, error=error.info())


# Parameters came as JSON and stay JSON: msgpack has no integers above 64 bits.
_encoder = msgspec.json.Encoder()
_statements = msgspec.json.Decoder(Statement)


def encode_statement(statement: Statement) -> bytes:
    """A statement as a pool's mailbox takes it."""
    return _encoder.encode(statement)


def decode_statement(data: bytes) -> Statement:
    """What `encode_statement` encoded."""
    return _statements.decode(data)
