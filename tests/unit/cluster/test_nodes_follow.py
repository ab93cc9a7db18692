"""The bench follows the cluster: who joins gets workers, who is gone loses its work at once, shares add up.

Ray is stood in for by actors without it; real nodes join and die in tests/e2e/test_nodes.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from cluster.dispatch import RayBench
from cluster.dispatch_pools import Pools
from cluster.errors import WorkerLost
from cluster.link import WorkerLink
from cluster.membership import Member
from cluster.placement import PIPELINE, Need, Placed, Wait, place
from tests.unit.cluster.test_link import FakeActor, Method, statement
from workers.attempt import encode_statement
from workers.sql.spec import PoolSpec

SPEC = PoolSpec(database="flights", dsn="postgresql://nowhere/x", budget=8)


class Budgeted(FakeActor):
    """A pool actor that remembers its budget and whether it was ended."""

    def __init__(self, budget: int) -> None:
        super().__init__()
        self.budget = budget
        self.start, self.set_budget, self.drain = Method(self._start), Method(self._set_budget), Method(self._drain)

    async def _start(self) -> None:
        return None

    async def _set_budget(self, budget: int) -> None:
        self.budget = budget

    async def _drain(self, timeout_s: float) -> bool:
        return True


@pytest.fixture
async def actors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Budgeted]:
    """What was started, by node."""
    made: dict[str, Budgeted] = {}

    def start(self: Pools, member: Member, spec: PoolSpec, namespace: str) -> Any:
        made[member.name] = Budgeted(spec.budget)
        return WorkerLink(made[member.name], encode_statement, slots=spec.budget * PIPELINE, grace_s=1.0)

    monkeypatch.setattr(Pools, "_start", start)
    monkeypatch.setattr("cluster.link.ray.kill", lambda actor: None)
    monkeypatch.setattr("cluster.dispatch.is_near", lambda member: member.name == "a")
    return made


@pytest.fixture
async def bench(actors: dict[str, Budgeted]) -> AsyncIterator[RayBench]:
    made = RayBench({"flights": SPEC}, {}, grace_s=1.0)
    yield made
    await made.close(0.0)


def cluster(*names: str, **roles: frozenset[str]) -> dict[str, Member]:
    return {name: Member(name, name, "m", roles=roles.get(name, Member("", "", "").roles)) for name in names}


async def test_shares_follow_the_nodes_and_never_exceed_the_budget(
    bench: RayBench, actors: dict[str, Budgeted]
) -> None:
    await bench._follow(cluster("a"))
    assert actors["a"].budget == 8
    await bench._follow(cluster("a", "b", "c"))
    assert [actors[name].budget for name in "abc"] == [3, 3, 2]
    assert [node.pools["flights"].slots for node in bench.nodes().nodes.values()] == [12, 12, 8]
    await bench._follow(cluster("a", "c"))
    assert [actors[name].budget for name in "ac"] == [4, 4]


async def test_the_work_of_a_node_that_is_gone_is_lost_at_once_and_the_node_forgotten(
    bench: RayBench, actors: dict[str, Budgeted]
) -> None:
    await bench._follow(cluster("a", "b"))
    actors["b"].gate.clear()
    running = asyncio.create_task(bench.run("b", "flights", statement("job", timeout_s=60.0)))
    await asyncio.sleep(0.02)
    await bench._follow(cluster("a"))
    with pytest.raises(WorkerLost, match="gone"):
        await asyncio.wait_for(running, 1.0)
    assert [node.name for node in bench.nodes().nodes.values()] == ["a"]
    with pytest.raises(WorkerLost, match="no pool"):
        await bench.run("b", "flights", statement("late"))


async def test_whoever_waits_is_told_when_a_node_joins(bench: RayBench, actors: dict[str, Budgeted]) -> None:
    told = asyncio.Event()
    bench.watch(told.set)
    await bench._follow(cluster("a"))
    assert told.is_set()
    told.clear()
    await bench._follow(cluster("a"))
    assert not told.is_set(), "nothing has changed"


async def test_a_node_that_loses_work_three_times_is_left_alone(
    bench: RayBench, actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.dispatch.ONE_MISHAP_S", 0.0)
    await bench._follow(cluster("a", "b"))

    async def broken(_: list[bytes]) -> None:
        raise KeyError("its memory is broken")

    actors["a"].submit = Method(broken)
    for number in range(3):
        with pytest.raises(WorkerLost):
            await bench.run("a", "flights", statement(f"j{number}"))
    assert place(Need("flights"), bench.nodes()) == Placed("b")
    await bench._follow(cluster("a"))
    answer = place(Need("flights"), bench.nodes())
    assert isinstance(answer, Wait) and "left alone" in answer.reason


async def test_whoever_waits_is_told_when_a_node_is_not_left_alone_any_more(
    actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.dispatch.ONE_MISHAP_S", 0.0)
    monkeypatch.setattr("cluster.dispatch.WATCH_S", 0.02)
    monkeypatch.setattr("cluster.placement.circuit.FIRST_REST_S", 0.2)
    monkeypatch.setattr("cluster.dispatch.dispatch_nodes.look", lambda: cluster("a"))
    bench = RayBench({"flights": SPEC}, {}, grace_s=1.0)
    told = asyncio.Event()
    await bench.start()
    bench.watch(told.set)

    async def broken(_: list[bytes]) -> None:
        raise KeyError("gone")

    try:
        actors["a"].submit = Method(broken)
        for number in range(3):
            with pytest.raises(WorkerLost):
                await bench.run("a", "flights", statement(f"j{number}"))
        assert isinstance(place(Need("flights"), bench.nodes()), Wait)
        told.clear()
        await asyncio.wait_for(told.wait(), 5.0)
        assert place(Need("flights"), bench.nodes()) == Placed("a")
    finally:
        await bench.close(0.0)


async def test_one_death_that_takes_much_work_along_is_one_failure(
    bench: RayBench, actors: dict[str, Budgeted]
) -> None:
    await bench._follow(cluster("a"))

    async def broken(_: list[bytes]) -> None:
        raise KeyError("gone")

    actors["a"].submit = Method(broken)
    lost = await asyncio.gather(
        *(bench.run("a", "flights", statement(f"j{n}")) for n in range(20)), return_exceptions=True
    )
    assert all(isinstance(error, WorkerLost) for error in lost)
    assert place(Need("flights"), bench.nodes()) == Placed("a")


async def test_roles_decide_where_pools_are(actors: dict[str, Budgeted]) -> None:
    bench = RayBench({"flights": SPEC}, {}, pinned={"flights"}, grace_s=1.0)
    try:
        await bench._follow(cluster("a", "b", a=frozenset({"cpu"}), b=frozenset({"db-egress"})))
        assert [sorted(node.pools) for node in bench.nodes().nodes.values()] == [[], ["flights"]]
    finally:
        await bench.close(0.0)


async def test_a_node_that_drains_gets_no_new_work_and_goes_when_it_has_finished_its_own(
    bench: RayBench, actors: dict[str, Budgeted]
) -> None:
    await bench._follow(cluster("a", "b"))
    actors["b"].gate.clear()
    running = asyncio.create_task(bench.run("b", "flights", statement("long", timeout_s=60.0)))
    await asyncio.sleep(0.02)
    drains = cluster("a", "b") | {"b": Member("b", "b", "m", drains=True)}
    await bench._follow(drains)
    assert place(Need("flights"), bench.nodes()) == Placed("a")
    bench._let_drained_go()
    assert bench._left == set(), "it still works, with its own share of the connections"
    assert actors["b"].budget == 4
    actors["b"].gate.set()
    assert (await running).ending == "Succeeded"
    bench._let_drained_go()
    await asyncio.gather(*bench._leaving)
    assert (actors["a"].budget, "b" in bench._pools.links) == (8, False)
    await bench._follow(cluster("a"))
    assert [node.name for node in bench.nodes().nodes.values()] == ["a"]


async def test_a_node_whose_time_is_up_loses_its_work_to_others(
    bench: RayBench, actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.dispatch.LEAVE_S", 0.01)
    await bench._follow(cluster("a", "b"))
    actors["b"].gate.clear()
    running = asyncio.create_task(bench.run("b", "flights", statement("long", timeout_s=60.0)))
    await asyncio.sleep(0.02)
    await bench._follow(cluster("a", "b") | {"b": Member("b", "b", "m", drains=True, drain_by_s=1.0)})
    bench._let_drained_go()
    with pytest.raises(WorkerLost):
        await asyncio.wait_for(running, 5.0)


async def test_only_draining_nodes_is_a_reason_to_wait(bench: RayBench, actors: dict[str, Budgeted]) -> None:
    await bench._follow({"b": Member("b", "b", "m")})
    await bench._follow({"b": Member("b", "b", "m", drains=True)})
    answer = place(Need("flights"), bench.nodes())
    assert isinstance(answer, Wait) and "draining" in answer.reason


async def test_the_views_of_nodes_are_made_anew_for_what_changed_only(
    bench: RayBench, actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench._follow(cluster("a", "b", "c"))
    bench.nodes()
    made: list[str] = []
    view = bench._views._view
    monkeypatch.setattr(bench._views, "_view", lambda name: made.append(name) or view(name))
    for _ in range(5):
        bench.nodes()
    assert made == []
    actors["b"].gate.clear()
    running = asyncio.create_task(bench.run("b", "flights", statement("one")))
    await asyncio.sleep(0.02)
    assert bench.nodes().nodes["b"].pools["flights"].busy == 1
    actors["b"].gate.set()
    await running
    assert bench.nodes().nodes["b"].pools["flights"].busy == 0
    assert set(made) == {"b"}


async def test_a_node_whose_workers_did_not_start_gets_them_at_the_next_look(
    bench: RayBench, actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray was away in that moment, and the set of nodes does not change again."""
    start, failures = Pools._start, [RuntimeError("Ray is away")]

    def sometimes(self: Pools, member: Member, spec: PoolSpec, namespace: str) -> Any:
        if member.name == "b" and failures:
            raise failures.pop()
        return start(self, member, spec, namespace)

    monkeypatch.setattr(Pools, "_start", sometimes)
    with pytest.raises(RuntimeError):
        await bench._follow(cluster("a", "b"))
    await bench._follow(cluster("a", "b"))
    assert [sorted(node.pools) for node in bench.nodes().nodes.values()] == [["flights"], ["flights"]]
    assert [actors[name].budget for name in "ab"] == [4, 4]
    await bench._follow(cluster("a", "b"))
    assert not bench._to_share


