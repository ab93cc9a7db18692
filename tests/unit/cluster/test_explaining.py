"""`explain`: why a job waits, where it runs, why it went back, how it ended; and what nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.control import ControlRoom
from cluster.errors import WorkerLost
from cluster.explaining import MOST_REMEMBERED, Returned, of_nobody
from cluster.fairness import Share
from cluster.placement import Need, Node, PoolView
from cluster.run import Run, open_delivery
from cluster.slots import Slots
from queues.door import Delivery
from sandpool import wire
from sandpool.errors import JobUnknown
from sandpool.outcome import Outcome
from sandpool.wire import ControlCall, Explanation, JobStatus
from tests.unit.cluster.test_scheduler import House, job


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    made = House(request.node.name)
    await made.open()
    yield made
    made.bench.gate.set()
    await made.close()


async def until(house: House, job_id: str, state: str, in_line: int = 0) -> Explanation:
    """The explanation once it is of this state, and so many wait in its line."""
    client = await house.client()
    async with asyncio.timeout(5):
        while True:
            try:
                why = await client.explain(job_id)
            except JobUnknown:
                why = None
            if why is not None and why.state == state and why.in_line >= in_line:
                return why
            await asyncio.sleep(0.01)


async def test_a_job_in_line_says_what_is_busy_and_one_that_runs_says_where(house: House) -> None:
    house.bench.slots = 1
    house.bench.gate.clear()
    client = await house.client()
    await client.submit(job(id="first"))
    running = await until(house, "first", "running")
    assert (running.node, running.reason) == ("n", "runs as a statement on 'flights' on node n")
    await client.submit(job(id="second"))
    await client.submit(job(id="third"))
    waiting = await until(house, "second", "waiting", in_line=2)
    assert (waiting.reason, waiting.in_line) == ("all 1 slots of 'flights' are busy", 2)


async def test_a_job_that_no_node_can_run_now_says_so_while_it_is_back_in_the_broker(house: House) -> None:
    house.scheduler._slots._nodes = lambda: [Node("n")]
    await (await house.client()).submit(job(id="homeless"))
    why = await until(house, "homeless", "returned")
    assert why.code == "placement.never" and "no node has a pool for database 'flights'" in why.reason
    assert "comes again in" in why.reason


async def test_a_job_between_two_attempts_says_what_the_first_met(house: House) -> None:
    house.bench.script = lambda statement: WorkerLost("node n burnt down")
    await (await house.client()).submit(job(id="unlucky"))
    why = await until(house, "unlucky", "returned")
    assert (why.code, why.attempt) == ("worker.lost", 1) and "node n burnt down" in why.reason


async def test_a_job_that_has_ended_says_how(house: House) -> None:
    client = await house.client()
    await (await client.submit(job(id="fine"))).outcome(timeout=30)
    assert (await client.explain("fine")).reason == "Succeeded"
    await (await client.submit(job("select * from forbidden", id="denied"))).outcome(timeout=30)
    why = await client.explain("denied")
    assert (why.state, why.code) == ("ended", "table.unlisted") and "not listed" in why.reason


async def test_what_nobody_knows_is_a_typed_error_and_a_tenant_sees_its_own_jobs_only(house: House) -> None:
    client = await house.client()
    await (await client.submit(job(id="mine"))).outcome(timeout=30)
    with pytest.raises(JobUnknown, match="waits in the broker, or was never submitted"):
        await client.explain("never")
    with pytest.raises(JobUnknown):
        await (await house.client("globex")).explain("mine")


async def test_a_job_that_another_scheduler_holds_is_explained_and_stopped_by_that_one(house: House) -> None:
    """The call reaches a control room that does not hold the job; it asks the one that does."""
    house.bench.gate.clear()
    client = await house.client()
    handle = await client.submit(job(id="theirs"))
    await until(house, "theirs", "running")

    async def the_other(tenant: str, call: ControlCall) -> list[Outcome | JobStatus]:
        answer = await house.control.here(tenant, call)
        return [answer] if answer is not None else []

    twin = House("other")
    twin.volume = house.volume
    await twin.open()
    room = ControlRoom(twin.scheduler, house.door, {"results": house.volume}, the_other)
    try:
        assert (await room._status("acme", ControlCall(action="status", job_id="theirs"))).state == "running"
        why = (await room._status("acme", ControlCall(action="explain", job_id="theirs"))).why
        assert why is not None and why.node == "n"
        answers = await room._asked("acme", ControlCall(action="cancel", job_id="theirs"))
        assert [type(answer) for answer in answers] == [Outcome]
        assert (await handle.outcome(timeout=30)).ending == "Cancelled" and house.bench.cancelled == ["theirs"]
    finally:
        await twin.close()


async def test_limits_of_the_tenant_are_reasons_too() -> None:
    nodes = [Node("n", {"flights": PoolView(9)})]
    slots = Slots(lambda: nodes, {"acme": Share(max_in_flight=1), "blue": Share(rate_per_s=0.5)})
    need = Need("flights")
    for tenant in ("acme", "blue"):
        await slots.take(need, tenant=tenant, interactive=True, timeout_s=0)
    assert slots.why(need, "acme")[0] == "all 1 jobs that tenant 'acme' may have in flight are under way"
    assert slots.why(need, "blue")[0] == "tenant 'blue' is ahead of its rate of 0.5 jobs a second"
    waiting = asyncio.create_task(slots.take(need, tenant="acme", interactive=True, timeout_s=5))
    await asyncio.sleep(0)
    assert [slots.why(need, tenant)[1] for tenant in ("acme", "blue")] == [1, 0], "others' lines are their own business"
    waiting.cancel()
    assert slots.why(Need("nowhere"), "other")[0] == "no node has a pool for database 'nowhere'"


def _run(number: int, house: House) -> Run:
    work = job(id=f"j{number}")
    body = wire.encode_job(work)
    delivery = Delivery("q", body, "acme", work.id, "", "", 1, 1, 0.0)
    return open_delivery(delivery, house.rules)


async def test_what_is_remembered_of_returned_jobs_is_bounded() -> None:
    house = House("bounded")
    returned = Returned(clock=lambda: 0.0)
    first = _run(0, house)
    returned.add(first, "worker.lost", 5)
    for number in range(MOST_REMEMBERED):
        first.job = job(id=f"x{number}")
        returned.add(first, "worker.lost", 5)
    assert len(returned) == MOST_REMEMBERED and returned.explain("acme", "j0") is None
    returned.drop("acme", "x1")
    assert returned.explain("acme", "x1") is None
    why = returned.explain("acme", "x2")
    assert why is not None and "comes again in 5 s" in why.reason


def test_of_the_broker_a_tenant_is_told_its_own_parked_jobs_only() -> None:
    depths = {
        "sandpool.jobs.sql.batch": 1200,
        "sandpool.jobs.cpu.batch": 0,
        "sandpool.parked.acme.sql.batch": 30,
        "sandpool.parked.rival.sql.batch": 77,
        "sandpool.dead": 3,
    }
    assert of_nobody("acme", depths).reason.endswith("jobs there now: 30 in acme's own queues")
    assert "jobs there now" not in of_nobody("third", depths).reason
    alone = of_nobody("acme", depths, alone=True).reason
    assert alone.endswith("jobs there now: 1,200 in sql.batch, 30 in acme's own queues")
