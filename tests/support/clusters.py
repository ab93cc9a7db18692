"""Clusters and needs for property tests of placement: small numbers, so that most things fit somewhere, not elsewhere.

Drawn from a seed, ten times faster than field by field; what fails is printed in full anyway.
"""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from cluster.placement import GpuNeed, GpuView, HostView, Node, PoolView, SandboxNeed
from cluster.placement.needs import ANY_MIG

GIB = 1 << 30
IMAGES = ("python", "python@sha256:1", "r")
MODELS = ("NVIDIA H100 80GB HBM3", "NVIDIA L4")
TENANTS = ("acme", "blue")


def gpu_view(random: Random, uuid: str) -> GpuView:
    memory_bytes = random.choice([2, 8, 8]) * GIB
    reserved_bytes = min(memory_bytes, random.choice([0, 0, 1, 4]) * GIB)
    return GpuView(
        uuid,
        random.choice(MODELS),
        memory_bytes,
        reserved_bytes=reserved_bytes,
        used_bytes=min(memory_bytes - reserved_bytes, random.choice([0, 0, 0, GIB // 16, 3 * GIB])),
        healthy=random.random() < 0.9,
        mig=random.choice(["", "", "", "1g.10gb"]),
        tenant=random.choice(TENANTS) if reserved_bytes else "",
    )


def host_view(random: Random, name: str) -> HostView:
    cpus, memory_gib, most = random.randint(1, 8), random.randint(1, 8), random.randint(2, 4)
    return HostView(
        cpus=cpus,
        memory_bytes=memory_gib * GIB,
        reserved_cpus=random.randint(0, cpus) // 2,
        reserved_bytes=random.randint(0, memory_gib) // 2 * GIB,
        sandboxes=random.randint(0, most),
        most_sandboxes=most,
        images=frozenset(random.sample(IMAGES, random.randint(2, 3))),
        warm={image: random.randint(0, 2) for image in random.sample(IMAGES, random.randint(0, 2))},
        snapshots=frozenset(random.sample(IMAGES, random.randint(0, 2))),
        gpus=tuple(gpu_view(random, f"GPU-{name}-{index}") for index in range(random.choice([0, 1, 3, 4]))),
        gpus_only=random.random() < 0.1,
        unwell="its disk is full" if random.random() < 0.1 else "",
    )


def node(random: Random, name: str) -> Node:
    return Node(
        name,
        pools={"flights": PoolView(4)} if random.random() < 0.5 else {},
        host=host_view(random, name) if random.random() < 0.9 else None,
        labels=random.choice([{}, {"zone": "a"}, {"zone": "b"}]),
        draining=random.random() < 0.1,
        avoided="failed 3 times lately" if random.random() < 0.1 else "",
    )


def sandbox_need(random: Random) -> SandboxNeed:
    gpu = GpuNeed(
        count=random.randint(1, 2),
        memory_bytes=random.choice([0, 1, 4]) * GIB,
        model=random.choice(["", "", "", "h100", "Nvidia L4"]),
        mig=random.choice(["", "", "", "1g.10gb", ANY_MIG]),
    )
    return SandboxNeed(
        image=random.choice(IMAGES),
        cpus=random.choice([0.5, 1.0, 1.0, 6.0]),
        memory_bytes=random.choice([1, 1, 1, 6]) * GIB,
        gpu=gpu if random.random() < 0.5 else None,
        labels=random.choice([{}, {}, {}, {"zone": "a"}]),
        tenant=random.choice(TENANTS),
        databases=random.choice([(), (), (), ("flights",)]),
    )


def cluster(random: Random) -> list[Node]:
    return [node(random, f"n{number}") for number in range(random.randint(0, 9))]


seeds = st.integers(0, 2**40).map(Random)
clusters = seeds.map(cluster)
sandbox_needs = seeds.map(sandbox_need)
