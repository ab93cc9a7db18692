"""What the scheduler tells the metrics and the traces of the jobs it conducts, on the in-memory broker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cluster import metrics
from cluster.gauges import Gauges
from cluster.metrics import ALL, MOST_VALUES, OTHER, LabelCap, MemoryRecorder
from cluster.observing import Observer
from cluster.scheduler import Scheduler
from cluster.survey import Survey
from cluster.telemetry import configure_logs
from cluster.tracing_otel import OtelTracing
from queues.errors import BrokerAway
from sandpool.outcome import Ending, Usage
from tests.unit.cluster.test_scheduler import House, Verdicts, job
from workers.attempt import Timing
from workers.errors import DatabaseUnavailable
from workers.gpu.device import Gpu
from workers.gpu.shares import GpuStatus
from workers.sandbox.hosting import HostStatus
from workers.sql.pool import PoolStatus

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class WatchedHouse(House):
    """The scheduler's own test house, with an observer."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.recorder = MemoryRecorder()
        self.spans = InMemorySpanExporter()
        self.observer = Observer(self.recorder, OtelTracing(SimpleSpanProcessor(self.spans)))

    async def open(self, prefetch: int = 8) -> None:
        await super().open(prefetch)
        self.scheduler.observer = self.observer

    def stages(self) -> set[str]:
        return {stage for stage, _ in self.recorder.of(metrics.STAGE)}


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[WatchedHouse]:
    made = WatchedHouse(request.node.name)
    await made.open()
    yield made
    await made.close()
    made.observer.tracing.close()


async def test_every_stage_of_a_job_is_timed_and_its_ending_counted(house: WatchedHouse) -> None:
    client = await house.client()
    for _ in range(3):
        await (await client.submit(job())).outcome(timeout=30)
    await _until(lambda: house.scheduler.under_way() == 0)
    assert house.recorder.of(metrics.JOBS) == {("acme", "sql", "Succeeded"): 3}
    assert house.recorder.of(metrics.ATTEMPTS) == {("sql", "Succeeded"): 3}
    assert house.stages() == {"queue", "find", "admit", "place", "run", "record", "settle"}
    assert {house.recorder.counts[metrics.STAGE.name, (stage, "sql")] for stage in house.stages()} == {3}


async def test_denials_are_counted_by_rule_and_dead_letters_by_code(house: WatchedHouse) -> None:
    outcome = await (await (await house.client()).submit(job("select * from forbidden"))).outcome(timeout=30)
    assert outcome.ending is Ending.Denied
    await (await house.client("stranger")).submit(job())
    await _until(lambda: bool(house.recorder.of(metrics.DEAD)))
    assert house.recorder.of(metrics.DENIALS) == {("table.unlisted",): 1}
    assert house.recorder.of(metrics.DEAD) == {("tenant.unknown",): 1}


async def test_a_retry_is_counted_and_the_job_counts_once(house: WatchedHouse) -> None:
    failures = iter([DatabaseUnavailable("away")])
    house.bench.script = lambda statement: next(failures, None) or _succeeded(statement)
    outcome = await (await (await house.client()).submit(job())).outcome(timeout=20)
    assert outcome.ending is Ending.Succeeded
    assert house.recorder.of(metrics.RETRIES) == {("database.unavailable",): 1}
    assert house.recorder.of(metrics.JOBS) == {("acme", "sql", "Succeeded"): 1}


async def test_a_trace_goes_on_from_the_sender_through_every_stage(house: WatchedHouse) -> None:
    handle = await (await house.client()).submit(job(), traceparent=PARENT)
    await handle.outcome(timeout=30)
    await _until(lambda: house.scheduler.under_way() == 0)
    spans = {span.name: span for span in house.spans.get_finished_spans()}
    assert set(spans) == {"job", "find", "admit", "place", "run", "record", "settle"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values() if span.context} == {PARENT.split("-")[1]}
    root = spans["job"]
    assert root.parent is not None and f"{root.parent.span_id:016x}" == PARENT.split("-")[2]
    assert root.attributes is not None and root.context is not None
    assert root.attributes["sandpool.tenant"] == "acme"
    assert root.attributes["sandpool.ending"] == "Succeeded"
    assert root.attributes["sandpool.node"] == "n"
    assert {span.parent.span_id for name, span in spans.items() if name != "job" and span.parent} == {
        root.context.span_id
    }


async def test_what_a_worker_measured_becomes_spans_below_its_stage_and_names_the_statement_not_its_text(
    house: WatchedHouse,
) -> None:
    measured = (Timing("connect", 0.0, 0.25), Timing("execute", 0.25, 0.5))

    def attempt(statement: object) -> object:
        made = _succeeded(statement)
        return msgspec.structs.replace(made, timings=measured, usage=Usage(run_s=1.0))  # type: ignore[type-var]

    house.bench.script = attempt
    secret = "select carrier from flights where carrier = 'hidden'"
    handle = await (await house.client()).submit(job(secret, id="traced"), traceparent=PARENT)
    await handle.outcome(timeout=30)
    await _until(lambda: house.scheduler.under_way() == 0)
    finished = house.spans.get_finished_spans()
    spans = {span.name: span for span in finished}
    run, connect, execute = (spans[name] for name in ("run", "connect", "execute"))
    assert run.context is not None and run.attributes is not None
    for span in (connect, execute):
        assert span.parent is not None and span.parent.span_id == run.context.span_id
        attributes = dict(span.attributes or {})
        assert attributes.pop("db.statement.digest") == hashlib.sha256(secret.encode()).hexdigest()[:16]
        assert attributes == {
            "db.system": "postgresql", "db.namespace": "flights", "db.application_name": "sandpool:traced"
        }  # fmt: skip
    assert connect.end_time is not None and connect.end_time == execute.start_time
    assert execute.end_time is not None and execute.end_time - connect.start_time == 750_000_000  # type: ignore[operator]
    assert not any("hidden" in str(value) for span in finished for value in (span.attributes or {}).values())


