"""Submits one job and waits for its outcome; Ctrl-C cancels it before the command leaves. Called by `sql` and `run`."""

from __future__ import annotations

import asyncio
from typing import Protocol

from cluster.cli.invocation import Invocation
from sandpool.client import AsyncHandle
from sandpool.errors import SandpoolError
from sandpool.job import Job
from sandpool.outcome import Outcome

CANCEL_TIMEOUT_S = 5.0
WAIT_BEYOND_RUN_S = 540.0
"""How much longer than the job's own time limit we wait for it, by default: it may queue behind others."""


LOOK_S, SELDOM_S = 0.2, 1.0
"""Between two looks at what a job writes: while it writes, and after silence."""


class Viewer(Protocol):
    """Shows what a job writes."""

    def show(self, attempt: int, stdout: bytes, stderr: bytes) -> None: ...

    def offsets(self) -> tuple[int, int]:
        """Bytes of stdout and stderr that it has got of this attempt."""


async def wait_for(invocation: Invocation, job: Job, wait_s: float | None, viewer: Viewer | None = None) -> Outcome:
    """Raises what submitting and waiting raise. `viewer` is shown what the job writes while it runs."""
    async with invocation.connection() as client:
        try:
            handle = await client.submit(job)
            watching = asyncio.create_task(_watch(handle, viewer)) if viewer is not None else None
            try:
                return await handle.outcome(timeout=wait_s or job.timeout_s + WAIT_BEYOND_RUN_S)
            finally:
                if watching is not None:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)  # what it could not print fails again below
        except asyncio.CancelledError:
            # Ctrl-C: nobody wants this job any more, so it must not go on using anything. By its id, because it may
            # have been sent without being confirmed yet.
            try:
                await client.cancel(job.id, volume=job.volume, timeout=CANCEL_TIMEOUT_S)
                invocation.say(f"cancelled job {job.id}")
            except SandpoolError as error:
                invocation.say(f"job {job.id} may go on: {error}")
            raise


async def _watch(handle: AsyncHandle, viewer: Viewer) -> None:
    """Until it has ended. A cluster that cannot tell is no reason not to wait: the outcome holds everything."""
    pause_s = LOOK_S
    while not handle.ended:
        await asyncio.sleep(pause_s)
        try:
            heard = await handle.output(*viewer.offsets())
        except SandpoolError:
            return
        if heard.stdout or heard.stderr:
            viewer.show(heard.attempt, heard.stdout, heard.stderr)
        pause_s = LOOK_S if heard.stdout or heard.stderr else min(SELDOM_S, 1.5 * pause_s)
