"""Could this host take this sandbox, and on which of its GPUs? Pure, and cheap: asked of many hosts at once."""

from __future__ import annotations

from cluster.placement.needs import ANY_MIG, GpuNeed, SandboxNeed
from cluster.placement.views import GpuView, HostView, Node

WHOLE_SHARE = 0.9
"""A device counts as whole while at least this share of its memory is free; the driver itself takes some."""


def fits(need: SandboxNeed, node: Node) -> bool:
    """Whether the node has everything but the GPUs free now."""
    host = node.host
    return (
        host is not None
        and need.cpus <= host.free_cpus
        and need.memory_bytes <= host.free_bytes
        and host.sandboxes < host.most_sandboxes
        and need.image in host.images
        and not node.draining
        and not node.avoided
        and not host.unwell
        and (need.gpu is not None or not host.gpus_only)
        and carries(node, need)
    )


def carries(node: Node, need: SandboxNeed) -> bool:
    """Whether the node has the labels and the pools that the need names."""
    for key, value in need.labels.items():
        if node.labels.get(key) != value:
            return False
    return all(database in node.pools for database in need.databases) if need.databases else True


def is_kind(gpu: GpuView, need: GpuNeed) -> bool:
    """Whether this device is of the kind asked for and large enough when nothing else is on it."""
    return of_kind(need, gpu.model, gpu.mig) and gpu.memory_bytes >= need.memory_bytes


def of_kind(need: GpuNeed, model: str, mig: str) -> bool:
    words = model.lower()
    return need.mig in (mig, ANY_MIG) and all(word in words for word in need.model.lower().split())


def is_open(gpu: GpuView, need: GpuNeed, tenant: str) -> bool:
    """Whether this device, of the right kind, has room for the job of this tenant now."""
    if not gpu.healthy or gpu.free_bytes < need.memory_bytes:
        return False
    if need.memory_bytes == 0:
        return gpu.reserved_bytes == 0 and gpu.free_bytes > 0 and gpu.free_bytes >= WHOLE_SHARE * gpu.memory_bytes
    return gpu.reserved_bytes == 0 or gpu.tenant == tenant


def choose_gpus(need: GpuNeed, tenant: str, host: HostView) -> tuple[GpuView, ...]:
    """The devices that suit best, the fullest first, so that whole ones stay free; empty where there are too few."""
    if need.memory_bytes == 0 and host.unused_gpus < need.count:
        return ()
    found = [gpu for gpu in host.gpus if is_open(gpu, need, tenant) and is_kind(gpu, need)]
    return tuple(sorted(found, key=fullness)[: need.count]) if len(found) >= need.count else ()


def fullness(gpu: GpuView) -> tuple[bool, int, str]:
    """Devices in the order in which they are filled: those in use already, then the smallest."""
    return gpu.reserved_bytes == 0, gpu.free_bytes, gpu.uuid
