"""What one tenant's flood does to another's job, on a real RabbitMQ: the scheduler with a bench whose jobs end when the
test says so. On the in-memory broker, with more tenants and limits: tests/unit/cluster/test_fair_scheduling.py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import pytest

from cluster.admission import DatabaseLimits, TenantRules
from cluster.local.rabbitmq import RabbitNode
from cluster.placement import Node, PoolView
from cluster.run import Rules
from cluster.scheduler import Scheduler
from queues.topology import DEAD, parked_name
from sandpool import AsyncClient, SqlJob
from sandpool.outcome import Ending, Verdict
from tests.support.brokers import RealBroker, until
from workers.attempt import Attempt, Statement
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

BATCH, INTERACTIVE = "sandpool.jobs.sql.batch", "sandpool.jobs.sql.interactive"
SLOTS, PREFETCH, FLOOD = 8, 32, 2000


class SteppedBench:
    """Jobs end only in `step`: the oldest one each time."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: deque[asyncio.Future[None]] = deque()

    def nodes(self) -> list[Node]:
        return [Node("n", {"flights": PoolView(SLOTS, len(self.running))})]

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        self.started.append(statement.tenant)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.running.append(done)
        await done
        return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Succeeded)

    def step(self) -> None:
        self.running.popleft().set_result(None)


class Verdicts:
    async def judge(self, job: SqlJob, tenant: str) -> Verdict:
        return Verdict(True, sql=job.sql, statement="select")


@pytest.fixture
def broker(rabbitmq: RabbitNode) -> Iterator[RealBroker]:
    broker = RealBroker(rabbitmq)
    broker.open_host()
    yield broker
    broker.close_host()


async def test_a_flood_of_batch_jobs_holds_up_neither_interactive_nor_batch_jobs_of_others(broker: RealBroker) -> None:
    spec = VolumeSpec(name="results", url="memory:///fairness")
    tenant = TenantRules(frozenset({"flights"}), ("results",), 60, 3)
    rules = Rules(
        tenants={"acme": tenant, "globex": tenant},
        databases={"flights": DatabaseLimits(1000, 10**6, None, 60)},
        volumes={"results": spec},
        max_deliveries=3,
        cancelled_retention_s=60,
    )
    bench, door = SteppedBench(), broker.door()
    await door.open()
    scheduler = Scheduler(rules, door, bench, Verdicts(), {"results": open_volume(spec)})  # type: ignore[arg-type]
    async with AsyncClient(broker.transport("acme")) as acme, AsyncClient(broker.transport("globex")) as globex:
        await acme.submit_many(SqlJob(database="flights", sql="select 1") for _ in range(FLOOD))
        behind = await globex.submit(SqlJob(database="flights", sql="select 2"))
        for queue in (INTERACTIVE, BATCH):
            scheduler.share_out(queue, PREFETCH)
            for name in rules.tenants:
                await door.consume(parked_name(name, queue), SLOTS, scheduler.take)
            await door.consume(queue, PREFETCH, scheduler.take)
        await until(lambda: _holds(len(bench.running) == SLOTS))
        quick = await globex.submit(SqlJob(database="flights", sql="select 3", priority="interactive"))
        await until(lambda: _is_waiting_here(scheduler, quick.job_id))
        await _step(bench)
        assert bench.started[SLOTS:] == ["globex"], "the first slot that came free"
        await until(lambda: _is_waiting_here(scheduler, behind.job_id), timeout_s=60)
        started = len(bench.started)
        for _ in range(3):
            await _step(bench)
        assert "globex" in bench.started[started:], "one of the next three, though thousands were submitted before it"
        kept = sum([await broker.waiting(queue) for queue in (BATCH, parked_name("acme", BATCH))])
        assert kept >= FLOOD - PREFETCH - 4 * SLOTS, "the flood is in the broker"
        assert await broker.waiting(DEAD) == 0
        await door.stop_consuming()
        await scheduler.drain(0)
    await door.close()


async def _step(bench: SteppedBench) -> None:
    started = len(bench.started)
    bench.step()
    await until(lambda: _holds(len(bench.started) > started))


async def _holds(fact: bool) -> bool:
    return fact


async def _is_waiting_here(scheduler: Scheduler, job_id: str) -> bool:
    run = scheduler.running("globex", job_id)
    return run is not None and run.waiting
