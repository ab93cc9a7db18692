"""Brings up the sandboxes that are kept, each with what it may use promised, and lets them go again.

Called by `kept`, which knows whose they are and in which state. A new one comes from the host's stock; a copy goes on
where a snapshot was taken. Nothing is promised for what did not come up. It decides nothing.
"""

from __future__ import annotations

import asyncio

from workers.sandbox.image import Image
from workers.sandbox.kinds import starting_limits
from workers.sandbox.limits import Limits
from workers.sandbox.promises import Promises
from workers.sandbox.sandboxes import Ended
from workers.sandbox.snapshot import Snapshot
from workers.sandbox.starter import Fill, Live, Starter
from workers.sandbox.stock import Stock

Born = tuple[Live, int]
"""A sandbox, and the number of what it was promised."""


class Births:
    def __init__(self, starter: Starter, stock: Stock, promises: Promises) -> None:
        self._starter = starter
        self._stock = stock
        self._promises = promises

    async def new(self, image: Image, limits: Limits, fill: Fill | None = None) -> Born:
        """One that nobody ever used, with files. Raises HostFull, SpecInvalid, other SandboxErrors."""
        promise = await self._promises.make(limits)
        live: Live | None = None
        try:
            live = await self._stock.take(image, limits)
            if fill is not None:
                await asyncio.to_thread(fill, live.inbox)
            return live, promise
        except BaseException:
            if live is not None:
                self.end(live, promise)
            else:
                self._promises.drop(promise)
            raise

    async def again(
        self, source: Snapshot, image: Image, limits: Limits, sandbox_id: str, fill: Fill | None = None
    ) -> Born:
        """The one that was saved, under its own id. `fill`: with its files. Raises as `new`, SnapshotUnusable."""
        promise = await self._promises.make(limits)
        try:
            return await self._restore(source, image, limits, sandbox_id, fill), promise
        except BaseException:
            self._promises.drop(promise)
            raise

    async def copies(
        self, source: Snapshot, image: Image, limits: Limits, count: int, fill: Fill | None = None
    ) -> list[Born]:
        """So many of them, or none. Raises as `again`."""
        born: list[Born] = []
        promises: list[int] = []

        async def one(promise: int) -> None:
            born.append((await self._restore(source, image, limits, None, fill), promise))

        try:
            for _ in range(count):
                promises.append(await self._promises.make(limits))
            async with asyncio.TaskGroup() as group:
                for promise in promises:
                    group.create_task(one(promise))
        except BaseException as error:
            for live, promise in born:
                self.end(live, promise)
                promises.remove(promise)
            for promise in promises:
                self._promises.drop(promise)
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        return born

    def end(self, live: Live, promise: int) -> asyncio.Task[Ended]:
        """Destroy it; what it was promised is free when nothing of it runs any more."""
        ending = self._starter.end(live)
        self._promises.drop_after(promise, ending)
        return ending

    async def reconnect(self, live: Live) -> None:
        """See Starter.reconnect."""
        await self._starter.reconnect(live)

    async def _restore(
        self, source: Snapshot, image: Image, limits: Limits, sandbox_id: str | None, fill: Fill | None
    ) -> Live:
        starting = starting_limits(image, limits, self._stock.cores)
        live = await self._starter.restored(source, image, starting, sandbox_id=sandbox_id, fill=fill)
        try:
            await self._starter.hand_out(live, limits)
        except BaseException:
            self._starter.end(live)
            raise
        return live
