"""Whatever happens in whatever order, nobody waits who could go: not at all where a change was told, and until the next
look where it was not."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cluster.fairness import Share
from cluster.placement import GpuNeed, GpuView, HostView, Need, Never, Node, Placed, PoolView, SandboxNeed, Wait, place
from cluster.placement.claims import Claim, claim_of, hold
from cluster.slots import HOLDS_S, LOOK_S, Slots

GIB = 1 << 30
TENANTS = {"acme": Share(weight=2.0), "blue": Share(max_in_flight=2), "cobalt": Share(rate_per_s=2.0)}


def sandbox(tenant: str, size: int, gpu: GpuNeed | None = None) -> Need:
    return Need(sandbox=SandboxNeed("base", float(size), size * GIB, gpu, tenant=tenant))


NEEDS = {
    "flights": lambda _: Need("flights"),
    "ledger": lambda _: Need("ledger"),
    "small": lambda tenant: sandbox(tenant, 1),
    "large": lambda tenant: sandbox(tenant, 3),
    "gpu": lambda tenant: sandbox(tenant, 2, GpuNeed()),
}


class StillLoop(asyncio.SelectorEventLoop):
    """Its time moves when the test says so."""

    now_s = 100.0

    def time(self) -> float:
        return self.now_s


@dataclass(eq=False)
class Job:
    tenant: str
    need: Need
    task: asyncio.Task[None] | None = None
    placed: Placed | None = None
    claim: Claim | None = None


class SlotsMachine(RuleBasedStateMachine):
    """`nodes` are what is there; what runs is booked on them as the bench does."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = StillLoop()
        self.slots = Slots(self.view, TENANTS, clock=self.loop.time)
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.untold = False

    @initialize(
        cpu=st.integers(1, 4),
        gpu=st.booleans(),
        flood=st.lists(st.tuples(st.sampled_from(sorted(TENANTS)), st.sampled_from(sorted(NEEDS))), max_size=24),
    )
    def begin(self, cpu: int, gpu: bool, flood: list[tuple[str, str]]) -> None:
        gpus = (GpuView("g0", "H100", 8 * GIB),) if gpu else ()
        self.there = {
            "a": Node("a", {"flights": PoolView(1), "ledger": PoolView(2)}, self.host(cpu)),
            "b": Node("b", {"flights": PoolView(2)}, self.host(4, gpus)),
        }

        for tenant, kind in flood:
            self.submit(tenant, kind, True, 1)
            self.run()

    @staticmethod
    def host(size: int, gpus: tuple[GpuView, ...] = ()) -> HostView:
        return HostView(float(size), size * GIB, images=frozenset({"base"}), gpus=gpus)

    def view(self) -> list[Node]:
        seen = dict(self.there)
        for job in self.running:
            assert job.placed is not None
            if (node := seen.get(job.placed.node)) is None:
                continue
            if job.claim is not None:
                seen[node.name] = hold(node, job.claim)
            elif (pool := node.pools.get(job.need.database)) is not None:
                seen[node.name] = replace(
                    node, pools={**node.pools, job.need.database: replace(pool, busy=pool.busy + 1)}
                )
        return list(seen.values())

    async def live(self, job: Job, interactive: bool) -> None:
        answer = await self.slots.take(job.need, tenant=job.tenant, interactive=interactive, timeout_s=600)
        if isinstance(answer, Placed):
            job.placed = answer
            if job.need.sandbox is not None:
                (node,) = (node for node in self.view() if node.name == answer.node)
                job.claim = claim_of(job.need.sandbox, answer, node)
            self.running.append(job)
            most = TENANTS[job.tenant].max_in_flight
            assert most is None or Counter(each.tenant for each in self.running)[job.tenant] <= most

    @rule(
        tenant=st.sampled_from(sorted(TENANTS)),
        kind=st.sampled_from(sorted(NEEDS)),
        interactive=st.booleans(),
        count=st.integers(1, 4),
    )
    def submit(self, tenant: str, kind: str, interactive: bool, count: int) -> None:
        for _ in range(count):
            job = Job(tenant, NEEDS[kind](tenant))
            self.waiting.append(job)
            job.task = self.loop.create_task(self.live(job, interactive))
            job.task.add_done_callback(lambda _, job=job: self.waiting.remove(job))

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 99), alone=st.booleans())
    def finish(self, index: int, alone: bool) -> None:
        job = self.running.pop(index % len(self.running))
        self.call(lambda: self.slots.freed(job.need, job.tenant))
        if alone:
            self.settle()

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, 99))
    def give_up(self, index: int) -> None:
        task = self.waiting[index % len(self.waiting)].task
        assert task is not None
        self.call(task.cancel)

    @rule(
        name=st.sampled_from("ab"),
        slots=st.integers(0, 4),
        size=st.integers(1, 8),
        trouble=st.sampled_from(["", "", "", "avoided", "draining", "unwell"]),
        told=st.sampled_from((True, True, True, False)),
    )
    def change(self, name: str, slots: int, size: int, trouble: str, told: bool) -> None:
        """A node rests or comes back, drains or does not, is given connections, memory, a disk."""
        node = self.there[name]
        assert node.host is not None
        unwell = "its disk is full" if trouble == "unwell" else ""
        host = replace(node.host, cpus=float(size), memory_bytes=size * GIB, unwell=unwell)
        pools = {**node.pools, "flights": PoolView(slots)}
        self.there[name] = replace(
            node,
            pools=pools,
            host=host,
            avoided="failed" if trouble == "avoided" else "",
            draining=trouble == "draining",
        )
        if told:
            self.call(self.slots.cluster_changed)
        else:
            self.untold = True

    @rule()
    def settle(self) -> None:
        """Everything that was begun goes on, in no time at all."""
        self.run()
        if not self.untold:
            assert self.stuck(self.firsts(), told=True) == []

    @rule()
    def a_look_later_nobody_waits_for_what_was_not_told(self) -> None:
        self.run()
        self.pass_by(LOOK_S)
        self.untold = False
        assert self.stuck(self.firsts()) == []

    @rule()
    def long_after_nobody_is_kept_by_those_before(self) -> None:
        self.run()
        self.pass_by(HOLDS_S)
        self.pass_by(LOOK_S)
        self.untold = False
        assert self.stuck(self.waiting) == []

    def call(self, what: object) -> None:
        """On the loop, and nothing else: what it brings about may meet with what the next rule does."""
        self.loop.call_soon(what)  # type: ignore[arg-type]

    def run(self) -> None:
        async def turns() -> None:
            for _ in range(30):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        assert self.slots._woken == 0
        held = Counter(job.tenant for job in self.running)
        assert self.slots._in_flight == held
        for name, line in self.slots._lines.items():
            here = Counter(job.tenant for job in self.running if self.slots._line(job.need) is line)
            assert {tenant: line.in_use(tenant) for tenant in TENANTS} == {
                tenant: here[tenant] for tenant in TENANTS
            }, name

    def pass_by(self, seconds: float) -> None:
        self.loop.now_s += seconds + 0.001
        self.run()

    def firsts(self) -> list[Job]:
        """The first of every tenant's lines."""
        lines = self.slots._lines.values()
        needed = [(waiter.tenant, waiter.need) for line in lines for _, _, waiter in line.order(lambda _: True)]
        return [job for job in self.waiting if (job.tenant, job.need) in needed]

    def stuck(self, jobs: list[Job], *, told: bool = False) -> list[tuple[str, Need]]:
        """Those who may go and would find a place; or hear that there is none for ever, which is told at a look only
        (`told`: there was none)."""
        waits = (Wait, Never) if told else Wait
        return [
            (job.tenant, job.need)
            for job in jobs
            if self.slots._may_go(job.tenant) and not isinstance(place(job.need, self.view()), waits)
        ]

    def teardown(self) -> None:
        for job in self.waiting:
            assert job.task is not None
            job.task.cancel()
        self.run()
        if self.slots._timer is not None:
            self.slots._timer.cancel()
        assert self.waiting == []
        self.loop.close()


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(stateful_step_count=40, deadline=None)
