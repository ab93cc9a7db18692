"""Code jobs from queue to recorded ending on a scripted host: who is admitted, where it runs, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from cluster.placement import HostView, Node, PoolView
from cluster.sandbox_admission import SandboxRules
from cluster.tasks import EngineRules, traced
from sandpool import CommandJob, Limits, PythonJob, SqlJob
from sandpool.job import Gpu
from sandpool.outcome import Ending, ErrorInfo, Manifest, Outcome, Part, Said
from tests.unit.cluster.test_scheduler import House, ScriptedBench
from workers.attempt import Attempt, Statement
from workers.sandbox.limits import Limits as Enforced
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask
from workers.volumes.spec import VolumeSpec

GIB = 1 << 30


def done(task: SandboxTask) -> Attempt:
    ids = {"job_id": task.job_id, "attempt_id": task.attempt_id}
    return Attempt(**ids, ending=Ending.Succeeded, said=Said(stdout="out", value="42"))


class CodeBench(ScriptedBench):
    """A bench with one host of two places, whose every task does what the test's script says."""

    def __init__(self) -> None:
        super().__init__()
        self.host: HostView | None = HostView(
            cpus=2, memory_bytes=4 * GIB, most_sandboxes=2, images=frozenset({"data", "base"})
        )
        self.task_script: Callable[[SandboxTask], Attempt] = done
        self.tasks: list[SandboxTask] = []
        self.stopped: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    def nodes(self) -> list[Node]:
        running = len(self.tasks) - len(self.stopped) if not self.open.is_set() else 0
        host = self.host and replace(self.host, sandboxes=running)
        return [Node("n", {"flights": PoolView(4, self.busy)}, host)]

    async def run_task(self, node: str, task: SandboxTask) -> Attempt:
        self.tasks.append(task)
        await self.open.wait()
        return self.task_script(task)

    async def hear_task(self, node: str, tenant: str, job_id: str, stdout_from: int, stderr_from: int) -> Heard:
        return Heard(stdout=f"out of {tenant}".encode()[stdout_from:], stderr=b"err"[stderr_from:], running=True)

    async def cancel_task(self, node: str, tenant: str, job_id: str) -> None:
        self.stopped.append(job_id)
        error = ErrorInfo("job.cancelled", "cancelled while it ran")
        self.task_script = lambda task: Attempt(
            job_id=task.job_id, attempt_id=task.attempt_id, ending=Ending.Cancelled, error=error
        )
        self.open.set()


class CodeHouse(House):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.code_bench = CodeBench()
        self.bench = self.code_bench
        shared = VolumeSpec(name="sets", url=f"memory:///{name}-sets", shared=True)
        self.rules = replace(
            self.rules,
            volumes={**self.rules.volumes, "sets": shared},
            sandboxes=SandboxRules(most=replace(SandboxRules().most, memory_bytes=2 * GIB)),
        )

    async def open(self, prefetch: int = 8) -> None:
        await super().open(prefetch)
        for need in ("cpu", "gpu"):
            await self.door.consume(f"sandpool.jobs.{need}.batch", prefetch, self.scheduler.take)


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[CodeHouse]:
    house = CodeHouse(request.node.name.replace("[", "-").replace("]", ""))
    await house.open()
    yield house
    await house.close()


async def outcome_of(house: CodeHouse, job: Any) -> Outcome:
    client = await house.client()
    return await (await client.submit(job)).outcome(timeout=30)


async def test_code_runs_on_a_host_with_every_limit_resolved(house: CodeHouse) -> None:
    job = PythonJob(code="1", timeout_s=7, limits=Limits(memory_bytes=GIB, files=3), outputs=("*",), env={"A": "b"})
    outcome = await outcome_of(house, job)
    assert (outcome.ending, outcome.stdout, outcome.value) == (Ending.Succeeded, "out", "42")
    (task,) = house.code_bench.tasks
    assert (task.kind, task.tenant, task.code, task.image, task.timeout_s) == ("code", "acme", "1", "data", 7)
    assert task.limits == replace(Enforced(), memory_bytes=GIB, wall_s=7)
    assert (task.most_files, task.outputs, task.env) == (3, ("*",), {"A": "b"})
    assert (await outcome_of(house, CommandJob(argv=("true",), stdin=b"x", image="base"))).ending is Ending.Succeeded
    assert (house.code_bench.tasks[1].argv, house.code_bench.tasks[1].stdin) == (("true",), b"x")


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"inputs": {"x": "results:globex/j/1-a/out/x"}}, "input.foreign"),
        ({"inputs": {"x": "results:acme-not/x"}}, "input.foreign"),
        ({"inputs": {"x": "nowhere:acme/x"}}, "volume.unknown"),
        ({"code": "", "file": "results:globex/x.py"}, "input.foreign"),
        ({"volume": "sets"}, "volume.unknown"),
        ({"databases": ("secret",)}, "database.unknown"),
        ({"limits": Limits(memory_bytes=3 * GIB)}, "limits.memory_bytes"),
        ({"limits": Limits(files=50_000)}, "limits.files"),
    ],
)
async def test_code_without_the_right_is_denied_and_runs_nothing(
    house: CodeHouse, fields: dict[str, Any], rule: str
) -> None:
    outcome = await outcome_of(house, PythonJob(**{"code": "1", **fields}))
    assert (outcome.ending, outcome.error and outcome.error.code) == (Ending.Denied, rule)
    assert house.code_bench.tasks == []


