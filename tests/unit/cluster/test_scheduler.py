"""The life of a job on the in-memory broker and volume: one recorded ending, whatever happens on the way.

The bench is scripted so that a test can lose, delay or fail attempts at will; real pools run in tests/integration.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from cluster.admission import DatabaseLimits, TenantRules
from cluster.control import ControlRoom
from cluster.errors import WorkerLost
from cluster.placement import Node, PoolView
from cluster.run import Rules
from cluster.scheduler import Scheduler
from queues.memory.broker import MemoryBroker
from queues.memory.door import MemoryDoor
from queues.memory.transport import MemoryTransport
from queues.topology import CONTROL_QUEUE, DEAD
from sandpool import AsyncClient, SqlJob
from sandpool.errors import JobIdConflict, OutcomeTimeout
from sandpool.outcome import Ending, ErrorInfo, Verdict
from workers.attempt import Attempt, Statement
from workers.errors import DatabaseUnavailable, VolumeFull
from workers.volumes.record import aread_record
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

SQL_QUEUE = "sandpool.jobs.sql.batch"


def succeeded(statement: Statement) -> Attempt:
    return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Succeeded)


class ScriptedBench:
    """A bench whose every attempt does what the test's script says."""

    def __init__(self, slots: int = 4) -> None:
        self.script: Callable[[Statement], Attempt | Exception] = succeeded
        self.gate = asyncio.Event()
        self.gate.set()
        self.ran: list[Statement] = []
        self.cancelled: list[str] = []
        self.slots, self.busy, self.most_busy = slots, 0, 0
        self._stops: dict[str, asyncio.Event] = {}

    def nodes(self) -> list[Node]:
        return [Node("n", {"flights": PoolView(self.slots, self.busy)})]

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        self.ran.append(statement)
        stop = self._stops[statement.job_id] = asyncio.Event()
        waits = [asyncio.create_task(event.wait()) for event in (self.gate, stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                error = ErrorInfo("job.cancelled", "stopped")
                ids = {"job_id": statement.job_id, "attempt_id": statement.attempt_id}
                return Attempt(**ids, ending=Ending.Cancelled, error=error)
            result = self.script(statement)
            if isinstance(result, Exception):
                raise result
            return result
        finally:
            for wait in waits:
                wait.cancel()
            self.busy -= 1

    async def cancel(self, node: str, database: str, tenant: str, job_id: str) -> None:
        self.cancelled.append(job_id)
        self._stops[job_id].set()


class Verdicts:
    """Answers for the policy: everything is allowed but what says `forbidden`; `down` finds the database away."""

    async def judge(self, job: SqlJob, tenant: str) -> Verdict:
        if "down" in job.sql:
            raise DatabaseUnavailable("the database does not answer")
        if "forbidden" in job.sql:
            return Verdict(False, "table.unlisted", "table forbidden is not listed")
        return Verdict(True, sql=job.sql, statement="select")


class House:
    """One scheduler with a broker, a volume and clients, all in memory."""

    def __init__(self, name: str) -> None:
        self.broker = MemoryBroker(second_s=0.05)  # no test here asks how long a retry waits
        for tenant in ("acme", "globex", "stranger"):
            self.broker.add_tenant(tenant)
        self.spec = VolumeSpec(name="results", url=f"memory:///{name}")
        self.volume = open_volume(self.spec)
        self.bench = ScriptedBench()
        tenant = TenantRules(frozenset({"flights"}), ("results",), 60, 3)
        self.rules = Rules(
            tenants={"acme": tenant, "globex": tenant},
            databases={"flights": DatabaseLimits(1000, 10**6, None, 60)},
            volumes={"results": self.spec},
            max_deliveries=3,
            cancelled_retention_s=60,
        )
        self.door = MemoryDoor(self.broker)
        self.clients: dict[str, AsyncClient] = {}

    async def open(self, prefetch: int = 8) -> None:
        self.scheduler = Scheduler(self.rules, self.door, self.bench, Verdicts(), {"results": self.volume})  # type: ignore[arg-type]
        self.control = ControlRoom(self.scheduler, self.door, {"results": self.volume})
        await self.door.open()
        await self.door.consume(SQL_QUEUE, prefetch, self.scheduler.take)
        await self.door.consume(CONTROL_QUEUE, prefetch, self.control.take)

    async def client(self, tenant: str = "acme") -> AsyncClient:
        if tenant not in self.clients:
            self.clients[tenant] = await AsyncClient(MemoryTransport(self.broker, tenant)).__aenter__()
        return self.clients[tenant]

    async def settled(self) -> None:
        """Until no message is held any more: whoever waits for an outcome has it before that."""
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            while self.scheduler.under_way():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        for client in self.clients.values():
            await client.close()
        await self.scheduler.drain(1.0)
        await self.door.close()


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    made = House(request.node.name)
    await made.open()
    yield made
    await made.close()


def job(sql: str = "select 1", **fields: object) -> SqlJob:
    return SqlJob(database="flights", sql=sql, **fields)  # type: ignore[arg-type]


async def test_a_job_is_run_recorded_answered_and_acked(house: House) -> None:
    outcome = await (await (await house.client()).submit(job())).outcome(timeout=30)
    assert outcome.ending is Ending.Succeeded and outcome.tenant == "acme" and outcome.attempt == 1
    recorded = await aread_record(house.volume, "acme", outcome.job_id)
    assert recorded is not None and recorded.ending is Ending.Succeeded
    await house.settled()
    assert house.broker.waiting(SQL_QUEUE) == 0 and house.bench.busy == 0


async def test_a_denied_statement_never_reaches_a_worker(house: House) -> None:
    outcome = await (await (await house.client()).submit(job("select * from forbidden"))).outcome(timeout=30)
    assert outcome.ending is Ending.Denied and outcome.verdict is not None and outcome.verdict.rule == "table.unlisted"
    assert house.bench.ran == []


async def test_the_same_id_twice_runs_once(house: House) -> None:
    client = await house.client()
    first = await (await client.submit(job(id="same"))).outcome(timeout=30)
    again = await (await client.submit(job(id="same"))).outcome(timeout=30)
    assert len(house.bench.ran) == 1 and first.ended_at == again.ended_at


async def test_the_same_id_twice_at_once_runs_once(house: House) -> None:
    client = await house.client()
    house.bench.gate.clear()
    handles = [await client.submit(job(id="same")) for _ in range(3)]
    await asyncio.sleep(0.05)
    house.bench.gate.set()
    outcomes = [await handle.outcome(timeout=30) for handle in handles]
    assert len(house.bench.ran) == 1 and {outcome.ending for outcome in outcomes} == {Ending.Succeeded}


async def test_an_id_reused_for_other_work_is_a_conflict_and_runs_nothing(house: House) -> None:
    client = await house.client()
    await (await client.submit(job("select 1", id="same"))).outcome(timeout=30)
    with pytest.raises(JobIdConflict):
        await (await client.submit(job("select 2", id="same"))).outcome(timeout=30)
    recorded = await aread_record(house.volume, "acme", "same")
    assert recorded is not None and recorded.ending is Ending.Succeeded and len(house.bench.ran) == 1


async def test_two_tenants_may_use_the_same_id_and_see_only_their_own_outcome(house: House) -> None:
    await (await (await house.client("acme")).submit(job("select 1", id="same"))).outcome(timeout=30)
    outcome = await (await (await house.client("globex")).submit(job("select 2", id="same"))).outcome(timeout=30)
    assert outcome.tenant == "globex" and outcome.ending is Ending.Succeeded and len(house.bench.ran) == 2


async def test_a_lost_worker_is_tried_again_and_the_second_attempt_recorded(house: House) -> None:
    house.bench.script = lambda s: WorkerLost("gone") if s.attempt_id.startswith("1-") else succeeded(s)
    outcome = await (await (await house.client()).submit(job())).outcome(timeout=30)
    assert outcome.ending is Ending.Succeeded and outcome.attempt == 2
    assert [s.attempt_id.split("-")[0] for s in house.bench.ran] == ["1", "2"]


async def test_a_database_that_stays_away_ends_failed_after_its_attempts(house: House) -> None:
    outcome = await (await (await house.client()).submit(job("down", max_attempts=2))).outcome(timeout=30)
    assert outcome.ending is Ending.Failed and outcome.attempt == 2
    assert outcome.error is not None and outcome.error.code == "database.unavailable"


async def test_an_expired_job_ends_timed_out_without_running(house: House) -> None:
    late = job(deadline=datetime.now(UTC) - timedelta(seconds=1))
    outcome = await (await (await house.client()).submit(late)).outcome(timeout=30)
    assert outcome.ending is Ending.TimedOut and house.bench.ran == []


async def test_an_unknown_tenant_goes_to_the_dead_letters_with_its_reason(house: House) -> None:
    handle = await (await house.client("stranger")).submit(job(id="who"))
    outcome = await handle.outcome(timeout=30)
    assert outcome.ending is Ending.Denied and outcome.error is not None and outcome.error.code == "tenant.unknown"
    await house.settled()
    assert house.broker.waiting(DEAD) == 1
    letter = house.broker.take(house.broker.service_user, DEAD)
    assert letter is not None and "tenant.unknown" in str(letter.headers)


async def test_a_full_volume_keeps_the_job_in_the_broker_until_there_is_room(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.scheduler.REPEAT_DELAY_S", 0.5)
    create, refusals = house.volume.acreate, 1

    async def full_once(key: str, data: bytes) -> bool:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise VolumeFull("no space left")
        return await create(key, data)

    monkeypatch.setattr(house.volume, "acreate", full_once)
    outcome = await (await (await house.client()).submit(job())).outcome(timeout=30)
    assert outcome.ending is Ending.Succeeded and outcome.attempt == 1


async def test_a_running_job_is_cancelled_at_its_worker(house: House) -> None:
    house.bench.gate.clear()
    handle = await (await house.client()).submit(job())
    await asyncio.sleep(0.05)
    await handle.cancel()
    assert (await handle.outcome(timeout=30)).ending is Ending.Cancelled
    assert house.bench.cancelled == [handle.job_id]


async def test_a_job_waiting_for_a_slot_is_cancelled_at_once(house: House) -> None:
    house.bench.gate.clear()
    client = await house.client()
    busy = [await client.submit(job()) for _ in range(house.bench.slots)]
    await asyncio.sleep(0.05)
    waiting = await client.submit(job())
    await asyncio.sleep(0.05)
    await waiting.cancel()
    assert (await waiting.outcome(timeout=30)).ending is Ending.Cancelled
    house.bench.gate.set()
    assert [(await handle.outcome(timeout=30)).ending for handle in busy] == [Ending.Succeeded] * len(busy)
    assert waiting.job_id not in {statement.job_id for statement in house.bench.ran}


async def test_a_queued_job_that_was_cancelled_never_runs(house: House) -> None:
    await house.door.stop_consuming()
    await house.door.consume(CONTROL_QUEUE, 8, house.control.take)
    handle = await (await house.client()).submit(job())
    await handle.cancel()
    assert (await handle.outcome(timeout=30)).ending is Ending.Cancelled
    await house.door.consume(SQL_QUEUE, 8, house.scheduler.take)
    await asyncio.sleep(0.05)
    await house.settled()
    assert house.bench.ran == [] and house.broker.waiting(SQL_QUEUE) == 0


async def test_a_tenant_cannot_cancel_another_tenants_job(house: House) -> None:
    house.bench.gate.clear()
    handle = await (await house.client("acme")).submit(job(id="mine"))
    await asyncio.sleep(0.05)
    await (await house.client("globex")).cancel("mine")
    house.bench.gate.set()
    assert (await handle.outcome(timeout=30)).ending is Ending.Succeeded and house.bench.cancelled == []


async def test_a_job_handed_out_too_often_is_recorded_lost_and_kept_as_a_dead_letter(house: House) -> None:
    await house.close()
    for number in range(house.rules.max_deliveries):
        lost = MemoryDoor(house.broker)
        await lost.open()
        if number == 0:
            house.clients.clear()
            await (await house.client()).submit(job(id="poison"))
        await lost.consume(SQL_QUEUE, 1, lambda delivery: None)
        await asyncio.sleep(0.02)
        await lost.close()
    house.door = MemoryDoor(house.broker)
    await house.open()
    async with asyncio.timeout(10):
        while not house.broker.waiting(DEAD):
            await asyncio.sleep(0.01)
    recorded = await aread_record(house.volume, "acme", "poison")
    assert recorded is not None and recorded.ending is Ending.Lost and house.bench.ran == []
    assert house.broker.waiting(DEAD) == 1


async def test_drain_finishes_what_runs_and_hands_back_the_rest(house: House) -> None:
    house.bench.gate.clear()
    client = await house.client()
    handle = await client.submit(job(id="slow"))
    await asyncio.sleep(0.05)
    await house.door.stop_consuming()
    queued = await client.submit(job(id="queued"))
    assert await house.scheduler.drain(0.05) == 1
    await house.door.close()
    assert await aread_record(house.volume, "acme", "slow") is None
    house.bench.gate.set()
    house.door = MemoryDoor(house.broker)
    await house.open()
    assert (await handle.outcome(timeout=30)).ending is Ending.Succeeded
    assert (await queued.outcome(timeout=30)).ending is Ending.Succeeded


async def test_no_more_statements_run_at_once_than_there_are_slots(house: House) -> None:
    client = await house.client()
    handles = [await client.submit(job()) for _ in range(50)]
    for handle in handles:
        assert (await handle.outcome(timeout=30)).ending is Ending.Succeeded
    assert house.bench.most_busy <= house.bench.slots and len(house.bench.ran) == 50


async def test_status_tells_running_ended_and_unknown(house: House) -> None:
    client = await house.client()
    house.bench.gate.clear()
    handle = await client.submit(job(id="one"))
    async with asyncio.timeout(30):
        while (await client.status("one")).state != "running":
            await asyncio.sleep(0.01)
    house.bench.gate.set()
    await handle.outcome(timeout=30)
    ended = await client.status("one")
    assert ended.state == "ended" and ended.outcome is not None and ended.outcome.succeeded
    assert (await client.status("never")).state == "unknown"


async def test_an_unexpected_error_gives_the_job_back_and_is_not_lost(house: House) -> None:
    failures = 1

    def script(statement: Statement) -> Attempt | Exception:
        nonlocal failures
        failures -= 1
        return RuntimeError("a bug") if failures >= 0 else succeeded(statement)

    house.bench.script = script
    outcome = await (await (await house.client()).submit(job())).outcome(timeout=30)
    assert outcome.ending is Ending.Succeeded


async def test_an_outcome_that_nobody_gives_in_time_is_a_timeout_for_the_caller_only(house: House) -> None:
    house.bench.gate.clear()
    handle = await (await house.client()).submit(job())
    with pytest.raises(OutcomeTimeout):
        await handle.outcome(timeout=0.05)
    house.bench.gate.set()
    assert (await handle.outcome(timeout=30)).succeeded
