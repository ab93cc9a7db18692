"""One full and one minimal message of every kind, with every value fixed: what the golden files are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandpool.job import CommandJob, Gpu, Limits, PythonJob, SqlJob
from sandpool.outcome import Column, Display, Ending, ErrorInfo, File, Manifest, Outcome, Part, Said, Usage, Verdict
from sandpool.wire import (
    ControlCall,
    Explanation,
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
TRANSFORM_JOB = SqlJob(id="j1", database="flights", sql="select 1 as n", transform="result = df * 2")
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
FULL_PYTHON = PythonJob(
    id="01a2097299d325d97f1fcfc23f728481",
    code="import os\nprint(open('/in/delays.parquet', 'rb').read(4))\n'ä'",
    name="delays.py",
    image="data@0123456789ab",
    inputs={"delays.parquet": "results:acme/j1/1-abc/part-00000.parquet", "more": "results:acme/j2/"},
    outputs=("*.png", "tables/**"),
    env={"LIMIT": "10"},
    limits=Limits(memory_bytes=1 << 30, cpus=0.5, processes=64, output_bytes=1000, files=10, files_bytes=1 << 20),
    databases=("flights",),
    gpu=Gpu(count=2, memory_bytes=1 << 34, model="A100", mig="1g.5gb"),
    priority="interactive",
    timeout_s=12.5,
    deadline=MOMENT,
    volume="archive",
    retention_s=86_400,
    max_attempts=5,
    labels={"team": "ops"},
    node_labels={"zone": "a"},
)
MINIMAL_PYTHON = PythonJob(id="j1", code="1 + 1")
FULL_COMMAND = CommandJob(id="j1", argv=("wc", "-c"), stdin=b"\x00\xff", image="base", outputs=("*",), env={"A": "1"})
MINIMAL_COMMAND = CommandJob(id="j1", argv=("true",))
CODE_OUTCOME = Outcome(
    job_id="j1",
    tenant="acme",
    ending=Ending.Failed,
    digest="0" * 64,
    volume="results",
    volume_url="file:///srv/results",
    error=ErrorInfo("code.raised", "ValueError: no"),
    usage=Usage(
        run_s=1.5, cpu_s=0.25, peak_memory_bytes=1 << 27, output_bytes=7, input_bytes=12, hand_out_s=0.01,
        image="data@0123456789ab",
    ),
    manifest=Manifest(
        files=(File("plots/a b.png", "acme/j1/1-abc/out/plots/a!20b.png", 3, "2" * 64),),
        displays=(Display("text/html", "acme/j1/1-abc/display/0-0.html", 4, "3" * 64, data=b"<p/>"),
                  Display("image/png", "acme/j1/1-abc/display/1-0.png", 5, "4" * 64, item=1)),
        omitted=1,
    ),
    said=Said(
        stdout="out\n", stderr="err\n", value="4", exit_code=1,
        stdout_file=File("stdout", "acme/j1/1-abc/text/stdout", 4, "5" * 64),
    ),
    ended_at=MOMENT,
)  # fmt: skip

EXPLANATION = Explanation(
    state="waiting", reason="all 4 slots of 'flights' are busy", code="placement.wait",
    attempt=2, node="n", since_s=1.5, in_line=3,
)  # fmt: skip

GOLDEN: dict[str, tuple[bytes, Any]] = {
    "job-sql-full": (encode_job(FULL_JOB), FULL_JOB),
    "job-sql-minimal": (encode_job(MINIMAL_JOB), MINIMAL_JOB),
    "job-python-full": (encode_job(FULL_PYTHON), FULL_PYTHON),
    "job-python-minimal": (encode_job(MINIMAL_PYTHON), MINIMAL_PYTHON),
    "job-command-full": (encode_job(FULL_COMMAND), FULL_COMMAND),
    "job-command-minimal": (encode_job(MINIMAL_COMMAND), MINIMAL_COMMAND),
    "job-sql-transform": (encode_job(TRANSFORM_JOB), TRANSFORM_JOB),
    "outcome-code": (encode_outcome(CODE_OUTCOME), CODE_OUTCOME),
    "record-code": (encode_record(CODE_OUTCOME), None),
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
    "control-explain": (
        encode_control(ControlCall(action="explain", job_id="j1")),
        ControlCall(action="explain", job_id="j1"),
    ),
    "status-explained": (
        encode_status(JobStatus(job_id="j1", state="running", why=EXPLANATION)),
        JobStatus(job_id="j1", state="running", why=EXPLANATION),
    ),
    "control-output": (
        encode_control(ControlCall(action="output", job_id="j1", stdout_from=7, stderr_from=9)),
        ControlCall(action="output", job_id="j1", stdout_from=7, stderr_from=9),
    ),
    "status-output": (
        encode_status(JobStatus(job_id="j1", state="running", attempt=2, stdout=b"out\xff", stderr=b"err")),
        JobStatus(job_id="j1", state="running", attempt=2, stdout=b"out\xff", stderr=b"err"),
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
