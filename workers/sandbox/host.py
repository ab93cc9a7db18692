"""All sandboxes of one node, behind one plain class: leases for jobs, kept ones for people, warm ones for both.

Called by the host's actor (and by tests, without Ray). `lease` is the story of a job's sandbox: resolve the image,
promise what it may use, take one that nobody ever used, hand it out, destroy it however the body ends. What is decided
on the way is decided elsewhere, purely: `capacity`, `kinds`, `demand`. Nothing of a host outlives its process but
snapshots and paused sandboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import structlog

from workers.errors import WorkerError
from workers.gpu.desk import GpuDesk, Hold
from workers.gpu.shares import Share
from workers.sandbox.births import Births
from workers.sandbox.bundle import check_limits
from workers.sandbox.errors import HostClosed
from workers.sandbox.hosting import HostSpec, HostStatus, Images
from workers.sandbox.image import Image
from workers.sandbox.invocation import RunscSpec
from workers.sandbox.kept import KeptSandboxes
from workers.sandbox.kept_doors import KeptDoors
from workers.sandbox.kept_files import KeptFiles
from workers.sandbox.lease import Lease
from workers.sandbox.limits import Limits
from workers.sandbox.promises import Promises
from workers.sandbox.sandboxes import Sandboxes
from workers.sandbox.starter import Starter
from workers.sandbox.stock import Stock

log = structlog.get_logger("sandpool.host")

TICK_S = 1.0
DRAIN_POLL_S = 0.02


class Host:
    def __init__(self, spec: HostSpec, images: Images, runsc: RunscSpec | None = None) -> None:
        """On the event loop that it will be used on."""
        self.spec = spec
        self._images = images
        self._sandboxes = Sandboxes(Path(spec.folder), name=spec.name, spec=runsc)
        self._starter = Starter(self._sandboxes)
        self._stock = Stock(spec.warm, self._sandboxes, self._starter, self._recover)
        self._promises = Promises(spec.capacity, lambda: self.on_change())
        self._gpus = GpuDesk(Path(spec.folder) / "gpus")
        self.kept = KeptSandboxes(
            self._sandboxes,
            Births(self._starter, self._stock, self._promises),
            self._resolve,
            spec.most_paused,
            KeptDoors(Path(spec.doors)),
            KeptFiles(Path(spec.folder) / "files"),
        )
        self._leases: dict[str, Lease] = {}
        self._recovering = asyncio.Lock()
        self._refs: tuple[str, ...] = ()
        self._in_use: dict[str, ExitStack] = {}
        self._upkeep: asyncio.Task[None] | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Called when `view` may say something new: room came free, or a second went by."""
        self._is_open = False

    async def open(self) -> list[str]:
        """Start; ids of what an earlier process of this host left running, destroyed now. SandboxingUnavailable."""
        orphans = await self._sandboxes.open()
        self._is_open = True
        try:
            await self._stock.open()
            await self._gpus.open()
            await self.kept.open()
            self._refs = tuple(await asyncio.to_thread(self._images.refs))
        except BaseException:
            await self.close()
            raise
        self._upkeep = asyncio.create_task(self._look_after(), name="upkeep of sandboxes")
        if orphans:
            log.warning("sandboxes of an earlier host process destroyed", sandboxes=orphans)
        return orphans

    async def save_kept(self) -> list[str]:
        """Pause every kept sandbox for the host that comes next, and start nothing any more; why some could not be."""
        self._is_open = False
        return await self.kept.pause_all()

    async def close(self, drain_timeout_s: float = 0.0) -> None:
        """Hand out no more; give leases so long to end by themselves; then end everything. Snapshots stay."""
        self._is_open = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout_s):
                while self._leases:  # noqa: ASYNC110 - bounded, and once in a host's life
                    await asyncio.sleep(DRAIN_POLL_S)
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
        await self._stock.close()
        await self._gpus.close()
        await self.kept.close()
        for lease in list(self._leases.values()):
            await lease.kill()
        await self._starter.close()
        await self._sandboxes.close()
        for held in self._in_use.values():
            held.close()
        self._in_use.clear()

    def view(self) -> HostStatus:
        """What is here now. Costs next to nothing: asked for again and again."""
        taken = self._promises.taken
        return HostStatus(
            memory_bytes=self.spec.memory_bytes,
            cpus=self.spec.cpus,
            most_sandboxes=self.spec.most_sandboxes,
            reserved_bytes=taken.memory_bytes,
            reserved_cpus=taken.cpus,
            sandboxes=taken.sandboxes,
            warm=self._stock.spares(),
            images=self._refs,
            paused=self.kept.on_disk,
            handed_out=dict(self._stock.handed_out),
            open=self._is_open,
            gpus=self._gpus.status(),
            no_gpus=self._gpus.reason(),
        )

    @asynccontextmanager
    async def lease(
        self, image: str, limits: Limits, *, tenant: str, gpus: Sequence[Share] = ()
    ) -> AsyncIterator[Lease]:
        """A sandbox that nobody ever used, for one job of one tenant; destroyed when the body ends, however it ends.

        Raises HostFull and HostClosed (another host may take it), SpecInvalid, other SandboxErrors, and what the image
        store raises for an image that is not there. With `gpus` also GpuBusy and GpuUnavailable (another host may).
        """
        found = await self._resolve(image)
        check_limits(found, limits)
        promise = await self._promises.make(limits)
        hold: Hold | None = None
        try:
            if gpus:
                hold = await self._gpus.take(gpus, tenant)
                live = await self._starter.cold(found, limits, hold.passage)  # nothing on a GPU can be restored
            else:
                live = await self._stock.take(found, limits)
        except BaseException:
            self._promises.drop(promise)
            self._gpus.give_back(hold)
            raise
        lease = self._leases[live.id] = Lease(live, self._sandboxes, tenant)
        try:
            yield lease
        finally:
            del self._leases[live.id]
            # Killed at once, cleaned away while the caller goes on: what it was promised counts until it is gone.
            ending = self._starter.end(live)
            lease.close_with(ending)
            ending.add_done_callback(lambda _: self._gpus.give_back(hold))
            self._promises.drop_after(promise, ending)  # last: it tells who waits for room

    async def _resolve(self, ref: str) -> Image:
        """The image, which nobody removes from now on."""
        if not self._is_open:
            raise HostClosed("this host takes no more work", hint="try again: another host may take it")
        image = await asyncio.to_thread(self._images.resolve, ref)
        if image.digest not in self._in_use:
            held = self._in_use[image.digest] = ExitStack()
            try:
                await asyncio.to_thread(held.enter_context, self._images.in_use(image.digest))
            except BaseException:
                del self._in_use[image.digest]
                raise
        return image

    async def _look_after(self) -> None:
        """Every second, for as long as the host is open; at once when the reaper is gone: until then what it watched
        over runs on."""
        while True:
            try:
                if await self._sandboxes.runsc.wait_lost(TICK_S):
                    await self._recover()
                    await asyncio.sleep(TICK_S)  # one that ends again and again is not started without a pause
                await self._stock.look_after()
                await self.kept.look_after()
                self._refs = tuple(await asyncio.to_thread(self._images.refs))
                self.on_change()
            except (WorkerError, OSError) as error:
                log.warning("upkeep failed, it is tried again", error=str(error))
                await asyncio.sleep(TICK_S)

    async def _recover(self) -> None:
        """The process that owns all sandboxes is gone, and they with it: start another."""
        async with self._recovering:
            if self._sandboxes.runsc.alive:
                return  # somebody else's call did it
            log.error("the reaper is gone and all sandboxes with it: starting again")
            self._stock.drop_spares()
            await self._sandboxes.recover()
