"""Runs the sweeper now and then: one bounded pass over every volume, in a thread, for as long as the conductor is up.

Owned by `cluster.app.Conductor`. What may be removed is decided by `workers.volumes.sweep`; this decides only when. Two
conductors that sweep one volume at once do no harm: what is gone already is passed over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from cluster.steady import SteadyClock
from workers.errors import WorkerError
from workers.volumes.store import Volume
from workers.volumes.sweep import ORPHAN_GRACE_S, Swept, sweep

log = structlog.get_logger("sandpool.sweeping")

FIRST_AFTER_S = 30.0
"""At most this long after the start, so that also a cluster that restarts often gets swept."""
LONGEST_PASS_S = 1800.0
STOP_DEADLINE_S = 5.0


class Sweeping:
    """A background task with an owner: `start`, then `stop`."""

    def __init__(self, volumes: Mapping[str, Volume], interval_s: float) -> None:
        self._volumes = volumes
        self._interval_s = interval_s
        self._cursors = dict.fromkeys(volumes, "")
        self._busy: dict[str, asyncio.Task[Swept]] = {}
        self._task: asyncio.Task[None] | None = None
        self._clock = SteadyClock(_wall(), time.monotonic(), ORPHAN_GRACE_S)

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="sweeping")

    async def stop(self) -> None:
        """No further pass. One that takes too long to wait for ends in its thread; what it removed stays removed."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if busy := [each for each in self._busy.values() if not each.done()]:
            await asyncio.wait(busy, timeout=STOP_DEADLINE_S)

    async def _run(self) -> None:
        await asyncio.sleep(min(self._interval_s, FIRST_AFTER_S) * random.uniform(0.5, 1.0))
        while True:
            for name in self._volumes:
                await self._sweep(name)
            await asyncio.sleep(self._interval_s * random.uniform(0.9, 1.1))

    async def _sweep(self, name: str) -> None:
        """One pass. Never raises: a volume that is away now is swept later, and no error ends the sweeping."""
        task = self._busy.get(name)
        if task is None or task.done():
            now, cursor = self._clock.now(_wall(), time.monotonic()), self._cursors[name]
            task = asyncio.create_task(asyncio.to_thread(sweep, self._volumes[name], now, cursor=cursor))
            self._busy[name] = task
        try:
            async with asyncio.timeout(LONGEST_PASS_S):
                swept = await asyncio.shield(task)
        except TimeoutError:
            log.warning("a pass takes long", volume=name)
        except WorkerError as error:
            log.warning("not swept", volume=name, code=error.code, error=error.message)
        except Exception:
            log.exception("unexpected error while sweeping", volume=name)
        else:
            self._cursors[name] = swept.cursor or ""
            if swept.removed or swept.corrupt:
                log.info("swept", volume=name, removed=swept.removed, corrupt=swept.corrupt[:10])


def _wall() -> datetime:
    return datetime.now(UTC)
