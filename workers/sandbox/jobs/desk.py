"""All tasks of one host: started, cancelled by job, drained. The plain class behind the host's actor.

It decides nothing: placement sent the task here, the host has the last word on whether it fits, `run` does the work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from workers.attempt import Attempt, not_started
from workers.errors import VolumeUnavailable
from workers.sandbox.errors import HostClosed
from workers.sandbox.jobs.run import Course, Leases, run_task
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask
from workers.volumes.store import Volume

POLL_S = 0.02


class Desk:
    def __init__(self, host: Leases, volumes: Mapping[str, Volume], doors: Path | None = None) -> None:
        """`doors`: where the pools of this node listen for requests of doors to their databases."""
        self._host = host
        self._doors = doors
        self._volumes = volumes
        self._courses: dict[str, tuple[SandboxTask, Course]] = {}
        self._closed = False

    @property
    def running(self) -> int:
        return len(self._courses)

    async def run(self, task: SandboxTask) -> Attempt:
        """The attempt. Raises nothing but the caller's own CancelledError."""
        if self._closed:
            return not_started(task, HostClosed("this host takes no more work", hint="another host may take it"))
        wanted = {task.volume, *(each.volume for each in task.inputs)}
        wanted |= {each.source.volume for each in task.files}
        wanted |= {task.code_file.volume} if task.code_file else set()
        if unknown := sorted(wanted - set(self._volumes)):
            return not_started(task, VolumeUnavailable(f"volume {unknown[0]} is not known on this host"))
        course = Course(main=asyncio.current_task())
        self._courses[task.attempt_id] = (task, course)
        try:
            return await run_task(self._host, task, self._volumes, course, self._doors)
        finally:
            del self._courses[task.attempt_id]

    async def cancel(self, job_id: str, tenant: str | None = None) -> bool:
        """End a job's code and wait until its sandbox is killed; False when none runs here."""
        meant = [
            course for task, course in self._courses.values() if task.job_id == job_id and tenant in (None, task.tenant)
        ]
        for course in meant:
            if not course.cancelled:
                await course.cancel()
        return bool(meant)

    async def hear(self, job_id: str, tenant: str, stdout_from: int, stderr_from: int) -> Heard:
        """What a job of this tenant has written beyond these offsets; nothing of one that does not run here."""
        for task, course in self._courses.values():
            if (task.job_id, task.tenant) == (job_id, tenant):
                return await course.tail.read(stdout_from, stderr_from)
        return Heard()

    async def drain(self, timeout_s: float) -> bool:
        """Take no more; True when everything has ended in time."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._courses:  # noqa: ASYNC110 - bounded, and once in a host's life
                    await asyncio.sleep(POLL_S)
        return not self._courses
