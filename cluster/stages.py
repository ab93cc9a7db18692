"""What has to happen for a job, one stage after the other: (run, rules) -> stages. Pure; carried out by the scheduler.

A stage is what it needs of a node, and the work made of it once it is placed. One story for every kind of job:

    python, command                     a sandbox with its code
    sql on PostgreSQL                   a slot of the database's pool
    sql on DuckDB or SQLite             a sandbox with the engine in it
    ... with a transform                and then a sandbox with the rows and the transform's code
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster import tasks
from cluster.admission import Admitted
from cluster.placement import GpuNeed, Need, SandboxNeed
from cluster.run import Rules, Run
from sandpool.job import CommandJob, Gpu, PythonJob, SqlJob
from workers.attempt import Attempt, Statement
from workers.errors import WorkerError
from workers.sandbox.limits import Limits
from workers.sandbox.task import SandboxTask


class ExtractionUnsupported(WorkerError):
    """An engine inside a sandbox reads its files in one go."""

    code = "extraction.engine"


Work = Statement | SandboxTask


@dataclass(frozen=True, slots=True)
class Stage:
    """`work` is called when the stage is placed: with the limits of that moment, and how the stage before ended."""

    need: Need
    work: Callable[[Admitted, Attempt | None], Work]


def stages_of(run: Run, admitted: Admitted, rules: Rules) -> tuple[Stage, ...]:
    """The stages of a job that was admitted, and that the policy allowed where it is a statement."""
    job = run.job
    whose = tasks.Whose(run.tenant, job.id, run.number)
    if not isinstance(job, SqlJob):
        return (_code_stage(job, whose, admitted, rules),)
    engine = rules.engines.get(job.database)
    first = Stage(Need(job.database), lambda limits, _: run.statement(limits))
    if engine is not None:
        if job.extraction is not None:
            raise ExtractionUnsupported("extractions run on PostgreSQL only", hint="leave `extraction` out")
        assert run.verdict is not None
        sql = run.verdict.sql
        first = _table_stage(run, admitted, lambda limits, _: tasks.query_task(job, whose, limits, engine, sql))
    if not job.transform:
        return (first,)
    return first, _table_stage(run, admitted, lambda limits, rows: _transform(job, whose, limits, rows))


def _code_stage(job: PythonJob | CommandJob, whose: tasks.Whose, admitted: Admitted, rules: Rules) -> Stage:
    task = tasks.code_task(job, whose, admitted, rules.engines)
    need = _need(task.image, task.limits, whose.tenant, job.gpu, job.node_labels, task.databases)
    return Stage(need, lambda limits, _: tasks.code_task(job, whose, limits, rules.engines))


def _table_stage(run: Run, admitted: Admitted, work: Callable[[Admitted, Attempt | None], Work]) -> Stage:
    limits = tasks.table_limits(admitted)
    return Stage(_need(tasks.DATA_IMAGE, limits, run.tenant), work)


def _transform(job: SqlJob, whose: tasks.Whose, admitted: Admitted, before: Attempt | None) -> SandboxTask:
    assert before is not None
    return tasks.transform_task(job, whose, admitted, before.manifest.parts)


def _need(
    image: str,
    limits: Limits,
    tenant: str,
    gpu: Gpu | None = None,
    labels: dict[str, str] | None = None,
    databases: tuple[str, ...] = (),
) -> Need:
    cards = GpuNeed(gpu.count, gpu.memory_bytes, gpu.model, gpu.mig) if gpu else None
    return Need(
        sandbox=SandboxNeed(
            image=image,
            cpus=limits.cpus,
            memory_bytes=limits.memory_bytes,
            gpu=cards,
            labels=labels or {},
            tenant=tenant,
            databases=databases,
        )
    )
