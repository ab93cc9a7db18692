"""What placement says when it finds nothing: what is short, by how much, and whether waiting helps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.placement import GpuNeed, GpuView, HostView, Need, Never, Node, Placed, SandboxNeed, Wait, place

GIB = 1 << 30
HOST = HostView(8, 24 * GIB, images=frozenset({"python"}))
SMALL = Node("a", host=HOST, labels={"zone": "a", "role": "cpu"})
L4 = GpuView("GPU-0", "NVIDIA L4", 24 * GIB)
WITH_GPU = Node("g", host=replace(HOST, cpus=4, gpus=(L4, replace(L4, uuid="GPU-1"))), labels={"role": "gpu"})
CLUSTER = [SMALL, WITH_GPU]
NEED = SandboxNeed("python", 1, GIB, tenant="acme")


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (replace(NEED, image="r"), "no host has image 'r'"),
        (replace(NEED, cpus=64), "needs 64 CPUs, the largest host has 8"),
        (replace(NEED, memory_bytes=64 * GIB), "needs 64 GiB of memory, the largest host has 24 GiB"),
        (replace(NEED, labels={"zone": "c"}), "no host has the label zone=c"),
        (
            replace(NEED, labels={"zone": "a", "role": "gpu"}),
            "no host with its image has the labels zone=a and role=gpu together: none of those left has role=gpu",
        ),
        (
            replace(NEED, labels={"role": "gpu"}, cpus=6),
            "needs 6 CPUs, the largest host of the 1 that suit it otherwise has 4",
        ),
        (replace(NEED, databases=("flights",)), "no host has a pool for database 'flights'"),
        (
            replace(NEED, gpu=GpuNeed(memory_bytes=80 * GIB)),
            "no node has a GPU with 80 GiB, the largest has 24 GiB",
        ),
        (replace(NEED, gpu=GpuNeed(model="h100")), "no node has a GPU of model 'h100'"),
        (replace(NEED, gpu=GpuNeed(mig="1g.10gb")), "no node has a MIG instance 1g.10gb"),
        (replace(NEED, gpu=GpuNeed(count=3)), "needs 3 GPUs on one node, no node has more than 2"),
    ],
)
def test_what_no_host_could_ever_give_is_named_with_the_largest_there_is(need: SandboxNeed, reason: str) -> None:
    assert place(Need(sandbox=need), CLUSTER) == Never(reason)


@pytest.mark.parametrize(
    ("need", "node", "reason"),
    [
        (NEED, replace(SMALL, draining=True), "every node that could take it is draining"),
        (NEED, replace(SMALL, avoided="failed 3 times lately"), "node a failed 3 times lately"),
        (NEED, replace(SMALL, host=replace(HOST, unwell="its disk is full")), "host a: its disk is full"),
        (NEED, replace(SMALL, host=replace(HOST, sandboxes=256)), "all 256 places for sandboxes are taken"),
        (
            replace(NEED, cpus=4),
            replace(SMALL, host=replace(HOST, reserved_cpus=6.5)),
            "needs 4 CPUs, the host with most room has 1.5 free",
        ),
        (
            replace(NEED, memory_bytes=8 * GIB),
            replace(SMALL, host=replace(HOST, reserved_bytes=20 * GIB)),
            "needs 8 GiB of memory, the host with most room has 4 GiB free",
        ),
        (
            replace(NEED, gpu=GpuNeed(count=1)),
            replace(WITH_GPU, host=replace(HOST, gpus=(replace(L4, reserved_bytes=GIB, tenant="acme"),))),
            "needs 1 whole GPU, fewer are free on any node",
        ),
        (
            replace(NEED, gpu=GpuNeed(memory_bytes=GIB)),
            replace(WITH_GPU, host=replace(HOST, gpus=(replace(L4, healthy=False),))),
            "needs a GPU with 1 GiB free for this tenant alone, the most free on one is 0 GiB; 1 of 1 not healthy",
        ),
    ],
)
def test_what_is_only_taken_now_is_waited_for(need: SandboxNeed, node: Node, reason: str) -> None:
    assert place(Need(sandbox=need), [node]) == Wait(reason)


def test_a_cluster_without_hosts_says_so() -> None:
    assert place(Need(sandbox=NEED), [Node("a")]) == Never("no node has a host for sandboxes")


@pytest.mark.parametrize(
    "wrong", [{"cpus": float("nan")}, {"cpus": -1.0}, {"memory_bytes": -1}, {"cpus": float("inf")}]
)
def test_a_need_that_is_no_amount_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        replace(NEED, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        GpuNeed(count=0)
    with pytest.raises(ValueError):
        Need()
    with pytest.raises(ValueError):
        Need("flights", NEED)


def test_a_host_that_has_not_spoken_yet_may_be_the_one_that_can() -> None:
    opening = Node("b", opens=True)
    answer = place(Need(sandbox=NEED), [opening])
    assert answer == Wait("the host of node b is not open yet, and otherwise no node has a host for sandboxes")
    assert isinstance(place(Need(sandbox=replace(NEED, image="r")), [SMALL, opening]), Wait)
    assert isinstance(place(Need(sandbox=replace(NEED, image="r")), [SMALL]), Never)
    assert place(Need(sandbox=NEED), [SMALL, opening]) == Placed("a")
