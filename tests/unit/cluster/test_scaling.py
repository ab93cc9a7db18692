"""How large the cluster should be, and which nodes may rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import dispatch_scaling
from cluster.dispatch import RayBench
from cluster.dispatch_scaling import Scaling
from cluster.placement import GpuNeed, HostView, Node, SandboxNeed
from cluster.scaling import HOLD_S, MOST_BUNDLES, Demand, Growth, may_rest, piece_of
from sandpool import CommandJob
from tests.support.clusters import sandbox_needs
from tests.unit.cluster.test_nodes_follow import SPEC, Budgeted, actors, cluster
from tests.unit.cluster.test_scheduler import House

__all__ = ["actors"]  # fixtures
GIB = 1 << 30
SMALL = SandboxNeed(image="base", cpus=1.0, memory_bytes=GIB)
CARD = SandboxNeed(image="base", cpus=2.0, memory_bytes=GIB, gpu=GpuNeed(count=2), labels={"zone": "a"})


def test_a_need_is_asked_for_as_ray_counts_it() -> None:
    assert piece_of(SMALL).bundle == {"CPU": 1.0, "memory": GIB}
    assert piece_of(CARD).bundle == {"CPU": 2.0, "memory": GIB, "GPU": 2}
    assert piece_of(CARD).labels == (("zone", "a"),)


@given(st.lists(st.lists(sandbox_needs, max_size=6), max_size=5), st.integers(1, 3))
def test_what_is_asked_for_covers_every_moment_and_is_bounded(
    moments: list[list[SandboxNeed]], schedulers: int
) -> None:
    demand = Demand(schedulers)
    for second, needs in enumerate(moments):
        demand.see(needs, float(second))
    asked = Counter(demand.pieces())
    for needs in moments:
        wanted = Counter(map(piece_of, needs))
        assert all(asked[piece] >= schedulers * count for piece, count in wanted.items())
    most = Counter[object]()
    for needs in moments:
        most |= Counter(map(piece_of, needs))
    assert asked.total() == schedulers * most.total(), "and no more than the most that was wanted at once"


def test_the_ask_is_bounded_with_the_largest_first() -> None:
    demand = Demand()
    demand.see([SMALL] * 3000 + [CARD], 0.0)
    pieces = demand.pieces()
    assert len(pieces) == MOST_BUNDLES and pieces[0].gpus == 2


def test_a_need_that_is_gone_is_held_for_a_while_and_then_forgotten() -> None:
    demand = Demand()
    demand.see([SMALL], 0.0)
    demand.see([], HOLD_S - 1)
    assert len(demand.pieces()) == 1
    demand.see([], HOLD_S + 1)
    assert demand.pieces() == []


def test_idle_nodes_rest_but_those_that_are_kept() -> None:
    assert may_rest({"head": 9000.0, "a": 700.0, "b": 599.0, "c": 600.0}, 600, ["head"]) == ["a", "c"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bundles each ask was for."""
    sizes: list[int] = []
    monkeypatch.setattr(dispatch_scaling.dispatch_nodes, "ask_for", lambda bundles, labels: sizes.append(len(bundles)))
    return sizes


async def test_ray_is_asked_when_the_answer_changes_and_the_ask_is_taken_back(asked: list[int]) -> None:
    now, wanted = [0.0], [SMALL, SMALL]
    scaling = Scaling(Growth(600), lambda: wanted, clock=lambda: now[0])
    for second in range(0, 20, 5):
        now[0] = float(second)
        assert (await scaling.look([], []))[1]
    assert asked == [2]
    wanted = []
    now[0] = 15 + HOLD_S + 1
    assert not (await scaling.look([], []))[1]
    assert asked == [2, 0]


async def test_one_scheduler_speaks_for_all(asked: list[int]) -> None:
    await Scaling(Growth(600, schedulers=2), lambda: [SMALL] * 3).look([], [])
    await Scaling(Growth(600, schedulers=2, speaks=False), lambda: [SMALL] * 3).look([], [])
    assert asked == [6]


async def test_an_idle_node_rests_and_works_again_when_there_is_demand(
    actors: dict[str, Budgeted], asked: list[int]
) -> None:
    bench = RayBench({"flights": SPEC}, {}, growth=Growth(600), grace_s=1.0)
    now, wanted = [0.0], []
    bench.wants(lambda: wanted)
    assert bench._scaling is not None
    bench._scaling._clock = lambda: now[0]
    try:
        await bench._follow(cluster("a", "b"))
        await bench._scale()
        now[0] = 601.0
        await bench._scale()
        for task in list(bench._leaving):
            await task
        assert set(bench._pools.links) == {"a"} and actors["a"].budget == 8, "a is the scheduler's own node"
        wanted.append(SMALL)
        now[0] = 610.0
        await bench._scale()
        assert set(bench._pools.links) == {"a", "b"} and asked == [1]
    finally:
        await bench.close(0.0)


async def test_a_job_that_no_node_can_run_waits_for_one_where_the_cluster_grows(request: pytest.FixtureRequest) -> None:
    house = House(request.node.name)
    house.rules = replace(house.rules, grows=True)
    await house.open()
    try:
        house.scheduler._slots._nodes = lambda: [Node("n", host=HostView(cpus=1, memory_bytes=GIB))]
        client = await house.client()
        await house.door.consume("sandpool.jobs.cpu.batch", 8, house.scheduler.take)
        await client.submit(CommandJob(id="large", argv=("true",)))
        async with asyncio.timeout(5):
            while not house.scheduler.wanted():
                await asyncio.sleep(0.01)
        why = await client.explain("large")
        assert (why.state, why.code) == ("returned", "placement.never")
    finally:
        await house.close()
