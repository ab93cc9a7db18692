"""Keeps NVML's process running and its last answer at hand. Used by hosts, on their event loop; asks nobody itself.

`inventory` is a value that is there at once, whatever the driver does: reading it never waits. A process that does not
answer in time is killed and another one started later; one that cannot even be killed (the driver holds it) is waited
for before there is another, so there is never more than one. While nothing answers, the node is a CPU node that says
why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence

import structlog

from workers.child import Child, start_child
from workers.gpu.device import Gpu, Inventory
from workers.gpu.sense import sense

log = structlog.get_logger("sandpool.gpu")

INTERVAL_S = 5.0
DEADLINE_S = 10.0
"""Longer than a sick driver's honest answer, which may take seconds."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
LONGEST_LINE_BYTES = 1 << 20
NOT_ASKED = Inventory(reason="NVML was not asked yet")


class GpuWatch:
    """The GPUs of this node as NVML's process said last."""

    def __init__(
        self,
        *,
        interval_s: float = INTERVAL_S,
        deadline_s: float = DEADLINE_S,
        pause_s: float = FIRST_PAUSE_S,
        command: Sequence[str] = ("-m", "workers.gpu.inventory"),
    ) -> None:
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._first_pause_s = self._pause_s = pause_s
        self._command = (*command, f"{interval_s:g}")
        self._inventory = NOT_ASKED
        self._answered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._xids: dict[str, tuple[int, ...]] = {}

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    async def start(self) -> Inventory:
        """The first answer, or the reason why there is none in time; it goes on in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(self._deadline_s + self._interval_s):
                await self._answered.wait()
        except TimeoutError:
            self._tell(self._silent())
        return self._inventory

    async def close(self) -> None:
        """End the process."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _watch(self) -> None:
        while True:
            child = await start_child(self._command, quiet=True, line_limit_bytes=LONGEST_LINE_BYTES)
            try:
                await self._listen(child)
            finally:
                await child.end()
            await child.wait()  # one that the driver holds is not gone yet
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)

    async def _listen(self, child: Child) -> None:
        """Until the process ends, falls silent or talks nonsense."""
        past = dict(self._xids)  # a new process begins without the errors that the one before it saw
        while True:
            try:
                async with asyncio.timeout(self._interval_s + self._deadline_s):
                    line = await child.reader.readline()
            except TimeoutError:
                return self._tell(self._silent())
            except ValueError:
                return self._tell(Inventory(reason="NVML's answer is too long to make sense"))
            if not line:
                if not self._inventory.reason or self._inventory is NOT_ASKED:
                    self._tell(Inventory(reason="the process that asks NVML ended"))
                return None
            try:
                answer = sense(json.loads(line), past)
            except ValueError:
                return self._tell(Inventory(reason="NVML's answer makes no sense"))
            if answer.gpus:
                self._pause_s = self._first_pause_s
            self._xids |= {gpu.uuid: gpu.xids for gpu in answer.gpus if gpu.xids}
            self._tell(answer)

    def _silent(self) -> Inventory:
        return Inventory(reason=f"NVML gave no answer for {self._deadline_s:g} s")

    def _tell(self, inventory: Inventory) -> None:
        if inventory.reason and inventory.reason != self._inventory.reason:
            log.warning("GPUs", usable=len(inventory.gpus), reason=inventory.reason)
        self._inventory = inventory
        self._answered.set()


def usable(inventory: Inventory) -> tuple[Gpu, ...]:
    """The GPUs that jobs may be placed on."""
    return tuple(gpu for gpu in inventory.gpus if not gpu.unhealthy)