async def test_code_reads_its_own_tenants_objects_and_shared_volumes(house: CodeHouse) -> None:
    inputs = {"own": "results:acme/j/1-a/out/x", "set": "sets:weather/", "deep/name": "results:acme/data/"}
    assert (await outcome_of(house, PythonJob(code="1", inputs=inputs))).ending is Ending.Succeeded
    staged = {(each.path, each.volume, each.key) for each in house.code_bench.tasks[0].inputs}
    assert ("set", "sets", "weather/") in staged and len(staged) == 3


async def test_code_runs_where_its_databases_have_pools(house: CodeHouse) -> None:
    assert (await outcome_of(house, PythonJob(code="1", databases=("flights",)))).ending is Ending.Succeeded
    assert house.code_bench.tasks[0].databases == ("flights",)


async def test_an_image_that_is_not_the_tenants_is_denied(house: CodeHouse) -> None:
    tenants = {**house.rules.tenants, "acme": replace(house.rules.tenants["acme"], images=frozenset({"base"}))}
    house.scheduler.rules = replace(house.rules, tenants=tenants)
    denied = await outcome_of(house, PythonJob(code="1", image="data@0123456789ab"))
    assert denied.error is not None and denied.error.code == "image.unknown"
    assert (await outcome_of(house, PythonJob(code="1", image="base"))).ending is Ending.Succeeded


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"image": "node"}, "no host has image 'node'"),
        ({"gpu": Gpu()}, "has a GPU"),
        ({"node_labels": {"zone": "b"}}, "label"),
        ({"limits": Limits(cpus=3)}, "CPUs"),
    ],
)
async def test_what_no_host_could_run_ends_at_once_with_the_reason(
    house: CodeHouse, fields: dict[str, Any], why: str
) -> None:
    outcome = await outcome_of(house, PythonJob(**{"code": "1", **fields}))
    assert outcome.ending is Ending.Failed and outcome.error is not None
    assert outcome.error.code == "placement.never"
    assert why in outcome.error.message


async def test_a_cluster_without_sandboxes_says_so(house: CodeHouse) -> None:
    house.code_bench.host = None
    outcome = await outcome_of(house, PythonJob(code="1"))
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == ("placement.never", "no node has a host for sandboxes")


async def test_a_full_host_lets_code_wait_and_a_free_place_wakes_it(house: CodeHouse) -> None:
    house.code_bench.open.clear()
    client = await house.client()
    handles = [await client.submit(PythonJob(code=str(number))) for number in range(5)]
    async with asyncio.timeout(5):
        while len(house.code_bench.tasks) < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(house.code_bench.tasks) == 2
    house.code_bench.open.set()
    house.scheduler.cluster_changed()
    outcomes = await asyncio.gather(*(handle.outcome(timeout=30) for handle in handles))
    assert {outcome.ending for outcome in outcomes} == {Ending.Succeeded}


async def test_a_host_that_refuses_costs_no_attempt(house: CodeHouse) -> None:
    def refuse(task: SandboxTask) -> Attempt:
        house.code_bench.task_script = done
        error = ErrorInfo("host.full", "all places are taken", retryable=True)
        return Attempt(job_id=task.job_id, attempt_id=task.attempt_id, ending=Ending.Failed, error=error)

    house.code_bench.task_script = refuse
    outcome = await outcome_of(house, PythonJob(code="1", max_attempts=1))
    assert (outcome.ending, outcome.attempt) == (Ending.Succeeded, 1)


async def test_running_code_is_cancelled_on_its_host(house: CodeHouse) -> None:
    house.code_bench.open.clear()
    client = await house.client()
    handle = await client.submit(PythonJob(code="1"))
    async with asyncio.timeout(5):
        while not house.code_bench.tasks:
            await asyncio.sleep(0.01)
    await handle.cancel()
    assert (await handle.outcome(timeout=30)).ending is Ending.Cancelled
    assert house.code_bench.stopped == [handle.job_id]


