"""Notices that the last job of a group has ended, and publishes that once.

Called by the scheduler for each job of a group, after its ending is recorded and before its message is acknowledged: a
crash in between brings the message back, and with it this look. What is known lies in the volume (`workers.volumes.
group`); in memory is only an estimate of when to look again. The event is published before the completion is recorded:
after a crash in between it is published once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from cluster.run import Run
from queues.door import Door
from queues.errors import QueueError
from sandpool.job import Group
from sandpool.outcome import Outcome
from sandpool.wire import GroupEnding, encode_group
from workers.errors import VolumeError
from workers.volumes.group import acreate_mark, clear_marks, complete, count_marks
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.groups")

QUIET_S = 2.0
"""After so long without an ending a group is looked at again: another scheduler may have ended its other jobs."""
MOST_GROUPS = 1000
"""Groups with an estimate in memory; the longest quiet ones are forgotten and looked at anew when they go on."""


@dataclass(slots=True)
class _Estimate:
    """Jobs of a group known to have ended: those counted at the last look, and those that ended here since."""

    counted: int = -1
    since: int = 0
    quiet: asyncio.TimerHandle | None = None

    def may_be_all(self, size: int) -> bool:
        return self.counted < 0 or self.counted + self.since >= size


class Groups:
    """All groups that this scheduler has met."""

    def __init__(self, door: Door, volumes: Mapping[str, Volume]) -> None:
        self._door = door
        self._volumes = volumes
        self._estimates: dict[tuple[str, str, Group], _Estimate] = {}
        self._locks: dict[tuple[str, str, Group], asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ended(self, run: Run, outcome: Outcome) -> None:
        """One more job of its group has this ending. Raises VolumeError, QueueError: then it is said again."""
        if run.job.group is None:
            return
        key = (run.home.name, run.tenant, run.job.group)
        await acreate_mark(self._volumes[run.home.name], run.tenant, run.job.group, outcome.ending, run.job.id)
        estimate = self._estimates.pop(key, None) or _Estimate()
        self._estimates[key] = estimate  # last in the order of forgetting
        estimate.since += 1
        if estimate.may_be_all(run.job.group.size):
            await self._look(key)
        else:
            self._look_when_quiet(key, estimate)
        self._forget_some()

    async def drain(self, timeout_s: float) -> None:
        """Let looks under way end; timers are given up, for the next scheduler looks again when it meets the group."""
        for estimate in self._estimates.values():
            if estimate.quiet is not None:
                estimate.quiet.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()

    async def _look(self, key: tuple[str, str, Group]) -> None:
        """Count what the volume has; publish and record when that is all."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            volume_name, tenant, group = key
            volume = self._volumes[volume_name]
            estimate = self._estimates.get(key) or _Estimate()
            since = estimate.since
            endings = await asyncio.to_thread(count_marks, volume, tenant, group)
            if endings is None:
                self._estimates.pop(key, None)
                await asyncio.to_thread(clear_marks, volume, tenant, group)
                return
            estimate.counted, estimate.since = sum(endings.values()), estimate.since - since
            if estimate.counted < group.size:
                self._look_when_quiet(key, estimate)
                return
            ending = GroupEnding(
                tenant=tenant, name=group.name, size=group.size, endings=dict(endings), ended_at=datetime.now(UTC)
            )
            await self._door.publish_event(f"group.{tenant}.{group.name}", encode_group(ending))
            await asyncio.to_thread(complete, volume, ending)
            self._estimates.pop(key, None)
            log.info("group complete", tenant=tenant, group=group.name, size=group.size)

    def _look_when_quiet(self, key: tuple[str, str, Group], estimate: _Estimate) -> None:
        if estimate.quiet is not None:
            estimate.quiet.cancel()
        estimate.quiet = asyncio.get_running_loop().call_later(QUIET_S, self._start_look, key)

    def _start_look(self, key: tuple[str, str, Group]) -> None:
        estimate = self._estimates.get(key)
        if estimate is None or not estimate.since:
            return  # nothing has ended since the last look
        task = asyncio.get_running_loop().create_task(self._look_again(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_again(self, key: tuple[str, str, Group]) -> None:
        try:
            await self._look(key)
        except (VolumeError, QueueError) as error:
            log.warning("group not looked at", tenant=key[1], group=key[2].name, error=str(error))
            if (estimate := self._estimates.get(key)) is not None:
                estimate.since = max(1, estimate.since)
                self._look_when_quiet(key, estimate)

    def _forget_some(self) -> None:
        while len(self._estimates) > MOST_GROUPS:
            key = next(iter(self._estimates))
            if (quiet := self._estimates.pop(key).quiet) is not None:
                quiet.cancel()
        if len(self._locks) <= 2 * MOST_GROUPS:
            return
        for key in [key for key, lock in self._locks.items() if key not in self._estimates and not lock.locked()]:
            del self._locks[key]
