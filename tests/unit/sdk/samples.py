"""One full and one minimal message of every kind, with every value fixed: what the golden files are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandpool.job import SqlJob
from sandpool.outcome import Column, Ending, ErrorInfo, Manifest, Outcome, Part, Usage, Verdict
from sandpool.wire import (
    ControlCall,
    JobStatus,
    encode_control,
    encode_job,
    encode_outcome,
    encode_record,
    encode_status,
)

MOMENT = datetime(2026, 11, 23, 17, 0, 0, 250_000, tzinfo=UTC)

FULL_JOB = SqlJob(
    id="01a2097299d325d97f1fcfc23f728480",
    database="flights",
    sql="select carrier, count(*) from flights where origin = $1 and day = $2 group by carrier",
    params=("JFK", 1, 2.5, None, True, [1, 2], {"k": "v"}),
    writes=True,
    priority="interactive",
    timeout_s=12.5,
    deadline=MOMENT,
    max_rows=1000,
    max_bytes=1_000_000,
    volume="archive",
    retention_s=86_400,
    max_attempts=5,
    labels={"team": "ops"},
)
MINIMAL_JOB = SqlJob(id="j1", database="flights", sql="select 1")
FULL_OUTCOME = Outcome(
    job_id="j1",
    tenant="acme",
    ending=Ending.OutputCapped,
    digest="0" * 64,
    volume="results",
    volume_url="s3://bucket/prefix",
    attempt=2,
    verdict=Verdict(True, sql="SELECT 1 AS n", statement="select"),
    error=ErrorInfo("result.rows", "more than 2 rows", "raise max_rows", "", False),
    usage=Usage(wait_s=0.5, run_s=1.25, rows=2, size_bytes=1234),
    manifest=Manifest(
        columns=(Column("n", "int32", "integer"),),
        parts=(Part("acme/j1/2-abc/part-00000.parquet", 2, 1234, "1" * 64),),
        rows=2,
        size_bytes=1234,
        partial=True,
    ),
    labels={"team": "ops"},
    ended_at=MOMENT,
    retain_until=MOMENT,
    inline=b"\x00\xff inline",
)
MINIMAL_OUTCOME = Outcome(
    job_id="j1", tenant="acme", ending=Ending.Succeeded, digest="0" * 64, volume="results", ended_at=MOMENT
)

GOLDEN: dict[str, tuple[bytes, Any]] = {
    "job-sql-full": (encode_job(FULL_JOB), FULL_JOB),
    "job-sql-minimal": (encode_job(MINIMAL_JOB), MINIMAL_JOB),
    "outcome-full": (encode_outcome(FULL_OUTCOME), FULL_OUTCOME),
    "outcome-minimal": (encode_outcome(MINIMAL_OUTCOME), MINIMAL_OUTCOME),
    "record-full": (encode_record(FULL_OUTCOME), None),
    "control-cancel": (
        encode_control(ControlCall(action="cancel", job_id="j1", volume="archive", digest="0" * 64)),
        ControlCall(action="cancel", job_id="j1", volume="archive", digest="0" * 64),
    ),
    "control-status": (
        encode_control(ControlCall(action="status", job_id="j1")),
        ControlCall(action="status", job_id="j1"),
    ),
    "status-running": (
        encode_status(JobStatus(job_id="j1", state="running")),
        JobStatus(job_id="j1", state="running"),
    ),
    "status-ended": (
        encode_status(JobStatus(job_id="j1", state="ended", outcome=MINIMAL_OUTCOME)),
        JobStatus(job_id="j1", state="ended", outcome=MINIMAL_OUTCOME),
    ),
}
