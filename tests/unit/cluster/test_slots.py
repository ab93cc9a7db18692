"""Slots are handed out in order, interactive first, and none is lost on the way."""

import asyncio

from cluster.placement import Need, Never, Node, Placed, PoolView, Wait
from cluster.slots import Slots


class OnePool:
    """A cluster of one pool whose busy count the test moves."""

    def __init__(self, slots: int) -> None:
        self.slots, self.busy = slots, 0
        self.waiting = Slots(lambda: [Node("n", {"d": PoolView(self.slots, self.busy)})])

    async def hold(self, *, interactive: bool = False, timeout_s: float = 5.0) -> Placed | Wait | Never:
        answer = await self.waiting.take(Need("d"), interactive=interactive, timeout_s=timeout_s)
        if isinstance(answer, Placed):
            self.busy += 1
        return answer

    def free(self) -> None:
        self.busy -= 1
        self.waiting.freed(Need("d"))


async def test_interactive_jobs_go_before_batch_jobs_and_each_line_is_in_order() -> None:
    pool, order = OnePool(1), []
    await pool.hold()

    async def wait(name: str, interactive: bool) -> None:
        await pool.hold(interactive=interactive)
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, interactive in (("b1", False), ("b2", False), ("i1", True), ("i2", True)):
            group.create_task(wait(name, interactive))
            await asyncio.sleep(0)
        for _ in range(4):
            pool.free()
            await asyncio.sleep(0.001)
    assert order == ["i1", "i2", "b1", "b2"]


async def test_a_newcomer_does_not_overtake_the_line() -> None:
    pool = OnePool(1)
    await pool.hold()
    first = asyncio.create_task(pool.hold())
    await asyncio.sleep(0)
    pool.free()  # the first in line is woken, but has not run yet
    second = asyncio.create_task(pool.hold(timeout_s=0.05))
    assert isinstance(await first, Placed)
    assert isinstance(await second, Wait)


async def test_a_turn_given_to_a_cancelled_waiter_goes_to_the_next() -> None:
    pool = OnePool(1)
    await pool.hold()
    first, second = asyncio.create_task(pool.hold()), asyncio.create_task(pool.hold())
    await asyncio.sleep(0)
    pool.free()
    first.cancel()
    assert isinstance(await asyncio.wait_for(second, 1.0), Placed)


async def test_waiting_ends_at_its_time_limit_and_leaves_no_place_behind() -> None:
    pool = OnePool(1)
    await pool.hold()
    assert isinstance(await pool.hold(timeout_s=0.01), Wait)
    pool.free()
    assert isinstance(await pool.hold(timeout_s=0.01), Placed)


async def test_many_waiters_share_few_slots_and_all_are_served() -> None:
    pool, most = OnePool(3), 0

    async def work() -> None:
        nonlocal most
        assert isinstance(await pool.hold(), Placed)
        most = max(most, pool.busy)
        await asyncio.sleep(0)
        pool.free()

    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(200))), 10)
    assert most == 3 and pool.busy == 0


async def test_an_unknown_database_is_never_placed() -> None:
    assert isinstance(await OnePool(1).waiting.take(Need("x"), interactive=True, timeout_s=1), Never)
