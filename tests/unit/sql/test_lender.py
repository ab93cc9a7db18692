"""The lender keeps its budget, prefers a tenant's own connection, loses none, and lets nobody wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from workers.errors import DatabaseUnavailable, PoolBusy, PoolClosed
from workers.sql.lender import Lender
from workers.sql.line import Sort
from workers.sql.spec import PoolSpec


class FakeLoan:
    """A connection that remembers who used it."""

    def __init__(self) -> None:
        self.tenant: str | None = None
        self.is_open = True
        self.resets = 0
        self.fail_reset = False

    async def reset_for(self, tenant: str) -> None:
        await asyncio.sleep(0)
        if self.fail_reset:
            raise ConnectionResetError
        self.resets += self.tenant not in (None, tenant)
        self.tenant = tenant

    async def close(self) -> None:
        self.is_open = False


class House:
    """A lender on fakes, with every connection it ever opened."""

    def __init__(self, **fields: Any) -> None:
        self.opened: list[FakeLoan] = []
        self.bulk_opened: list[FakeLoan] = []
        self.wire_opened: list[FakeLoan] = []
        self.failing = False
        spec = PoolSpec(database="d", dsn="postgresql://x", **{"budget": 3, "bulk_budget": 1, **fields})
        self.lender = Lender(
            spec,
            lambda: self._open(self.opened),
            lambda: self._open(self.bulk_opened),
            lambda: self._open(self.wire_opened),
        )

    async def _open(self, made: list[FakeLoan]) -> FakeLoan:
        await asyncio.sleep(0)
        if self.failing:
            raise DatabaseUnavailable("down")
        made.append(FakeLoan())
        return made[-1]

    @property
    def open_now(self) -> int:
        return sum(loan.is_open for loan in (*self.opened, *self.bulk_opened, *self.wire_opened))

    @asynccontextmanager
    async def loan(self, tenant: str, *, sort: Sort = Sort.Small) -> AsyncIterator[Any]:
        loan = await self.lender.acquire(tenant, 5.0, sort)
        try:
            yield loan
        finally:
            self.lender.release(loan, sort=sort)


async def test_the_same_tenant_gets_its_own_connection_back_without_a_reset() -> None:
    house = House()
    async with house.loan("a") as a, house.loan("b") as b:
        pass
    for _ in range(3):
        async with house.loan("b") as again:
            assert again is b
        async with house.loan("a") as again:
            assert again is a
    assert a.resets == b.resets == 0


async def test_a_new_tenant_gets_a_new_connection_while_the_budget_lasts_then_a_reset_one() -> None:
    house = House(budget=2)
    for tenant in "ab":
        async with house.loan(tenant):
            pass
    async with house.loan("c") as loan:
        assert loan.resets == 1
    assert len(house.opened) == 2


async def test_waiters_are_served_in_order_and_affinity_cannot_starve_one() -> None:
    house = House(budget=1)
    order: list[str] = []

    async def use(tenant: str) -> None:
        async with house.loan(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    async with house.loan("a"):
        tasks = [asyncio.create_task(use("b"))] + [asyncio.create_task(use("a")) for _ in range(30)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert 0 < order.index("b") <= 8


async def test_a_wait_ends_at_its_deadline_and_leaves_the_line() -> None:
    house = House(budget=1)
    async with house.loan("a"):
        with pytest.raises(PoolBusy):
            await house.lender.acquire("b", 0.01)
        assert house.lender.waiting_count == 0
    async with house.loan("b"):
        pass


async def test_a_line_that_is_full_refuses_at_once() -> None:
    house = House(budget=1, max_waiting=1)
    async with house.loan("a"):
        first = asyncio.create_task(house.lender.acquire("b", 5.0))
        await asyncio.sleep(0)
        with pytest.raises(PoolBusy, match="too many"):
            await house.lender.acquire("c", 5.0)
    house.lender.release(await first)


async def test_a_broken_connection_is_replaced_for_whoever_waits() -> None:
    house = House(budget=1)
    loan: Any = await house.lender.acquire("a", 5.0)
    waiter = asyncio.create_task(house.lender.acquire("b", 5.0))
    await asyncio.sleep(0)
    loan.is_open = False
    house.lender.release(loan)
    assert await waiter is house.opened[1]
    assert house.lender.open_count == 1


async def test_an_idle_connection_that_died_is_not_lent() -> None:
    house = House(budget=1)
    async with house.loan("a") as loan:
        pass
    loan.is_open = False
    async with house.loan("a") as other:
        assert other is not loan


async def test_a_failed_connect_gives_its_place_to_the_next() -> None:
    house = House(budget=1)
    house.failing = True
    tries = [asyncio.create_task(house.lender.acquire("a", 5.0)) for _ in range(4)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(result, DatabaseUnavailable) for result in results)
    assert (house.lender.open_count, house.lender.waiting_count) == (0, 0)
    house.failing = False
    async with house.loan("a"):
        pass


async def test_a_failed_reset_discards_the_connection() -> None:
    house = House(budget=1)
    async with house.loan("a") as loan:
        loan.fail_reset = True
    with pytest.raises(DatabaseUnavailable):
        await house.lender.acquire("b", 5.0)
    async with house.loan("b") as other:
        assert other is not loan


async def test_a_cancelled_waiter_passes_on_what_it_was_just_given() -> None:
    house = House(budget=1)
    loan = await house.lender.acquire("a", 5.0)
    first = asyncio.create_task(house.lender.acquire("b", 5.0))
    second = asyncio.create_task(house.lender.acquire("c", 5.0))
    await asyncio.sleep(0)
    house.lender.release(loan)
    first.cancel()
    assert await second is loan
    assert first.cancelled()


async def test_bulk_and_small_share_the_budget_and_make_room_for_each_other() -> None:
    house = House(budget=2, bulk_budget=1)
    async with house.loan("a"), house.loan("b"):
        pass
    async with house.loan("a", sort=Sort.Bulk):
        await asyncio.sleep(0)
        assert house.open_now == house.lender.open_count == 2
    async with house.loan("a"), house.loan("b"):
        await asyncio.sleep(0)
        assert house.open_now == house.lender.open_count == 2


async def test_bulk_never_takes_more_than_its_own_budget() -> None:
    house = House(budget=4, bulk_budget=1)
    async with house.loan("a", sort=Sort.Bulk):
        with pytest.raises(PoolBusy):
            await house.lender.acquire("b", 0.01, sort=Sort.Bulk)
        async with house.loan("b"):
            pass


async def test_a_bulk_waiter_is_served_when_a_small_connection_frees_the_budget() -> None:
    house = House(budget=1, bulk_budget=1)
    small = await house.lender.acquire("a", 5.0)
    waiter = asyncio.create_task(house.lender.acquire("a", 5.0, sort=Sort.Bulk))
    await asyncio.sleep(0)
    house.lender.release(small)
    assert await waiter is house.bulk_opened[0]
    assert house.lender.open_count == 1


async def test_closing_refuses_waiters_and_closes_what_is_idle_or_comes_back() -> None:
    house = House(budget=2)
    async with house.loan("a"):
        pass
    lent = await house.lender.acquire("a", 5.0)
    other = await house.lender.acquire("b", 5.0)
    waiter = asyncio.create_task(house.lender.acquire("c", 5.0))
    await asyncio.sleep(0)
    await house.lender.close()
    with pytest.raises(PoolClosed):
        await waiter
    house.lender.release(lent)
    house.lender.release(other)
    await asyncio.sleep(0.01)
    assert house.open_now == house.lender.open_count == 0
    with pytest.raises(PoolClosed):
        await house.lender.acquire("a", 5.0)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_the_budget_holds_and_no_connection_is_lost(seed: int) -> None:
    random = Random(seed)
    house = House(budget=random.randint(1, 4), bulk_budget=random.randint(1, 3))
    budget = house.lender._spec.budget

    async def customer() -> None:
        for _ in range(15):
            sort = random.choice([Sort.Small, Sort.Small, Sort.Bulk, Sort.Wire])
            try:
                loan: Any = await house.lender.acquire(random.choice("abc"), random.choice([0.001, 1.0]), sort=sort)
            except DatabaseUnavailable:
                continue
            try:
                assert house.lender.open_count <= budget
                await asyncio.sleep(random.choice([0, 0.0005]))
                loan.is_open = random.random() > 0.1
            finally:
                house.lender.release(loan, sort=sort)

    customers = [asyncio.create_task(customer()) for _ in range(10)]
    for victim in random.sample(customers, 3):
        await asyncio.sleep(0.002)
        victim.cancel()
    await asyncio.gather(*customers, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert house.lender.waiting_count == 0
    assert house.lender.open_count == house.lender.idle_count == house.open_now <= budget


async def test_a_smaller_budget_closes_idle_connections_now_and_lent_ones_when_they_come_back() -> None:
    house = House(budget=3)
    async with house.loan("a"), house.loan("b"):
        async with house.loan("c"):
            pass
        assert house.open_now == 3
        house.lender.set_budget(1)
        assert house.lender.open_count == 2
    await asyncio.sleep(0.01)
    assert house.open_now == house.lender.open_count == 1
    async with house.loan("d"):
        assert house.open_now == 1
        with pytest.raises(PoolBusy):
            await house.lender.acquire("e", 0.01)


async def test_a_larger_budget_serves_those_who_wait_at_once() -> None:
    house = House(budget=1)
    async with house.loan("a"):
        waiting = [asyncio.create_task(house.lender.acquire(f"t{number}", 5.0)) for number in range(3)]
        await asyncio.sleep(0.01)
        house.lender.set_budget(3)
        await asyncio.sleep(0.01)
        assert sum(task.done() for task in waiting) == 2
        assert house.lender.open_count == 3
    for loan in await asyncio.wait_for(asyncio.gather(*waiting), 1.0):
        house.lender.release(loan)
    assert house.lender.open_count == 3


async def test_under_changing_budgets_nobody_is_forgotten_and_the_last_budget_holds() -> None:
    random = Random(7)
    house = House(budget=4)

    async def use(number: int) -> None:
        async with house.loan(f"t{number % 5}", sort=random.choice([Sort.Small, Sort.Small, Sort.Bulk, Sort.Wire])):
            await asyncio.sleep(random.random() / 200)

    async def change() -> None:
        for _ in range(40):
            house.lender.set_budget(random.randint(1, 6))
            await asyncio.sleep(0.004)
        house.lender.set_budget(2)

    await asyncio.wait_for(asyncio.gather(change(), *(use(number) for number in range(300))), 20.0)
    await asyncio.sleep(0.02)
    assert house.lender.waiting_count == 0
    assert house.open_now == house.lender.open_count == house.lender.idle_count <= 2
