"""Several tenants on one scheduler, on the in-memory broker, with a bench whose jobs end when the test says so: what
one tenant's flood does to the others, counted in slots and not in seconds."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from cluster.admission import DatabaseLimits, TenantRules
from cluster.fairness import Share
from cluster.placement import Node, PoolView
from cluster.run import Rules
from cluster.scheduler import Scheduler
from queues.memory import MemoryBroker, MemoryDoor
from queues.message import Message
from queues.topology import DEAD, parked_name
from sandpool import SqlJob
from sandpool.outcome import Ending, Verdict
from sandpool.wire import JOBS_EXCHANGE, encode_job
from workers.attempt import Attempt, Statement
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

BATCH, INTERACTIVE = "sandpool.jobs.sql.batch", "sandpool.jobs.sql.interactive"
SLOTS = 4
PREFETCH = 8


class SteppedBench:
    """Jobs end only in `step`: the oldest one each time."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.jobs: list[str] = []
        self.running: deque[tuple[Statement, asyncio.Future[None]]] = deque()
        self.most: Counter[str] = Counter()

    def nodes(self) -> list[Node]:
        return [Node("n", {"flights": PoolView(SLOTS, len(self.running))})]

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.started.append(statement.tenant)
        self.jobs.append(statement.job_id)
        self.running.append((statement, done))
        now = Counter(running.tenant for running, _ in self.running)
        self.most |= now
        await done
        return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Succeeded)

    def step(self) -> None:
        _, done = self.running.popleft()
        done.set_result(None)


class Verdicts:
    async def judge(self, job: SqlJob, tenant: str) -> Verdict:
        return Verdict(True, sql=job.sql, statement="select")


class Town:
    """One scheduler and tenants with shares."""

    def __init__(self, name: str, shares: dict[str, Share]) -> None:
        self.broker = MemoryBroker()
        self.bench = SteppedBench()
        spec = VolumeSpec(name="results", url=f"memory:///{name}")
        self.volume = open_volume(spec)
        plain = TenantRules(frozenset({"flights"}), ("results",), 60, 3)
        rules = Rules(
            tenants={tenant: replace(plain, share=share) for tenant, share in shares.items()},
            databases={"flights": DatabaseLimits(1000, 10**6, None, 60)},
            volumes={"results": spec},
            max_deliveries=3,
            cancelled_retention_s=60,
        )
        for tenant in shares:
            self.broker.add_tenant(tenant)
        self.door = MemoryDoor(self.broker)
        self.scheduler = Scheduler(rules, self.door, self.bench, Verdicts(), {"results": self.volume})  # type: ignore[arg-type]
        self.queues = [
            *(parked_name(tenant, queue) for tenant in shares for queue in (INTERACTIVE, BATCH)),
            INTERACTIVE,
            BATCH,
        ]
        self._number = 0

    async def open(self) -> None:
        await self.door.open()
        for queue in (INTERACTIVE, BATCH):
            self.scheduler.share_out(queue, PREFETCH)
            for tenant in self.scheduler.rules.tenants:
                await self.door.consume(parked_name(tenant, queue), SLOTS, self.scheduler.take)
            await self.door.consume(queue, PREFETCH, self.scheduler.take)

    def submit(self, tenant: str, count: int, priority: str = "batch") -> None:
        for _ in range(count):
            self._number += 1
            job = SqlJob(id=f"j{self._number}", database="flights", sql="select 1", priority=priority)  # type: ignore[arg-type]
            message = Message(encode_job(job), message_id=job.id, user_id=tenant)
            self.broker.publish(tenant, JOBS_EXCHANGE, f"sql.{priority}", message)

    async def settle(self) -> None:
        """Return when every slot is busy and the job queues are empty: what cannot run is here or parked."""
        await self.until(lambda: len(self.bench.running) == SLOTS)
        await self.until(lambda: self.broker.waiting(BATCH) + self.broker.waiting(INTERACTIVE) == 0)
        await self.until(lambda: len(self.scheduler._running) == len(self.scheduler._tasks))

    async def steps(self, count: int) -> None:
        """End the oldest job and wait for the next one to begin, so often; each time once all who can are in line."""
        for _ in range(count):
            await self.calm()
            started = len(self.bench.started)
            self.bench.step()
            await self.until(lambda started=started: len(self.bench.started) > started)  # type: ignore[misc]

    async def calm(self) -> None:
        """Return when nothing moves any more before the next step: every message is where it waits or runs."""
        await self.until(lambda: self._handed_out() == len(self.bench.running) + self._in_line())

    def _handed_out(self) -> int:
        """Messages that the scheduler has taken and not settled."""
        return sum(len(consumer.unsettled) for name in self.queues for consumer in self.broker.queue(name).consumers)

    def _in_line(self) -> int:
        return sum(bool(run.waiting) for run in self.scheduler._running.values())

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.door.stop_consuming()
        await self.scheduler.drain(0)
        await self.door.close()


