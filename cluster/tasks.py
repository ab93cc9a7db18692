"""What a host gets to do for a job: the task of one attempt, with every limit resolved. Pure; called by
`cluster.stages`.

Three of them: code that a tenant sent, Python that treats the rows of a statement, a statement on an engine that runs
inside a sandbox. What may be in them was decided before, by admission and by the policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from cluster.admission import Admitted
from cluster.placement import Need
from sandpool.job import CommandJob, PythonJob, SqlJob, check_object
from sandpool.outcome import Part
from workers.gpu.shares import Share
from workers.sandbox.jobs.programs import TABLE_FOLDER
from workers.sandbox.limits import GIB, Limits
from workers.sandbox.task import DatabaseFile, Input, Query, SandboxTask

TRACE_VARIABLE = "TRACEPARENT"
"""OpenTelemetry's name for W3C trace context in an environment."""
DATA_IMAGE = "data"
"""Has what our own code inside needs: pyarrow, pandas, DuckDB."""
TABLE_MEMORY_BYTES = 2 * GIB
"""For code that holds a whole result. Its disk stays the usual one: sandboxes of another size are never warm."""


@dataclass(frozen=True, slots=True)
class Whose:
    """The attempt that a task is for."""

    tenant: str
    job_id: str
    number: int


@dataclass(frozen=True, slots=True)
class EngineRules:
    """A database whose engine runs inside a sandbox: where its file, or its folder of Parquet files, lies."""

    engine: Literal["duckdb", "sqlite"]
    volume: str
    key: str
    keeps_back: str = ""
    """What its policy does not show of it, in a few words; empty: code may have it whole."""

    @property
    def is_folder(self) -> bool:
        """Parquet files, each a table named like the file or, for several files, like their folder."""
        return self.key.endswith("/")

    @property
    def path(self) -> str:
        """Below /in."""
        return "database" if self.is_folder else f"database/{self.key.rpartition('/')[2]}"

    @property
    def source(self) -> Input:
        return Input(self.path, self.volume, self.key, tables_only=self.is_folder)

    def as_file(self, name: str) -> DatabaseFile:
        """As code finds it that may have it whole: /in/databases/NAME/FILE, or the folder /in/databases/NAME."""
        path = f"databases/{name}" + ("" if self.is_folder else f"/{self.key.rpartition('/')[2]}")
        return DatabaseFile(name, self.engine, Input(path, self.volume, self.key, tables_only=self.is_folder))


def code_task(
    job: PythonJob | CommandJob, whose: Whose, admitted: Admitted, engines: Mapping[str, EngineRules]
) -> SandboxTask:
    """Code that a tenant sent. Its databases in `engines` come as files, the others through their pools."""
    inputs = tuple(Input(path, *check_object(source, "inputs")) for path, source in sorted(job.inputs.items()))
    asked: dict[str, Any] = {
        "image": job.image,
        "inputs": inputs,
        "outputs": job.outputs,
        "env": job.env,
        "databases": tuple(name for name in job.databases if name not in engines),
        "files": tuple(engines[name].as_file(name) for name in dict.fromkeys(job.databases) if name in engines),
    }
    if isinstance(job, CommandJob):
        asked |= {"kind": "command", "argv": job.argv, "stdin": job.stdin}
    else:
        source = Input("", *check_object(job.file, "file")) if job.file else None
        asked |= {"kind": "code", "code": job.code, "code_file": source, "name": job.name}
    return _task(whose, admitted, admitted.limits, volume=job.volume, **asked)


def transform_task(job: SqlJob, whose: Whose, admitted: Admitted, parts: Sequence[Part]) -> SandboxTask:
    """Python that makes something of the rows in these parts."""
    inputs = tuple(
        Input(f"{TABLE_FOLDER}/part-{number:05d}.parquet", job.volume, part.key, part.sha256)
        for number, part in enumerate(parts)
    )
    return _table_task(
        "transform", whose, admitted, volume=job.volume, inputs=inputs, code=job.transform, name="transform.py"
    )


def query_task(job: SqlJob, whose: Whose, admitted: Admitted, rules: EngineRules, sql: str) -> SandboxTask:
    """A statement that the policy allowed, in the verdict's own words."""
    asked = Query(engine=rules.engine, sql=sql, params=tuple(job.params), path=rules.path, is_folder=rules.is_folder)
    return _table_task("query", whose, admitted, volume=job.volume, inputs=(rules.source,), query=asked)


def catalog_task(rules: EngineRules, admitted: Admitted) -> SandboxTask:
    """What the database holds, for the policy."""
    asked = Query(engine=rules.engine, sql="", path=rules.path, is_folder=rules.is_folder)
    whose = Whose("sandpool", "catalog", 1)
    return _table_task("catalog", whose, admitted, volume=rules.volume, inputs=(rules.source,), query=asked)


def _table_task(kind: str, whose: Whose, admitted: Admitted, **asked: Any) -> SandboxTask:
    """Our own code inside."""
    asked |= {"kind": kind, "image": DATA_IMAGE, "max_rows": admitted.max_rows, "max_bytes": admitted.max_bytes}
    return _task(whose, admitted, table_limits(admitted), **asked)


def table_limits(admitted: Admitted) -> Limits:
    """Room for a whole result."""
    limits = admitted.limits
    return replace(limits, memory_bytes=max(limits.memory_bytes, TABLE_MEMORY_BYTES))


def _task(whose: Whose, admitted: Admitted, limits: Limits, **asked: Any) -> SandboxTask:
    return SandboxTask(
        tenant=whose.tenant,
        job_id=whose.job_id,
        attempt_id=attempt_id(whose.number),
        limits=limits,
        timeout_s=admitted.timeout_s,
        most_input_bytes=admitted.room.input_bytes,
        most_files=admitted.room.files,
        most_files_bytes=admitted.room.files_bytes,
        **asked,
    )


def on_gpus(task: SandboxTask, gpus: tuple[str, ...], need: Need) -> SandboxTask:
    """The task with the GPUs of its placement, and how much of each it was promised."""
    if need.sandbox is None or need.sandbox.gpu is None:
        return task
    memory_bytes = need.sandbox.gpu.memory_bytes
    return msgspec.structs.replace(task, gpus=tuple(Share(uuid, memory_bytes) for uuid in gpus))


def traced(task: SandboxTask, traceparent: str) -> SandboxTask:
    """The task whose code finds the trace of its job in TRACEPARENT, unless it brings one of its own."""
    if not traceparent or task.kind not in ("code", "command") or TRACE_VARIABLE in task.env:
        return task
    return msgspec.structs.replace(task, env={**task.env, TRACE_VARIABLE: traceparent})


def attempt_id(number: int) -> str:
    """A name that no other attempt has."""
    return f"{number}-{secrets.token_hex(4)}"
