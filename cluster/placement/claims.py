"""What a placed job holds of its node from its placement to its end. Pure: a node with it, a node without it.

Booked when placement answers, not when the sandbox is up or NVML sees its memory: between the two, a hundred others
would be placed into the same room. The scheduler and the benchmarks carry claims; hosts still have the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.placement.answers import Placed
from cluster.placement.needs import SandboxNeed
from cluster.placement.views import GpuView, Node


@dataclass(frozen=True, slots=True)
class Claim:
    """Room on one node."""

    node: str
    cpus: float
    memory_bytes: int
    gpus: tuple[tuple[str, int], ...] = ()
    """uuid, bytes."""
    tenant: str = ""


def claim_of(need: SandboxNeed, placed: Placed, node: Node) -> Claim:
    """What the job takes there; a GPU that is asked for without a size is taken whole."""
    gpus: tuple[tuple[str, int], ...] = ()
    if need.gpu is not None and node.host is not None:
        free = {gpu.uuid: gpu.free_bytes for gpu in node.host.gpus}
        gpus = tuple((uuid, need.gpu.memory_bytes or free[uuid]) for uuid in placed.gpus)
    return Claim(node.name, need.cpus, need.memory_bytes, gpus, need.tenant)


def hold(node: Node, claim: Claim, *, warm_image: str = "") -> Node:
    """The node once the job has its room, and the warm sandbox of its image where there was one."""
    return _changed(node, claim, 1, warm_image)


def give_back(node: Node, claim: Claim) -> Node:
    """The node once the job has ended."""
    return _changed(node, claim, -1, "")


def _changed(node: Node, claim: Claim, sign: int, warm_image: str) -> Node:
    host = node.host
    if host is None:
        return node
    sizes = dict(claim.gpus)
    changed = replace(
        host,
        reserved_cpus=round(host.reserved_cpus + sign * claim.cpus, 6),
        reserved_bytes=host.reserved_bytes + sign * claim.memory_bytes,
        sandboxes=host.sandboxes + sign,
        warm=_without(host.warm, warm_image),
        gpus=tuple(_charged(gpu, sign * sizes.get(gpu.uuid, 0), claim.tenant) for gpu in host.gpus),
    )
    return replace(node, host=changed)


def _charged(gpu: GpuView, size_bytes: int, tenant: str) -> GpuView:
    if not size_bytes:
        return gpu
    reserved_bytes = max(0, gpu.reserved_bytes + size_bytes)
    return replace(gpu, reserved_bytes=reserved_bytes, tenant=tenant if reserved_bytes else "")


def _without(warm: Mapping[str, int], image: str) -> Mapping[str, int]:
    """One warm sandbox of this image less, where there is one."""
    count = warm.get(image, 0)
    return {**warm, image: count - 1} if count else warm
