"""A group of jobs is complete once, when its last job has ended: whoever ended the others, and whatever comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster import groups as module
from cluster.groups import Groups
from queues.errors import BrokerAway
from queues.memory.broker import SERVICE_USER as SERVICE
from sandpool import Group
from sandpool.errors import InvalidJob
from sandpool.job import digest
from sandpool.outcome import Ending
from sandpool.wire import GroupEnding, decode_group
from tests.unit.cluster.test_scheduler import House, job
from workers.attempt import Attempt, Statement
from workers.errors import VolumeFull
from workers.volumes.keys import group_prefix

LISTENER = "sandpool.listener"


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    made = House(f"groups-{request.node.name}")
    await made.open()
    made.broker.declare_queue(SERVICE, LISTENER, {})
    made.broker.bind(SERVICE, LISTENER, "sandpool.events", "group.#")
    yield made
    await made.close()


def events(house: House) -> list[GroupEnding]:
    """What was published on completed groups since the last look."""
    found = []
    while (message := house.broker.take(SERVICE, LISTENER)) is not None:
        found.append(decode_group(message.body))
    return found


async def test_the_last_ending_completes_the_group_and_counts_them_all(house: House) -> None:
    client = await house.client()
    group = Group("nightly", 5)
    jobs = [job("select 1", group=group) for _ in range(4)]
    first = [outcome async for outcome in client.run_many(jobs)]
    assert len(first) == 4 and events(house) == []
    await (await client.submit(job("select * from forbidden", group=group))).outcome(5)
    await house.settled()
    (event,) = events(house)
    assert (event.tenant, event.name, event.size) == ("acme", "nightly", 5)
    assert event.endings == {"Succeeded": 4, "Denied": 1}
    keys = [meta.key for meta in house.volume.list(group_prefix("acme", "nightly", 5))]
    assert keys == ["acme/_groups/nightly-5/complete.json"]


async def test_a_job_submitted_twice_counts_once_and_completes_nothing_again(house: House) -> None:
    client = await house.client()
    group = Group("g", 2)
    await (await client.submit(job(id="one", group=group))).outcome(5)
    await (await client.submit(job(id="one", group=group))).outcome(5)
    assert events(house) == []
    await (await client.submit(job(id="two", group=group))).outcome(5)
    await house.settled()
    assert len(events(house)) == 1
    await (await client.submit(job(id="two", group=group))).outcome(5)
    await house.settled()
    assert events(house) == []
    assert len(list(house.volume.list(group_prefix("acme", "g", 2)))) == 1


async def test_groups_of_the_same_name_of_two_tenants_are_two(house: House) -> None:
    group = Group("g", 1)
    for tenant in ("acme", "globex"):
        await (await (await house.client(tenant)).submit(job(group=group))).outcome(5)
    await house.settled()
    assert sorted(event.tenant for event in events(house)) == ["acme", "globex"]


class _Run:
    """What `Groups` reads of a run."""

    def __init__(self, name: str, group: Group) -> None:
        self.job = job(id=name, group=group)
        self.tenant = "acme"
        self.home = type("Home", (), {"name": "results"})()


class _Outcome:
    ending = Ending.Succeeded


async def test_two_schedulers_that_share_a_group_notice_its_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts its own; the one with the last ending may think that most are missing, so it looks when it is
    quiet."""
    monkeypatch.setattr("cluster.groups.QUIET_S", 0.05)
    group = Group("shared", 20)
    both = [Groups(house.door, {"results": house.volume}) for _ in range(2)]
    for number in range(20):
        run: Any = _Run(f"job-{number}", group)
        await both[number % 2].ended(run, _Outcome())  # type: ignore[arg-type]
    for _ in range(100):
        if found := events(house):
            break
        await asyncio.sleep(0.02)
    assert found and found[0].endings == {"Succeeded": 20}
    for groups in both:
        await groups.drain(1.0)


async def test_a_broker_that_is_away_at_the_end_keeps_the_message_and_the_completion(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group("g", 1)
    groups = Groups(house.door, {"results": house.volume})
    run: Any = _Run("only", group)

    async def away(*_: object) -> None:
        raise BrokerAway("gone")

    with monkeypatch.context() as patch:
        patch.setattr(house.door, "publish_event", away)
        with pytest.raises(BrokerAway):
            await groups.ended(run, _Outcome())  # type: ignore[arg-type]
    await groups.ended(run, _Outcome())  # type: ignore[arg-type]
    assert [event.endings for event in events(house)] == [{"Succeeded": 1}]


async def test_a_failed_attempt_that_comes_back_is_no_ending(house: House) -> None:
    client = await house.client()
    failures = iter([True])

    def script(statement: Statement) -> Attempt | Exception:
        return ConnectionError("lost") if next(failures, False) else _succeed(statement)

    house.bench.script = script
    await (await client.submit(job(group=Group("g", 1)))).outcome(10)
    await house.settled()
    assert [event.endings for event in events(house)] == [{"Succeeded": 1}]


def _succeed(statement: Statement) -> Attempt:
    return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Succeeded)


@pytest.mark.parametrize(("name", "size"), [("", 1), ("../x", 1), ("a" * 65, 1), ("g", 0), ("g", 10_000_001)])
def test_a_group_out_of_its_range_is_refused(name: str, size: int) -> None:
    with pytest.raises(InvalidJob, match="group"):
        Group(name, size)


def test_a_group_is_no_part_of_what_a_job_does() -> None:
    assert digest(job(id="a", group=Group("g", 1))) == digest(job(id="a"))


async def test_a_volume_that_takes_no_marks_is_waited_for_and_no_fault_of_the_scheduler(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job has ended; fifteen such faults would have made it a dead letter."""
    codes: list[str] = []
    retry = house.door.retry

    async def seen(delivery: Any, delay_s: float, code: str) -> None:
        codes.append(code)
        await retry(delivery, 0.0, code)

    mark, failures = module.acreate_mark, [VolumeFull("no room")]

    async def full(*args: Any) -> None:
        if failures:
            raise failures.pop()
        await mark(*args)

    monkeypatch.setattr(house.door, "retry", seen)
    monkeypatch.setattr(module, "acreate_mark", full)
    handle = await (await house.client()).submit(job(group=Group("once", 1)))
    assert (await handle.outcome(timeout=30)).ending is Ending.Succeeded
    async with asyncio.timeout(5):
        while not (found := events(house)):
            await asyncio.sleep(0.02)
    assert found[0].endings == {"Succeeded": 1}
    assert codes == ["placement.volume.full"] and len(house.bench.ran) == 1
