"""What a host is told and what it says of itself. Data only; made by the settings, read by the scheduler."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from workers.gpu.shares import GpuStatus
from workers.sandbox.capacity import Capacity
from workers.sandbox.demand import WarmSpec
from workers.sandbox.image import Image
from workers.sandbox.limits import GIB


class HostSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One host: where it keeps things and what its sandboxes may use together."""

    folder: str
    """Absolute and short (sockets lie below it); for this host alone. Paused sandboxes and snapshots stay there."""
    images: str
    """Folder of built images; hosts of one machine may share it."""
    name: str = "local"
    """Keeps the cgroups of several hosts on one machine apart: a-z 0-9 -."""
    memory_bytes: int = 4 * GIB
    """May be promised to sandboxes that somebody uses. Warm ones come on top (`warm.memory_bytes`)."""
    cpus: float = 2.0
    """May be promised; more than the machine has where sandboxes mostly wait."""
    most_sandboxes: int = 64
    """In use at once, beside warm ones."""
    most_paused: int = 256
    """Paused sandboxes and saved snapshots on disk."""
    warm: WarmSpec = WarmSpec()

    @property
    def doors(self) -> str:
        """Folder of the control sockets by which this host asks the pools of its node for doors to their databases."""
        return f"{self.folder}/doors"

    @property
    def capacity(self) -> Capacity:
        return Capacity(memory_bytes=self.memory_bytes, cpus=self.cpus, sandboxes=self.most_sandboxes)


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A host now: what it has, what of it is promised, what could be started at once."""

    memory_bytes: int
    cpus: float
    most_sandboxes: int
    reserved_bytes: int = 0
    reserved_cpus: float = 0.0
    sandboxes: int = 0
    """In use, those that are being cleaned away included."""
    warm: dict[str, int] = {}
    """`name@digest` -> sandboxes that could be handed out at once."""
    images: tuple[str, ...] = ()
    """What can be started here: `name` and `name@digest`."""
    paused: int = 0
    handed_out: dict[str, int] = {}
    """Sandboxes handed out since the host was opened: `warm`, `made`."""
    open: bool = True
    disk_free_bytes: int = -1
    """Below its folder; -1: not known."""
    gpus: tuple[GpuStatus, ...] = ()
    """Every GPU of the node, ill ones too."""
    no_gpus: str = ""
    """Why there are none, or fewer than there should be."""


class Images(Protocol):
    """Where built images are found: `workers.images.store`. Blocking calls."""

    def resolve(self, ref: str) -> Image:
        """Raises a WorkerError that says what there is."""

    def in_use(self, digest: str) -> AbstractContextManager[None]:
        """While it is held nobody removes the image."""

    def refs(self) -> list[str]:
        """Everything that `resolve` finds, by name and by `name@digest`."""