async def test_a_transform_gets_the_rows_of_its_statement_and_its_result_is_the_jobs(house: CodeHouse) -> None:
    rows = Part("acme/j/1-a/part-00000.parquet", 3, 10, "1" * 64)
    made = Part("acme/j/1-b/part-00000.parquet", 1, 5, "2" * 64)

    def selected(statement: Statement) -> Attempt:
        ids = {"job_id": statement.job_id, "attempt_id": statement.attempt_id}
        return Attempt(**ids, ending=Ending.Succeeded, manifest=Manifest(parts=(rows,), rows=3), inline=b"rows")

    house.bench.script = selected
    house.code_bench.task_script = lambda task: msgspec.structs.replace(
        done(task), manifest=Manifest(parts=(made,), rows=1, declared=True)
    )
    outcome = await outcome_of(house, SqlJob(database="flights", sql="select 1", transform="result = df"))
    assert (outcome.ending, outcome.manifest.parts, outcome.inline) == (Ending.Succeeded, (made,), b"")
    (task,) = house.code_bench.tasks
    assert (task.kind, task.code, task.image) == ("transform", "result = df", "data")
    assert [(each.path, each.key, each.sha256) for each in task.inputs] == [
        ("table/part-00000.parquet", rows.key, rows.sha256)
    ]
    assert (task.max_rows, task.max_bytes) == (1000, 10**6)


async def test_a_statement_that_fails_never_reaches_its_transform(house: CodeHouse) -> None:
    error = ErrorInfo("statement.failed", "division by zero")
    house.bench.script = lambda statement: Attempt(
        job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Failed, error=error
    )
    outcome = await outcome_of(house, SqlJob(database="flights", sql="select 1", transform="result = df"))
    assert (outcome.ending, house.code_bench.tasks) == (Ending.Failed, [])


async def test_what_a_job_writes_can_be_heard_while_it_runs_by_its_own_tenant(house: CodeHouse) -> None:
    house.code_bench.open.clear()
    job = PythonJob(code="1")
    for tenant in ("acme", "globex"):
        handle = await (await house.client(tenant)).submit(job)
        async with asyncio.timeout(5):
            while not (heard := await handle.output(1, 0)).stdout:
                await asyncio.sleep(0.01)
        assert (heard.state, heard.attempt, heard.stderr) == ("running", 1, b"err")
        assert heard.stdout == f"ut of {tenant}".encode()
    house.code_bench.open.set()
    await handle.outcome(timeout=30)
    assert (await handle.output()).state == "ended"


@pytest.mark.parametrize(
    ("kind", "traceparent", "env"),
    [
        ("code", "00-a-b-01", {"TRACEPARENT": "00-a-b-01"}),
        ("command", "00-a-b-01", {"TRACEPARENT": "00-a-b-01"}),
        ("query", "00-a-b-01", {}),
        ("code", "", {}),
    ],
)
def test_code_finds_the_trace_of_its_job_in_its_environment(kind: Any, traceparent: str, env: dict[str, str]) -> None:
    ids: dict[str, Any] = {"tenant": "acme", "job_id": "j", "attempt_id": "1-a", "image": "base", "volume": "results"}
    most = {"most_input_bytes": 1, "most_files": 1, "most_files_bytes": 1}
    task = SandboxTask(kind=kind, limits=Enforced(), timeout_s=1.0, **ids, **most)
    assert traced(task, traceparent).env == env
    own = msgspec.structs.replace(task, env={"TRACEPARENT": "mine"})
    assert traced(own, traceparent).env == {"TRACEPARENT": "mine"}


async def test_code_gets_a_database_file_whole_or_is_denied_with_what_to_do_instead(house: CodeHouse) -> None:
    engines = {
        "lite": EngineRules("sqlite", "sets", "a/f.sqlite"),
        "parts": EngineRules("duckdb", "sets", "parts/"),
        "hidden": EngineRules("sqlite", "sets", "a/f.sqlite", keeps_back="its policy restricts the table t"),
    }
    acme = house.rules.tenants["acme"]
    tenants = {**house.rules.tenants, "acme": replace(acme, databases=acme.databases | set(engines))}
    databases = {**house.rules.databases, **dict.fromkeys(engines, house.rules.databases["flights"])}
    house.scheduler.rules = replace(house.rules, tenants=tenants, databases=databases, engines=engines)
    job = PythonJob(code="1", databases=("lite", "flights", "parts"))
    assert (await outcome_of(house, job)).ending is Ending.Succeeded
    (task,) = house.code_bench.tasks
    assert task.databases == ("flights",)
    assert [(file.name, file.engine, file.source.path, file.source.tables_only) for file in task.files] == [
        ("lite", "sqlite", "databases/lite/f.sqlite", False),
        ("parts", "duckdb", "databases/parts", True),
    ]
    denied = await outcome_of(house, PythonJob(code="1", databases=("lite", "hidden")))
    assert denied.error is not None and denied.verdict is not None
    assert (denied.ending, denied.error.code) == (Ending.Denied, "database.sealed")
    assert "restricts the table t" in denied.error.message and "SqlJob" in denied.error.hint
    assert len(house.code_bench.tasks) == 1
