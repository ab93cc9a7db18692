"""Hands out the GPUs of one node: who holds which, and what a sandbox needs to use them. Called by the host.

It decides nothing itself (`shares` does) and asks the driver nothing while somebody waits (`watch` does, before).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.gpu.device import NONE_HERE
from workers.gpu.driver import open_passage
from workers.gpu.errors import GpuBusy, GpuUnavailable
from workers.gpu.passage import GpuPassage
from workers.gpu.shares import GpuStatus, Share, foreign, why_not
from workers.gpu.watch import GpuWatch

DRIVER_FILE = "dev/nvidiactl"
"""Where this is missing, no process needs to be kept that asks NVML."""


@dataclass(frozen=True, eq=False)
class Hold:
    """GPUs in somebody's hands. Give it back exactly once."""

    tenant: str
    shares: tuple[tuple[str, int], ...]
    """uuid, bytes; a whole one counts with what was free."""
    passage: GpuPassage


class GpuDesk:
    def __init__(self, folder: Path, watch: GpuWatch | None = None, *, root: Path = Path("/")) -> None:
        """`folder`: where the driver's libraries are gathered. On the event loop that it will be used on."""
        self._folder = folder
        self._root = root
        self._watch = watch or GpuWatch()
        self._has_driver = False
        self._holds: set[Hold] = set()
        self._foreign: dict[str, int] = {}

    async def open(self) -> None:
        """Ask what there is. A node without a driver knows at once; one whose driver hangs, after some seconds."""
        self._has_driver = await asyncio.to_thread((self._root / DRIVER_FILE).exists)
        if self._has_driver:
            await self._watch.start()

    async def close(self) -> None:
        await self._watch.close()

    def status(self) -> tuple[GpuStatus, ...]:
        """Every GPU of the node, ill ones too."""
        return tuple(self._statuses().values())

    def reason(self) -> str:
        """Why there are none, or fewer than there should be; empty when all is well."""
        return self._watch.inventory.reason if self._has_driver else NONE_HERE

    async def take(self, shares: Sequence[Share], tenant: str) -> Hold:
        """These GPUs, for one sandbox of this tenant. Raises GpuBusy, GpuUnavailable."""
        known, taken = self._statuses(), []
        for share in shares:
            status = known.get(share.uuid)
            if status is None:
                raise GpuUnavailable(f"this node has no GPU {share.uuid}", hint=self.reason())
            if reason := why_not(status, share, tenant):
                raise GpuBusy(reason)
            taken.append((share.uuid, share.memory_bytes or status.free_bytes))
        gpus = [known[share.uuid].gpu for share in shares]
        # Held before the first await: nobody else may take them while the driver's files are looked at.
        draft = Hold(tenant, tuple(taken), GpuPassage(tuple(gpu.uuid for gpu in gpus), (), self._folder))
        self._holds.add(draft)
        try:
            passage = await asyncio.to_thread(open_passage, gpus, folder=self._folder, root=self._root)
            hold = Hold(tenant, tuple(taken), passage)
            self._holds.add(hold)
            return hold
        finally:
            self._holds.discard(draft)

    def give_back(self, hold: Hold | None) -> None:
        """The sandbox that had them is gone; None: it had none."""
        if hold is not None:
            self._holds.discard(hold)

    def _statuses(self) -> dict[str, GpuStatus]:
        found = {}
        for gpu in self._watch.inventory.gpus:
            holds = [hold for hold in self._holds if any(uuid == gpu.uuid for uuid, _ in hold.shares)]
            reserved_bytes = sum(size for hold in holds for uuid, size in hold.shares if uuid == gpu.uuid)
            others = self._foreign[gpu.uuid] = foreign(gpu, reserved_bytes, self._foreign.get(gpu.uuid, 0))
            tenant = holds[0].tenant if holds else ""
            found[gpu.uuid] = GpuStatus(gpu, reserved_bytes, tenant, others)
        return found
