"""May this job have this GPU now? Pure: (the GPU, what is promised of it, who asks for how much) -> why not.

The host's last word, which several schedulers at once rely on; the same rules by which placement chooses. A GPU is
shared only within one tenant: its memory has no limit for each process that we could set, and no wall that we trust.
"""

from __future__ import annotations

import msgspec

from workers.gpu.device import Gpu

WHOLE_SHARE = 0.9
"""A GPU counts as whole while at least this share of its memory is free; the driver itself takes some."""
MIB = 1 << 20


class Share(msgspec.Struct, frozen=True):
    """What a job was placed on. 0 bytes: all of it, alone."""

    uuid: str
    memory_bytes: int = 0


class GpuStatus(msgspec.Struct, frozen=True):
    """A GPU of a host, and what of it is promised."""

    gpu: Gpu
    reserved_bytes: int = 0
    tenant: str = ""
    foreign_bytes: int = 0
    """In use by what holds no promise: the driver, programs outside of Sandpool."""

    @property
    def free_bytes(self) -> int:
        return self.gpu.memory_bytes - self.reserved_bytes - self.foreign_bytes


def why_not(status: GpuStatus, wanted: Share, tenant: str) -> str:
    """Why this job cannot have its share; empty when it can."""
    if status.gpu.unhealthy:
        return f"GPU {status.gpu.uuid} is not healthy: {status.gpu.unhealthy}"
    if status.reserved_bytes and (not wanted.memory_bytes or status.tenant != tenant):
        return f"GPU {status.gpu.uuid} is in use"
    if wanted.memory_bytes > status.free_bytes:
        return f"{max(0, status.free_bytes) // MIB} MiB are free on GPU {status.gpu.uuid}, fewer than were asked for"
    if not wanted.memory_bytes and status.free_bytes < WHOLE_SHARE * status.gpu.memory_bytes:
        return f"GPU {status.gpu.uuid} is in use by programs outside of Sandpool"
    return ""


def foreign(gpu: Gpu, reserved_bytes: int, before_bytes: int) -> int:
    """What others use of it. While promises are out, their holders' use cannot be told from the rest: it is at least
    what was seen before, and at least what is used above all promises."""
    used_bytes = gpu.memory_bytes - gpu.free_bytes
    return max(before_bytes, used_bytes - reserved_bytes) if reserved_bytes else used_bytes
