"""Slots are handed out in order, interactive first, and none is lost on the way."""

import asyncio
import time
from collections.abc import Callable

from cluster.fairness import Share
from cluster.placement import GpuNeed, GpuView, HostView, Need, Never, Node, Placed, PoolView, SandboxNeed, Wait
from cluster.slots import HOLDS_S, LOOK_S, Slots


class OnePool:
    """A cluster of one pool whose busy count the test moves."""

    def __init__(self, slots: int, shares: dict[str, Share] | None = None) -> None:
        self.slots, self.busy = slots, 0
        self.waiting = Slots(lambda: [Node("n", {"d": PoolView(self.slots, self.busy)})], shares)

    async def hold(
        self, *, tenant: str = "acme", interactive: bool = False, timeout_s: float = 5.0
    ) -> Placed | Wait | Never:
        answer = await self.waiting.take(Need("d"), tenant=tenant, interactive=interactive, timeout_s=timeout_s)
        if isinstance(answer, Placed):
            self.busy += 1
        return answer

    def free(self, tenant: str = "acme") -> None:
        self.busy -= 1
        self.waiting.freed(Need("d"), tenant)


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
    assert isinstance(await OnePool(1).waiting.take(Need("x"), tenant="acme", interactive=True, timeout_s=1), Never)


async def test_a_tenant_at_its_limit_in_flight_waits_while_slots_are_free() -> None:
    pool = OnePool(8, {"acme": Share(max_in_flight=2)})
    for _ in range(2):
        assert isinstance(await pool.hold(), Placed)
    third = asyncio.create_task(pool.hold())
    await asyncio.sleep(0.01)
    assert not third.done()
    assert isinstance(await pool.hold(tenant="globex"), Placed), "others go on"
    pool.free()
    assert isinstance(await asyncio.wait_for(third, 1), Placed)


async def test_a_limit_counts_across_all_databases() -> None:
    nodes = [Node("n", {"d": PoolView(8), "e": PoolView(8)})]
    slots = Slots(lambda: nodes, {"acme": Share(max_in_flight=1)})
    assert isinstance(await slots.take(Need("d"), tenant="acme", interactive=True, timeout_s=1), Placed)
    other = asyncio.create_task(slots.take(Need("e"), tenant="acme", interactive=True, timeout_s=1))
    await asyncio.sleep(0.01)
    assert not other.done()
    slots.freed(Need("d"), "acme")
    assert isinstance(await other, Placed)


async def test_a_rate_is_waited_for_and_wakes_by_itself() -> None:
    pool = OnePool(1000, {"acme": Share(rate_per_s=50)})
    started_s = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(pool.hold() for _ in range(60)))
    assert all(isinstance(answer, Placed) for answer in answers)
    assert asyncio.get_running_loop().time() - started_s >= 0.15, "fifty at once, then one every 20 ms"


async def test_turns_that_came_due_while_the_loop_was_busy_are_all_given() -> None:
    pool = OnePool(1000, {"acme": Share(rate_per_s=50)})
    waiting = [asyncio.create_task(pool.hold(timeout_s=2)) for _ in range(60)]
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - the loop is busy with something else
    assert all(isinstance(answer, Placed) for answer in await asyncio.gather(*waiting))


async def test_more_nodes_wake_all_who_find_a_place() -> None:
    pool = OnePool(0)
    waiting = [asyncio.create_task(pool.hold()) for _ in range(5)]
    await asyncio.sleep(0)
    pool.slots = 3
    pool.waiting.cluster_changed()
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting].count(True) == pool.busy == 3
    for task in waiting:
        task.cancel()


