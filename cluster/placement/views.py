"""The cluster as data: what the bench tells placement. Values; whoever changes something makes a new one.

What is free is worked out once, when a view is made, and not at every look at it: a decision looks at many hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CPU_GRAIN = 1e-6
"""CPUs are fractions: sums of them that differ by less are the same."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool as the scheduler sees it: `slots` statements may be there at once, `busy` are."""

    slots: int
    busy: int = 0
    answers: bool = True
    """Whether it was heard the last time; one that is started anew is not, for some seconds."""


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU, or one MIG instance of one."""

    uuid: str
    model: str
    memory_bytes: int
    reserved_bytes: int = 0
    """Promised to jobs at their placement, whether they use it yet or not."""
    used_bytes: int = 0
    """In use by anything that holds no promise: the driver, programs outside of Sandpool."""
    healthy: bool = True
    mig: str = ""
    """The profile of a MIG instance; empty for a whole GPU."""
    tenant: str = ""
    """Whose jobs hold `reserved_bytes`. Memory of a GPU has no wall that we trust between tenants."""
    free_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "free_bytes", self.memory_bytes - self.reserved_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class HostView:
    """The host of one node: the sandboxes that fit there, and those that are there."""

    cpus: float
    memory_bytes: int
    reserved_cpus: float = 0.0
    reserved_bytes: int = 0
    sandboxes: int = 0
    most_sandboxes: int = 256
    images: frozenset[str] = frozenset()
    """What can be started there, as `name` and as `name@digest`."""
    warm: Mapping[str, int] = field(default_factory=dict)
    """Image -> sandboxes of it that are up and were never used."""
    snapshots: frozenset[str] = frozenset()
    """Images of which a snapshot is there: a restore takes a fifth of a second, a boot two."""
    gpus: tuple[GpuView, ...] = ()
    gpus_only: bool = False
    """Kept for jobs with GPUs, even while it idles and others are full."""
    unwell: str = ""
    """Why nothing more is placed there although it answers, for example `its disk is full`."""
    free_cpus: float = field(init=False)
    free_bytes: int = field(init=False)
    load: float = field(init=False)
    """The fullest of CPU, memory and places, 0 to 1."""
    unused_gpus: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "free_cpus", self.cpus - self.reserved_cpus + CPU_GRAIN)
        object.__setattr__(self, "free_bytes", self.memory_bytes - self.reserved_bytes)
        object.__setattr__(self, "unused_gpus", sum(gpu.reserved_bytes == 0 for gpu in self.gpus))
        object.__setattr__(
            self,
            "load",
            max(
                _share(self.reserved_cpus, self.cpus),
                _share(self.reserved_bytes, self.memory_bytes),
                _share(self.sandboxes, self.most_sandboxes),
            ),
        )


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the cluster."""

    name: str
    pools: Mapping[str, PoolView] = field(default_factory=dict)
    host: HostView | None = None
    opens: bool = False
    """It has a host of which nothing is known yet: neither what it has, nor that it cannot open."""
    labels: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False
    avoided: str = ""
    """Why it is left alone for a while (`circuit`); empty: it is not."""


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0
