"""Placement of sandboxes, held against a second, slower statement of the rules that shares no code with it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import (
    Fleet,
    GpuNeed,
    GpuView,
    HostView,
    Need,
    Never,
    Node,
    Placed,
    SandboxNeed,
    Wait,
    claim_of,
    give_back,
    hold,
    place,
)
from tests.support.clusters import GIB, clusters, sandbox_needs

HOST = HostView(8, 16 * GIB, images=frozenset({"python"}))
PLAIN = SandboxNeed("python", 1, GIB, tenant="acme")


def devices_free(need: SandboxNeed, node: Node) -> list[GpuView]:
    """The rule for GPUs, one condition a line."""
    assert need.gpu is not None and node.host is not None
    free = []
    for gpu in node.host.gpus:
        room = gpu.memory_bytes - gpu.reserved_bytes - gpu.used_bytes
        named = all(word in gpu.model.lower() for word in need.gpu.model.lower().split())
        kind = need.gpu.mig == "any" or need.gpu.mig == gpu.mig
        mine = gpu.reserved_bytes == 0 or gpu.tenant == need.tenant
        whole = gpu.reserved_bytes == 0 and room > 0 and room >= 0.9 * gpu.memory_bytes
        enough = room >= need.gpu.memory_bytes and mine if need.gpu.memory_bytes else whole
        if named and kind and enough and gpu.healthy:
            free.append(gpu)
    return free


def could_run(need: SandboxNeed, node: Node) -> bool:
    host = node.host
    return (
        host is not None
        and not (node.draining or node.avoided or host.unwell)
        and host.sandboxes + 1 <= host.most_sandboxes
        and host.reserved_cpus + need.cpus <= host.cpus
        and host.reserved_bytes + need.memory_bytes <= host.memory_bytes
        and need.image in host.images
        and (need.gpu is not None or not host.gpus_only)
        and need.labels.items() <= node.labels.items()
        and set(need.databases) <= set(node.pools)
        and (need.gpu is None or len(devices_free(need, node)) >= need.gpu.count)
    )


def preference(need: SandboxNeed, node: Node) -> tuple[object, ...]:
    host = node.host
    assert host is not None
    if need.gpu is not None:
        order = [(gpu.reserved_bytes == 0, gpu.free_bytes) for gpu in devices_free(need, node)]
        return (*min(order), node.name)
    warmth = 0 if host.warm.get(need.image) else 1 if need.image in host.snapshots else 2
    return bool(host.gpus), warmth, host.load, node.name


@given(sandbox_needs, clusters)
def test_a_sandbox_is_placed_exactly_where_the_rules_find_the_best_host(need: SandboxNeed, cluster: list[Node]) -> None:
    able = [node for node in cluster if could_run(need, node)]
    answer = place(Need(sandbox=need), cluster)
    assert isinstance(answer, Placed) == bool(able)
    if isinstance(answer, Placed):
        assert answer.node == min(able, key=lambda node: preference(need, node)).name


@given(sandbox_needs, clusters)
def test_the_gpus_of_a_placement_are_distinct_devices_that_were_free(need: SandboxNeed, cluster: list[Node]) -> None:
    answer = place(Need(sandbox=need), cluster)
    if isinstance(answer, Placed):
        node = next(node for node in cluster if node.name == answer.node)
        count = need.gpu.count if need.gpu else 0
        assert len(set(answer.gpus)) == len(answer.gpus) == count
        assert set(answer.gpus) <= ({gpu.uuid for gpu in devices_free(need, node)} if need.gpu else set())


@given(sandbox_needs, clusters)
def test_equal_input_gives_equal_placement_in_any_order(need: SandboxNeed, cluster: list[Node]) -> None:
    assert place(Need(sandbox=need), cluster) == place(Need(sandbox=need), list(reversed(cluster)))


@given(st.lists(sandbox_needs, max_size=20), clusters)
def test_whatever_comes_and_goes_no_host_and_no_gpu_is_ever_promised_twice(
    needs: list[SandboxNeed], cluster: list[Node]
) -> None:
    fleet, held = Fleet(cluster), []
    for number, need in enumerate(needs):
        answer = fleet.place(need)
        if isinstance(answer, Placed):
            node = fleet.nodes[answer.node]
            claim = claim_of(need, answer, node)
            held.append(claim)
            fleet.replace(hold(node, claim, warm_image=need.image))
        if held and number % 3 == 2:
            claim = held.pop(number % len(held))
            fleet.replace(give_back(fleet.nodes[claim.node], claim))
        assert_within_bounds(fleet)
    for claim in held:
        fleet.replace(give_back(fleet.nodes[claim.node], claim))
    for before in cluster:
        if before.host is not None:
            after = fleet.nodes[before.name].host
            assert after is not None
            assert replace(after, warm={}) == replace(before.host, warm={}), "what was taken is given back in full"


def assert_within_bounds(fleet: Fleet) -> None:
    for node in fleet.nodes.values():
        if (host := node.host) is not None:
            assert host.reserved_cpus <= host.cpus and host.reserved_bytes <= host.memory_bytes
            assert host.sandboxes <= host.most_sandboxes
            assert all(gpu.reserved_bytes + gpu.used_bytes <= gpu.memory_bytes for gpu in host.gpus)
            assert all(bool(gpu.reserved_bytes) == bool(gpu.tenant) for gpu in host.gpus)


@given(sandbox_needs, clusters, clusters)
def test_a_fleet_that_changed_answers_like_one_that_was_made_so(
    need: SandboxNeed, first: list[Node], then: list[Node]
) -> None:
    fleet = Fleet(first)
    for node in then:
        fleet.replace(node)
    for node in first[len(then) + 1 :]:
        fleet.remove(node.name)
    fleet.remove("nobody")
    assert fleet.place(need) == Fleet(fleet.nodes.values()).place(need)


@given(sandbox_needs, clusters)
def test_never_is_said_exactly_when_the_empty_and_healthy_cluster_could_not_run_it(
    need: SandboxNeed, cluster: list[Node]
) -> None:
    answer = place(Need(sandbox=need), cluster)
    at_its_best = place(Need(sandbox=need), [emptied(node) for node in cluster])
    assert isinstance(at_its_best, Never) == (not isinstance(at_its_best, Placed))
    assert isinstance(answer, Never) == isinstance(at_its_best, Never)
    if not isinstance(answer, Placed):
        assert answer.reason and isinstance(answer, Wait | Never)


def emptied(node: Node) -> Node:
    host = node.host
    if host is not None:
        free = tuple(replace(gpu, reserved_bytes=0, used_bytes=0, tenant="", healthy=True) for gpu in host.gpus)
        host = replace(host, reserved_cpus=0, reserved_bytes=0, sandboxes=0, unwell="", gpus=free)
    return replace(node, host=host, draining=False, avoided="")


@given(sandbox_needs, clusters, st.integers(0, 2))
def test_more_room_or_one_more_host_never_makes_a_job_wait(need: SandboxNeed, cluster: list[Node], extra: int) -> None:
    if not isinstance(place(Need(sandbox=need), cluster), Placed):
        return
    larger = [
        replace(node, host=replace(node.host, cpus=node.host.cpus + extra, memory_bytes=node.host.memory_bytes + extra))
        if node.host
        else node
        for node in cluster
    ]
    assert isinstance(place(Need(sandbox=need), [*larger, Node("z", host=HOST)]), Placed)
    less = replace(need, cpus=need.cpus / 2, memory_bytes=need.memory_bytes // 2, labels={}, databases=())
    assert isinstance(place(Need(sandbox=less), cluster), Placed)


def test_a_gpu_host_takes_other_jobs_only_when_the_rest_is_full() -> None:
    gpu_host = Node("a", host=replace(HOST, gpus=(GpuView("GPU-1", "L4", 24 * GIB),), warm={"python": 3}))
    assert place(Need(sandbox=PLAIN), [gpu_host, Node("b", host=HOST)]) == Placed("b")
    full = Node("b", host=replace(HOST, reserved_cpus=8))
    assert place(Need(sandbox=PLAIN), [gpu_host, full]) == Placed("a")


def test_a_warm_sandbox_beats_a_snapshot_which_beats_an_idle_host() -> None:
    warm = Node("c", host=replace(HOST, reserved_cpus=6, warm={"python": 1}))
    restored = Node("b", host=replace(HOST, reserved_cpus=4, snapshots=frozenset({"python"})))
    idle = Node("a", host=HOST)
    assert place(Need(sandbox=PLAIN), [idle, restored, warm]) == Placed("c")
    assert place(Need(sandbox=PLAIN), [idle, restored]) == Placed("b")
    claimed = hold(warm, claim_of(PLAIN, Placed("c"), warm), warm_image="python")
    assert place(Need(sandbox=PLAIN), [idle, restored, claimed]) == Placed("b"), "the warm one is spoken for"


def test_small_gpu_jobs_share_one_device_so_that_the_others_stay_whole() -> None:
    four = tuple(GpuView(f"GPU-{number}", "H100", 80 * GIB) for number in range(4))
    fleet = Fleet([Node("a", host=replace(HOST, gpus=four))])
    used = []
    for _ in range(4):
        need = SandboxNeed("python", 1, GIB, GpuNeed(memory_bytes=20 * GIB), tenant="acme")
        answer = fleet.place(need)
        assert isinstance(answer, Placed)
        used += answer.gpus
        fleet.replace(hold(fleet.nodes["a"], claim_of(need, answer, fleet.nodes["a"])))
    assert set(used) == {"GPU-0"}
    assert fleet.place(SandboxNeed("python", 1, GIB, GpuNeed(count=3), tenant="blue")) == Placed(
        "a", ("GPU-1", "GPU-2", "GPU-3")
    )


def test_two_tenants_never_share_a_device() -> None:
    busy = GpuView("GPU-0", "H100", 80 * GIB, reserved_bytes=10 * GIB, tenant="acme")
    node = Node("a", host=replace(HOST, gpus=(busy,)))
    need = SandboxNeed("python", 1, GIB, GpuNeed(memory_bytes=10 * GIB), tenant="blue")
    assert isinstance(place(Need(sandbox=need), [node]), Wait)
    assert place(Need(sandbox=replace(need, tenant="acme")), [node]) == Placed("a", ("GPU-0",))