async def test_whoever_waits_is_told_when_a_pool_answers_again(bench: RayBench, actors: dict[str, Budgeted]) -> None:
    await bench._follow(cluster("a", "b"))
    link = bench._pools.links["a"]["flights"]
    link.answers = False
    assert not bench.nodes().nodes["a"].pools["flights"].answers
    told = asyncio.Event()
    bench.watch(told.set)
    link.answers = True
    assert told.is_set() and bench.nodes().nodes["a"].pools["flights"].answers


async def test_a_node_that_is_set_aside_gets_nothing_and_has_other_workers_when_it_is_taken_back(
    bench: RayBench, actors: dict[str, Budgeted]
) -> None:
    await bench._follow(cluster("a"))
    before = actors["a"]
    before.gate.clear()
    running = asyncio.create_task(bench.run("a", "flights", statement("long", timeout_s=60.0)))
    await asyncio.sleep(0.02)
    bench.set_aside("a", 60.0)
    assert bench.is_busy("a")
    answer = place(Need("flights"), bench.nodes())
    assert isinstance(answer, Wait) and "draining" in answer.reason, "the only node: its jobs wait for it"
    before.gate.set()
    assert (await running).ending == "Succeeded" and not bench.is_busy("a")
    told = asyncio.Event()
    bench.watch(told.set)
    await bench.take_back("a")
    assert actors["a"] is not before and actors["a"].budget == 8
    assert told.is_set() and bench.is_back("a") and place(Need("flights"), bench.nodes()) == Placed("a")
    assert (await bench.run("a", "flights", statement("next"))).ending == "Succeeded"


