"""Where a host's sandboxes come from: a spare one, else one restored from its kind's snapshot, else a cold one.

Called by `host`. Carries out what `kinds` and `demand` decide: a pool for each kind that is used, snapshots made on
first use, spare ones within their budget. A sandbox that it hands out has never been used by anybody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from workers.sandbox.demand import Demand, WarmSpec, after_idle, after_take, allot
from workers.sandbox.errors import ReaperLost, RunnerAbsent, SandboxError, SnapshotUnusable
from workers.sandbox.image import Image
from workers.sandbox.kinds import Kind, deserves_snapshot, fresh_limits, kind_of, kinds_to_drop
from workers.sandbox.limits import Limits
from workers.sandbox.pool import WarmPool
from workers.sandbox.sandboxes import Sandboxes
from workers.sandbox.starter import Live, Starter
from workers.sandbox.warm import WarmSnapshots

log = structlog.get_logger("sandpool.stock")

WELL_S = 1.0
"""For a spare sandbox to answer when it is handed out."""


class _Line:
    """One kind of sandbox, and who asked for it."""

    def __init__(self, kind: Kind, image: Image) -> None:
        self.kind = kind
        self.image = image
        self.pool: WarmPool
        self.demand = Demand()
        self.uses = 0
        self.takers = 0
        self.each_bytes = 0

    @property
    def quiet(self) -> bool:
        return not self.takers and not self.pool.busy


class Stock:
    def __init__(
        self, spec: WarmSpec, sandboxes: Sandboxes, starter: Starter, recover: Callable[[], Awaitable[None]]
    ) -> None:
        """`recover` is called when the process that owns all sandboxes is gone."""
        self._spec = spec
        self._sandboxes = sandboxes
        self._starter = starter
        self._recover = recover
        self.cores = len(os.sched_getaffinity(0))
        self._turns = asyncio.Semaphore(self.cores + 1)
        self._snapshots = WarmSnapshots(sandboxes, starter, self.cores, lambda _kind: self._allot())
        self._lines: dict[Kind, _Line] = {}
        self.handed_out = {"warm": 0, "made": 0}
        """Sandboxes since the start: that were there already, and that were made for whoever asked."""

    async def open(self) -> None:
        await self._snapshots.open(self._spec.most_kinds)

    async def close(self) -> None:
        """Spare ones go; nobody is served any more."""
        await self._snapshots.close()
        for line in self._lines.values():
            await line.pool.close()
        self._lines.clear()

    def spares(self) -> dict[str, int]:
        """`name@digest` -> sandboxes that could be handed out at once."""
        counted: Counter[str] = Counter()
        for line in self._lines.values():
            counted[f"{line.image.name}@{line.image.digest}"] += line.pool.spare
        return {ref: count for ref, count in counted.items() if count}

    async def take(self, image: Image, limits: Limits) -> Live:
        """One that nobody ever used, with these limits in force. Raises SandboxError."""
        kind = kind_of(image, limits)
        line = self._lines.get(kind) or self._add_line(kind, image)
        line.uses += 1
        line.takers += 1
        line.demand = after_take(line.demand, time.monotonic(), spare=line.pool.spare, spec=self._spec)
        try:
            spare = await self._well_spare(line)
            live = spare or await line.pool.take()
            self.handed_out["made" if spare is None else "warm"] += 1
            try:
                await self._starter.hand_out(live, limits)
            except BaseException:
                self._starter.end(live)
                raise
            return live
        finally:
            line.takers -= 1
            self._allot()  # only now: making the next one must not slow down this one

    async def look_after(self) -> None:
        """Now and then: what is not needed goes."""
        now_s = time.monotonic()
        for line in self._lines.values():
            line.demand = after_idle(line.demand, now_s, self._spec)
            spare_id = line.pool.spare_id()
            if spare_id is not None:
                line.each_bytes = (await self._sandboxes.usage(spare_id)).memory_bytes
        used_at_s = {kind: line.demand.used_at_s for kind, line in self._lines.items() if line.quiet}
        for kind in kinds_to_drop(used_at_s, self._spec.most_kinds):
            await self._lines.pop(kind).pool.close()
            await self._snapshots.drop(kind)
        self._allot()

    def drop_spares(self) -> None:
        for line in self._lines.values():
            line.pool.drop_all()

    def _add_line(self, kind: Kind, image: Image) -> _Line:
        line = self._lines[kind] = _Line(kind, image)
        line.pool = WarmPool(lambda: self._make(line), self._starter.end, self._turns)
        return line

    async def _well_spare(self, line: _Line) -> Live | None:
        """A spare one that answers. It draws new seeds too: the time since its restore was not its own."""
        while (live := line.pool.take_spare()) is not None:
            try:
                async with asyncio.timeout(WELL_S):
                    await live.session.reseed()
                return live
            except (SandboxError, TimeoutError) as error:
                log.warning("a spare sandbox was not well", sandbox=live.id, error=str(error))
                self._starter.end(live)
            except BaseException:
                self._starter.end(live)
                raise
        return None

    async def _make(self, line: _Line) -> Live:
        try:
            return await self._make_once(line)
        except ReaperLost:
            await self._recover()
            return await self._make_once(line)

    async def _make_once(self, line: _Line) -> Live:
        kind, image = line.kind, line.image
        limits = fresh_limits(image, kind, self.cores)
        snapshot = await self._snapshots.find(kind, image)
        if snapshot is not None:
            try:
                return await self._starter.restored(snapshot, image, limits)
            except (SnapshotUnusable, RunnerAbsent) as error:
                await self._snapshots.spoil(kind, image, error)
        elif deserves_snapshot(kind, image, line.uses):
            self._snapshots.begin(kind, image)
        return await self._starter.cold(image, limits)

    def _allot(self) -> None:
        """Only kinds with a snapshot have spare ones: a cold one would come without its imports."""
        demands = {kind: line.demand for kind, line in self._lines.items() if self._snapshots.has(kind)}
        each_bytes = {kind: line.each_bytes for kind, line in self._lines.items() if line.each_bytes}
        for kind, count in allot(demands, each_bytes, self._spec).items():
            self._lines[kind].pool.keep(count)