class OneHost:
    """A cluster of one host of 4 CPUs, and whose jobs are on it."""

    def __init__(self, shares: dict[str, Share] | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.running: list[SandboxNeed] = []
        self.unwell = ""
        self.slots = Slots(lambda: [Node("n", {"d": PoolView(1)}, self.host())], shares, clock)

    def host(self) -> HostView:
        cpus = sum(need.cpus for need in self.running)
        busy = any(need.gpu for need in self.running)
        gpu = GpuView("g", "H100", 80, reserved_bytes=80 * busy, tenant="acme")
        return HostView(4, 99, cpus, images=frozenset({"base"}), gpus=(gpu,), unwell=self.unwell)

    async def hold(self, cpus: float, *, gpu: GpuNeed | None = None, tenant: str = "acme") -> SandboxNeed:
        need = SandboxNeed("base", cpus, 0, gpu, tenant=tenant)
        answer = await self.slots.take(Need(sandbox=need), tenant=tenant, interactive=True, timeout_s=5)
        assert isinstance(answer, Placed)
        self.running.append(need)
        return need

    def free(self, need: SandboxNeed) -> None:
        self.running.remove(need)
        self.slots.freed(Need(sandbox=need), need.tenant)


async def ticks() -> None:
    """What is ready goes on, in no time: no look at every line comes to its help."""
    for _ in range(30):
        await asyncio.sleep(0)


async def test_one_large_sandbox_that_ends_makes_room_for_all_who_fit() -> None:
    host = OneHost()
    large = await host.hold(4)
    waiting = [asyncio.create_task(host.hold(1)) for _ in range(5)]
    await ticks()
    host.free(large)
    await ticks()
    assert [task.done() for task in waiting] == [True] * 4 + [False]
    waiting[4].cancel()


async def test_a_gpu_job_that_ends_makes_room_for_a_sandbox_without_one() -> None:
    host = OneHost()
    on_gpu = await host.hold(4, gpu=GpuNeed())
    plain = asyncio.create_task(host.hold(1))
    await ticks()
    host.free(on_gpu)
    await ticks()
    assert plain.done()


async def test_a_turn_that_comes_to_nothing_is_not_kept_from_the_tenants_other_lines() -> None:
    host = OneHost({"acme": Share(max_in_flight=1)})
    first = await host.hold(4)
    sandbox = asyncio.create_task(host.hold(4))
    await ticks()
    statement = asyncio.create_task(host.slots.take(Need("d"), tenant="acme", interactive=True, timeout_s=1))
    await ticks()
    host.free(first)
    host.unwell = "its disk is full"  # while the next sandbox is on its way
    await ticks()
    assert statement.done()
    sandbox.cancel()


async def test_a_slot_that_comes_free_while_the_first_in_line_is_being_cancelled_goes_to_the_next() -> None:
    pool = OnePool(1)
    await pool.hold()
    first, second = asyncio.create_task(pool.hold()), asyncio.create_task(pool.hold())
    await asyncio.sleep(0)
    first.cancel()
    pool.free()
    await ticks()
    assert first.cancelled() and second.done()


async def test_a_change_that_nobody_tells_is_seen_within_a_look() -> None:
    host = OneHost()
    host.unwell = "its disk is full"
    waiting = asyncio.create_task(host.hold(1))
    await ticks()
    host.unwell = ""
    await asyncio.wait_for(waiting, 2 * LOOK_S)


async def test_a_rate_that_is_soon_due_does_not_wait_for_one_that_is_not() -> None:
    pool = OnePool(9, {"slow": Share(rate_per_s=0.1), "quick": Share(rate_per_s=50)})
    await pool.hold(tenant="slow")
    slow = asyncio.create_task(pool.hold(tenant="slow"))
    await asyncio.sleep(0)
    for _ in range(50):
        await pool.hold(tenant="quick")
        pool.free("quick")
    async with asyncio.timeout(LOOK_S / 2):
        assert isinstance(await pool.hold(tenant="quick"), Placed)
    slow.cancel()


async def test_a_large_job_keeps_those_behind_it_for_a_while_and_not_for_ever() -> None:
    now_s = 0.0
    host = OneHost(clock=lambda: now_s)
    await host.hold(1)
    large = asyncio.create_task(host.hold(4))
    await ticks()
    small = asyncio.create_task(host.hold(1))
    await ticks()
    assert not small.done(), "room for the large one gathers"
    now_s = HOLDS_S
    host.slots.cluster_changed()
    await ticks()
    assert small.done()
    large.cancel()


async def test_a_change_wakes_nobody_for_nothing_so_the_order_holds() -> None:
    pool, order = OnePool(0), []

    async def wait(name: str) -> None:
        await pool.hold()
        order.append(name)

    waiting = [asyncio.create_task(wait(name)) for name in "abc"]
    for slots in (1, 2, 3):
        await ticks()
        pool.slots = slots
        pool.waiting.cluster_changed()
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]


async def test_all_whom_no_node_can_take_any_more_are_told_within_a_look() -> None:
    nodes = [Node("n", {"d": PoolView(0)})]
    slots = Slots(lambda: nodes)
    takes = [slots.take(Need("d"), tenant="acme", interactive=True, timeout_s=9) for _ in range(50)]
    waiting = asyncio.gather(*takes)
    await ticks()
    nodes.clear()
    assert all(isinstance(answer, Never) for answer in await asyncio.wait_for(waiting, 2 * LOOK_S))


async def test_many_different_needs_that_are_not_met_keep_nobody_from_a_place_for_longer_than_a_look() -> None:
    host = OneHost()
    await host.hold(1)
    large = [asyncio.create_task(host.hold(3.5 + number / 100, tenant=f"a{number:02}")) for number in range(20)]
    await ticks()
    small = asyncio.create_task(host.hold(1, tenant="z"))
    await asyncio.wait_for(small, 2 * LOOK_S)
    for task in large:
        task.cancel()