async def test_a_sender_that_decided_not_to_trace_is_obeyed(house: WatchedHouse) -> None:
    await (await (await house.client()).submit(job(), traceparent=PARENT[:-1] + "0")).outcome(timeout=30)
    await (await (await house.client()).submit(job(), traceparent="nonsense")).outcome(timeout=30)
    await _until(lambda: house.scheduler.under_way() == 0)
    roots = [span for span in house.spans.get_finished_spans() if span.name == "job"]
    assert len(roots) == 1 and roots[0].parent is None, "the second begins a trace of its own"


async def test_every_line_of_the_log_about_a_job_names_it_and_its_tenant(
    house: WatchedHouse, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs()  # again: standard error is captured only from here on
    failures = iter([DatabaseUnavailable("away")])
    house.bench.script = lambda statement: next(failures, None) or _succeeded(statement)
    handle = await (await house.client()).submit(job())
    await handle.outcome(timeout=20)
    await (await house.client("stranger")).submit(job())
    await _until(lambda: bool(house.recorder.of(metrics.DEAD)))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert {line["event"] for line in lines} == {"retry", "dead letter"}
    assert all(line["job"] and line["tenant"] and line["timestamp"] for line in lines)
    assert [line["tenant"] for line in lines] == ["acme", "stranger"]


class AnsweringBench:
    """Workers that say what the test wants them to."""

    async def survey(self) -> Survey:
        gpu = Gpu(uuid="GPU-1", model="H100", minor=0, memory_bytes=80, free_bytes=60)
        host = HostStatus(
            memory_bytes=100, cpus=4, most_sandboxes=8, reserved_bytes=30, sandboxes=2, warm={"base@1": 3},
            handed_out=dict(self.handed_out), gpus=(GpuStatus(gpu, reserved_bytes=20),),
        )  # fmt: skip
        return Survey({("n", "flights"): PoolStatus("flights", "open", 3, 2, 5, 1, 8)}, {"n": host})

    handed_out: dict[str, int] = {"warm": 4, "made": 1}  # noqa: RUF012 - a test's own


async def test_gauges_tell_of_queues_lines_pools_hosts_and_gpus(house: WatchedHouse) -> None:
    bench = AnsweringBench()
    gauges = Gauges(house.recorder, house.door, bench, lambda: {"database:flights": 5}, lambda: 7, 10)  # type: ignore[arg-type]
    await gauges.look()
    bench.handed_out = {"warm": 6, "made": 1}
    await gauges.look()
    bench.handed_out = {"warm": 1, "made": 0}  # the host was started again
    await gauges.look()
    of = house.recorder.of
    assert of(metrics.IN_LINE) == {("database:flights",): 5} and of(metrics.UNDER_WAY) == {(): 7}
    assert of(metrics.POOL) == {
        ("n", "flights", "idle"): 1,
        ("n", "flights", "lent"): 4,
        ("n", "flights", "budget"): 8,
    }
    assert of(metrics.POOL_WAITING) == {("n", "flights"): 2}
    assert of(metrics.SANDBOXES) == {("n", "used"): 2, ("n", "warm"): 3, ("n", "paused"): 0}
    assert of(metrics.STARTS) == {("n", "warm"): 7, ("n", "made"): 1}
    assert of(metrics.GPU_MEMORY)["n", "GPU-1", "promised"] == 20
    assert of(metrics.QUEUE)["sandpool.jobs.sql.batch",] == 0 and of(metrics.QUEUE)["sandpool.parked",] == 0


async def test_a_broker_that_is_away_ends_no_gauges(house: WatchedHouse) -> None:
    class AwayDoor:
        asked = 0

        async def depths(self) -> dict[str, int]:
            self.asked += 1
            raise BrokerAway("away")

    door = AwayDoor()
    gauges = Gauges(house.recorder, door, AnsweringBench(), dict, lambda: 0, 0.01)  # type: ignore[arg-type]
    gauges.start()
    await _until(lambda: door.asked >= 3)
    await gauges.stop()
    assert house.recorder.of(metrics.UP) == {(): 0}


def test_a_label_that_people_choose_has_a_bounded_number_of_values() -> None:
    recorder = MemoryRecorder()
    for number in range(5 * MOST_VALUES):
        recorder.add(metrics.ROWS, 1, f"tenant-{number}")
    series = recorder.of(metrics.ROWS)
    assert len(series) == MOST_VALUES + 1
    assert series[OTHER,] == 4 * MOST_VALUES
    assert LabelCap().capped(metrics.ROWS, ("a",)) == ("a",)


def test_every_metric_has_a_unit_a_meaning_and_no_label_for_job_ids() -> None:
    assert len({metric.name for metric in ALL}) == len(ALL) > 20
    for metric in ALL:
        assert metric.name.startswith("sandpool_") and metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.name.endswith("_seconds") or metric.kind != "histogram"
        assert not {"job", "job_id", "id", "statement"} & set(metric.labels)


def test_without_anyone_watching_nothing_is_kept() -> None:
    scheduler = Scheduler(House("quiet").rules, None, _NoNodes(), Verdicts(), {})  # type: ignore[arg-type]
    scheduler.observer.died("tenant.unknown")
    assert scheduler.under_way() == 0


class _NoNodes:
    def nodes(self) -> list[object]:
        return []


def _succeeded(statement: object) -> object:
    from tests.unit.cluster.test_scheduler import succeeded

    return succeeded(statement)  # type: ignore[arg-type]


async def _until(holds: object) -> None:
    async with asyncio.timeout(10):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.005)