async def test_a_node_that_is_taken_back_while_connections_are_shared_has_other_pools_of_every_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[tuple[str, str], Budgeted] = {}
    gates = {name: asyncio.Event() for name in ("one", "two")}
    reached: list[str] = []

    class Gated(Budgeted):
        def __init__(self, spec: PoolSpec) -> None:
            super().__init__(spec.budget)
            self.database = spec.database

        async def _set_budget(self, budget: int) -> None:
            reached.append(self.database)
            await gates[self.database].wait()

    def start(self: Pools, member: Member, spec: PoolSpec, namespace: str) -> Any:
        made[member.name, spec.database] = Gated(spec)
        return WorkerLink(made[member.name, spec.database], encode_statement, slots=8, grace_s=1.0)

    async def until_reached(database: str) -> None:
        async with asyncio.timeout(5):
            while database not in reached:
                await asyncio.sleep(0.005)
        reached.clear()

    monkeypatch.setattr(Pools, "_start", start)
    monkeypatch.setattr("cluster.link.ray.kill", lambda actor: None)
    bench = RayBench({name: msgspec.structs.replace(SPEC, database=name) for name in gates}, {}, grace_s=1.0)
    for gate in gates.values():
        gate.set()
    await bench._follow(cluster("a", "b"))
    before = dict(made)
    reached.clear()
    gates["two"].clear()
    sharing = asyncio.create_task(bench._share())
    await until_reached("two")
    gates["one"].clear()
    bench.set_aside("b", 60.0)
    back = asyncio.create_task(bench.take_back("b"))
    await until_reached("one")
    gates["two"].set()
    await sharing
    gates["one"].set()
    await back
    assert {key for key, actor in made.items() if actor is not before[key]} == {("b", "one"), ("b", "two")}
    assert bench.is_back("b")
    await bench.close(0.0)


