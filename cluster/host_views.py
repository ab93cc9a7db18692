"""One host as placement sees it: what it says of itself, and what was placed there since. Pure but for counting.

Called by both benches. A host's own account lags behind (it is asked once a second), the scheduler's claims know
nothing of sandboxes that people keep: whichever is more counts. The host has the last word anyway.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from cluster.placement import GpuView, HostView
from workers.gpu.shares import GpuStatus
from workers.sandbox.hosting import HostStatus
from workers.sandbox.task import SandboxTask

STARTING = "it is starting"
LEAST_DISK_BYTES = 256 << 20
"""What a host must have free: a snapshot is some 100 MB, and so may be what a job is given to read."""


@dataclass(slots=True)
class Claims:
    """What tasks under way were placed with."""

    tasks: dict[str, SandboxTask] = field(default_factory=dict)
    """By attempt."""

    @property
    def memory_bytes(self) -> int:
        return sum(task.limits.memory_bytes for task in self.tasks.values())

    @property
    def cpus(self) -> float:
        return sum(task.limits.cpus for task in self.tasks.values())

    def on_gpu(self, gpu: GpuStatus) -> tuple[int, str]:
        """Bytes of this GPU, and whose: a share without a size is all that is free."""
        uuid = gpu.gpu.uuid
        held = [(share, task.tenant) for task in self.tasks.values() for share in task.gpus if share.uuid == uuid]
        whole = gpu.gpu.memory_bytes - gpu.foreign_bytes
        return sum(share.memory_bytes or whole for share, _ in held), held[0][1] if held else ""


def view_of(
    status: HostStatus, claims: Claims, *, answers: bool = True, roles: Collection[str] = ("cpu", "gpu")
) -> HostView:
    """The host now, as far as the roles of its node go."""
    return HostView(
        cpus=status.cpus,
        memory_bytes=status.memory_bytes,
        reserved_cpus=max(status.reserved_cpus, claims.cpus),
        reserved_bytes=max(status.reserved_bytes, claims.memory_bytes),
        sandboxes=max(status.sandboxes, len(claims.tasks)),
        most_sandboxes=status.most_sandboxes,
        images=frozenset(_refs(status)),
        warm=_by_name(status.warm),
        gpus=tuple(_gpu_view(gpu, claims) for gpu in status.gpus) if "gpu" in roles else (),
        gpus_only="cpu" not in roles,
        unwell=_unwell(status, answers),
    )


def _unwell(status: HostStatus, answers: bool) -> str:
    """Why nothing more shall be placed there now."""
    if not answers:
        return "it does not answer"
    if not status.open:
        return STARTING
    if 0 <= status.disk_free_bytes < LEAST_DISK_BYTES:
        return f"its disk is full: {status.disk_free_bytes >> 20} MiB are free, {LEAST_DISK_BYTES >> 20} are needed"
    return ""


def _gpu_view(status: GpuStatus, claims: Claims) -> GpuView:
    """A GPU, with what its host says is held of it or what was placed on it since, whichever is more."""
    gpu = status.gpu
    claimed_bytes, tenant = claims.on_gpu(status)
    return GpuView(
        gpu.uuid,
        gpu.model,
        gpu.memory_bytes,
        reserved_bytes=max(status.reserved_bytes, claimed_bytes),
        used_bytes=status.foreign_bytes,
        healthy=not gpu.unhealthy,
        mig=gpu.mig,
        tenant=status.tenant or tenant,
    )


def _refs(status: HostStatus) -> set[str]:
    """Every way in which a job may name an image: also by a digest cut short."""
    cut = {f"{name}@{digest[:12]}" for name, _, digest in (ref.partition("@") for ref in status.images) if digest}
    return {*status.images, *cut}


def _by_name(warm: dict[str, int]) -> dict[str, int]:
    """Jobs mostly name the image alone."""
    found = dict(warm)
    for ref, count in warm.items():
        name = ref.partition("@")[0]
        found[name] = found.get(name, 0) + count
    return found