@pytest.fixture
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    made = Town(request.node.name, getattr(request, "param", {"acme": Share(), "globex": Share()}))
    await made.open()
    yield made
    await made.close()


async def test_five_thousand_batch_jobs_do_not_hold_up_another_tenants_interactive_job(town: Town) -> None:
    town.submit("acme", 5000)
    await town.settle()
    town.submit("globex", 1, "interactive")
    await town.until(lambda: any(run.waiting for run in town.scheduler._running.values() if run.tenant == "globex"))
    assert "globex" not in town.bench.started, "every slot was busy"
    await town.steps(1)
    assert town.bench.started[-1] == "globex", "the first slot that came free is its"


async def test_batch_jobs_behind_a_flood_get_their_share_from_the_start(town: Town) -> None:
    town.submit("acme", 2000)
    town.submit("globex", 20)
    await town.settle()
    await town.steps(40)
    got = Counter(town.bench.started[SLOTS:])
    assert got["globex"] == 20, f"half of the slots until it has no more: {got}"


async def test_the_flood_waits_in_the_broker_and_none_of_it_is_lost(town: Town) -> None:
    town.submit("acme", 300)
    await town.settle()
    here = len(town.scheduler._tasks)
    assert here <= PREFETCH + 2 * 2 * SLOTS, "bounded by what is prefetched"
    assert town.broker.waiting(parked_name("acme", BATCH)) + town.broker.waiting(BATCH) + here == 300
    await town.steps(300 - SLOTS)
    assert len(set(town.bench.jobs)) == len(town.bench.jobs) == 300
    assert town.broker.waiting(DEAD) == 0


async def test_waiting_in_a_queue_of_ones_own_is_not_an_attempt(town: Town) -> None:
    town.submit("acme", 100)
    await town.settle()
    await town.steps(60)
    assert {statement.attempt_id.partition("-")[0] for statement, _ in town.bench.running} == {"1"}


@pytest.mark.parametrize("town", [{"acme": Share(max_in_flight=1), "globex": Share()}], indirect=True)
async def test_a_tenant_at_its_limit_leaves_the_slots_to_others(town: Town) -> None:
    town.submit("acme", 500)
    town.submit("globex", 500)
    await town.until(lambda: len(town.bench.running) == SLOTS)
    await town.steps(40)
    assert town.bench.most["acme"] == 1
    assert town.bench.most["globex"] >= SLOTS - 1
    assert town.bench.started.count("acme") >= 8, "and has its one slot nearly all the time"


@pytest.mark.parametrize("town", [{"acme": Share(weight=3), "globex": Share(weight=1)}], indirect=True)
async def test_a_tenant_of_three_times_the_weight_has_three_times_the_slots(town: Town) -> None:
    town.submit("acme", 400)
    town.submit("globex", 400)
    await town.settle()
    await town.steps(80)
    got = Counter(town.bench.started[-80:])
    assert got["acme"] == pytest.approx(60, abs=4)
