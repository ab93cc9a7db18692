"""Several schedulers at once: names, parts of limits, mailboxes of their own, and one ending for each job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.fairness import Share
from cluster.replicas import ALONE, Replica, all_of
from sandpool.outcome import Ending
from tests.unit.cluster.test_link import statement
from tests.unit.cluster.test_scheduler import SQL_QUEUE, House, job
from workers.attempt import Attempt, Statement, decode_statement, encode_statement
from workers.errors import PoolClosed
from workers.mailbox import decode_attempt
from workers.mailboxes import MOST_SCHEDULERS, Mailboxes


@given(st.integers(1, 16), st.integers(0, 1000))
def test_the_parts_of_a_limit_add_up_to_it(count: int, limit: int) -> None:
    assert sum(replica.part_of(limit) for replica in all_of(count)) == limit


@given(st.integers(1, 16))
def test_every_scheduler_has_a_name_of_its_own_and_knows_the_others(count: int) -> None:
    every = all_of(count)
    names = [replica.name for replica in every]
    assert len(set(names)) == count and names[0] == "scheduler"
    assert all(sorted([*replica.others, replica.name]) == sorted(names) for replica in every)
    assert len({replica.mailbox for replica in every}) == count


def test_rights_of_a_tenant_are_divided_and_weights_are_not() -> None:
    share = Replica(2, 2).share_of(Share(weight=3, max_in_flight=5, rate_per_s=4))
    assert share == Share(weight=3, max_in_flight=2, rate_per_s=2)
    assert ALONE.share_of(Share(max_in_flight=5)) == Share(max_in_flight=5)


async def _run(work: Statement) -> Attempt:
    return Attempt(job_id=work.job_id, attempt_id=work.attempt_id, ending=Ending.Succeeded)


async def test_what_one_scheduler_collects_is_not_anothers() -> None:
    boxes = Mailboxes(decode_statement, _run)
    boxes.of("").submit([encode_statement(statement("first"))])
    boxes.of("scheduler-2").submit([encode_statement(statement("second"))])
    for scheduler, expected in (("scheduler-2", "second"), ("", "first")):
        _, number, letters = await boxes.of(scheduler).collect(1.0)
        assert (number, [decode_attempt(letter).job_id for letter in letters]) == (1, [expected])
    await boxes.stop(1.0)


async def test_a_worker_keeps_mailboxes_for_so_many_schedulers_and_no_more() -> None:
    boxes = Mailboxes(decode_statement, _run)
    for number in range(MOST_SCHEDULERS):
        boxes.of(f"scheduler-{number}")
    with pytest.raises(PoolClosed):
        boxes.of("one-too-many")


@pytest.fixture
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[House, House]]:
    """Two schedulers on one broker and one volume."""
    first, second = House(request.node.name), House(request.node.name)
    second.broker = first.broker
    second.door = type(second.door)(first.broker)
    await first.open()
    await second.open()
    yield first, second
    await second.close()
    await first.close()


async def test_two_schedulers_end_every_job_once_while_one_of_them_drains(pair: tuple[House, House]) -> None:
    first, second = pair
    client = await first.client()
    handles = [await client.submit(job(id=f"j{number}")) for number in range(60)]
    await asyncio.sleep(0.02)
    await second.door.stop_consuming()
    await second.scheduler.drain(1.0)
    handles += [await client.submit(job(id=f"k{number}")) for number in range(20)]
    outcomes = [await handle.outcome(timeout=30) for handle in handles]
    assert {outcome.ending for outcome in outcomes} == {Ending.Succeeded}
    ran = [each.job_id for each in (*first.bench.ran, *second.bench.ran)]
    assert len(ran) == len(set(ran)) == 80 and second.bench.ran
    await first.settled()
    assert first.broker.waiting(SQL_QUEUE) == 0
