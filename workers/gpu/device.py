"""The GPUs of one node, as data. Made by `sense`, kept by `watch`, read by hosts, placement and the command line."""

from __future__ import annotations

import msgspec

NONE_HERE = "NVML is not installed: no NVIDIA driver on this node"


class GpuProcess(msgspec.Struct, frozen=True):
    """A process that computes on the GPU, ours or not."""

    pid: int
    memory_bytes: int | None = None
    """None where the driver does not tell, as inside of containers."""


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU, or one MIG instance of one; a divided GPU appears as its instances only. None: NVML does not say."""

    uuid: str
    model: str
    minor: int
    """N of /dev/nvidiaN."""
    memory_bytes: int
    free_bytes: int
    utilisation_percent: int | None = None
    temperature_c: int | None = None
    ecc_uncorrected: int | None = None
    """Memory errors that could not be corrected, since the driver was loaded."""
    xids: tuple[int, ...] = ()
    """Errors that the driver reported while we watched, by NVIDIA's numbers; the latest last."""
    processes: tuple[GpuProcess, ...] = ()
    compute_mode: str = "unknown"
    mig: str = ""
    """The profile of a MIG instance, for example `1g.10gb`."""
    parent: str = ""
    """uuid of the GPU that a MIG instance is part of."""
    instance: tuple[int, int] | None = None
    """GPU instance and compute instance of a MIG instance."""
    unhealthy: str = ""
    """Why nothing is placed on it; empty: it is well."""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What one node has. A node without usable GPUs is a CPU node, and `reason` says why."""

    driver: str = ""
    gpus: tuple[Gpu, ...] = ()
    reason: str = ""