async def test_a_node_that_nobody_takes_back_is_taken_back_when_its_time_is_up(
    actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set it aside was killed."""
    monkeypatch.setattr("cluster.dispatch.WATCH_S", 0.02)
    monkeypatch.setattr("cluster.dispatch.dispatch_nodes.look", lambda: cluster("a"))
    bench = RayBench({"flights": SPEC}, {}, grace_s=1.0)
    await bench.start()
    try:
        bench.set_aside("a", 0.1)
        assert isinstance(place(Need("flights"), bench.nodes()), Wait)
        async with asyncio.timeout(5):
            while not isinstance(place(Need("flights"), bench.nodes()), Placed):
                await asyncio.sleep(0.02)
    finally:
        await bench.close(0.0)


async def test_a_node_whose_drain_is_forgotten_works_again(bench: RayBench, actors: dict[str, Budgeted]) -> None:
    both = cluster("a", "b")
    await bench._follow(both)
    await bench._follow({**both, "b": replace(both["b"], drains=True)})
    bench._let_drained_go()
    await asyncio.gather(*bench._leaving)
    assert place(Need("flights"), bench.nodes()) == Placed("a") and actors["a"].budget == 8
    await bench._follow(both)
    nodes = bench.nodes().nodes
    assert not nodes["b"].draining and nodes["b"].pools["flights"].slots == 4 * PIPELINE


async def test_connections_of_a_node_that_did_not_leave_in_order_are_shared_at_the_next_look(
    bench: RayBench, actors: dict[str, Budgeted], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = cluster("a", "b")
    await bench._follow(both)

    async def broken(*_: object) -> None:
        raise OSError("Ray is away")

    with monkeypatch.context() as patched:
        patched.setattr(bench._pools, "leave", broken)
        bench._leave("b", 0.0)
        await asyncio.gather(*bench._leaving)
    drained = {**both, "b": replace(both["b"], drains=True)}
    await bench._follow(drained)
    assert actors["a"].budget == 8
