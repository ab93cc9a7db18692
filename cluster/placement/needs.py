"""What a job asks of the node it runs on. Values; who may ask for how much is decided by admission."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

ANY_MIG = "any"


@dataclass(frozen=True, slots=True)
class GpuNeed:
    """GPUs of one node. Raises ValueError for what cannot be asked."""

    count: int = 1
    memory_bytes: int = 0
    """On each of them, shared at most with other jobs of the same tenant; 0: the whole device for this job alone."""
    model: str = ""
    """Words of the model's name in any case, for example `h100`."""
    mig: str = ""
    """A MIG profile, for example `1g.10gb`; empty: whole GPUs only; `any`: either."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.memory_bytes < 0:
            raise ValueError("at least one GPU, with no less than 0 bytes")


@dataclass(frozen=True, slots=True)
class SandboxNeed:
    """A sandbox, with its share of the host. Raises ValueError for what cannot be asked."""

    image: str
    """`name`, or `name@digest` for exactly that build."""
    cpus: float
    memory_bytes: int
    gpu: GpuNeed | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """The node must carry all of these."""
    tenant: str = ""
    databases: tuple[str, ...] = ()
    """It reaches these through sockets of their pools, so they must have one on the same node."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cpus) and self.cpus >= 0 and self.memory_bytes >= 0):
            raise ValueError("CPUs and memory: a number, not below 0")


@dataclass(frozen=True, slots=True)
class Need:
    """Exactly one of: a slot of a database's pool, a sandbox."""

    database: str = ""
    sandbox: SandboxNeed | None = None

    def __post_init__(self) -> None:
        if bool(self.database) == (self.sandbox is not None):
            raise ValueError("a job needs either a database or a sandbox")
