"""Clusters and demand for the benchmarks of placement, drawn from a seed: the same for every run and every peer."""

from __future__ import annotations

from random import Random

from cluster.placement import GpuNeed, GpuView, HostView, Node, SandboxNeed

GIB = 1 << 30
IMAGES = frozenset({"python", "base", "r"})
TENANTS = 40


def gpu_node(name: str, gpus: int = 8) -> Node:
    """A GPU machine: 64 CPUs, 1 TiB, eight H100."""
    devices = tuple(
        GpuView(f"GPU-{name}-{index}", "NVIDIA H100 80GB HBM3", 80 * GIB, used_bytes=GIB // 2) for index in range(gpus)
    )
    host = HostView(64, 1024 * GIB, most_sandboxes=512, images=IMAGES, gpus=devices)
    return Node(name, host=host, labels={"zone": _zone(name), "sandpool.role": "cpu.gpu"})


def cpu_node(name: str) -> Node:
    """A plain machine: 64 CPUs, 256 GiB, some sandboxes warm."""
    host = HostView(
        64, 256 * GIB, most_sandboxes=512, images=IMAGES, warm={"python": 4}, snapshots=frozenset({"python"})
    )
    return Node(name, host=host, labels={"zone": _zone(name), "sandpool.role": "cpu"})


def need(random: Random) -> SandboxNeed:
    """Mixed demand: mostly small sandboxes, some large, one in ten with a share of a GPU, a few with whole ones."""
    tenant = f"t{random.randrange(TENANTS)}"
    kind = random.random()
    if kind < 0.72:
        return SandboxNeed("python", 1, GIB, tenant=tenant)
    if kind < 0.84:
        return SandboxNeed("base", 4, 16 * GIB, tenant=tenant)
    if kind < 0.88:
        return SandboxNeed("python", 2, 4 * GIB, labels={"zone": random.choice("abc")}, tenant=tenant)
    if kind < 0.98:
        size = random.choice([5, 10, 20, 40]) * GIB
        return SandboxNeed("python", 2, 8 * GIB, GpuNeed(memory_bytes=size), tenant=tenant)
    return SandboxNeed("python", 4, 32 * GIB, GpuNeed(count=random.choice([1, 1, 2, 4])), tenant=tenant)


def _zone(name: str) -> str:
    return "abc"[sum(map(ord, name)) % 3]
