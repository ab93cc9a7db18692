"""Submits one job and waits for its outcome; Ctrl-C cancels it before the command leaves. Called by `sql` and `run`."""

from __future__ import annotations

import asyncio

from cluster.cli.invocation import Invocation
from sandpool.errors import SandpoolError
from sandpool.job import Job
from sandpool.outcome import Outcome

CANCEL_TIMEOUT_S = 5.0
WAIT_BEYOND_RUN_S = 540.0
"""How much longer than the job's own time limit we wait for it, by default: it may queue behind others."""


async def wait_for(invocation: Invocation, job: Job, wait_s: float | None) -> Outcome:
    """Raises what submitting and waiting raise."""
    async with invocation.connection() as client:
        try:
            handle = await client.submit(job)
            return await handle.outcome(timeout=wait_s or job.timeout_s + WAIT_BEYOND_RUN_S)
        except asyncio.CancelledError:
            # Ctrl-C: nobody wants this job any more, so it must not go on using anything. By its id, because it may
            # have been sent without being confirmed yet.
            try:
                await client.cancel(job.id, volume=job.volume, timeout=CANCEL_TIMEOUT_S)
                invocation.say(f"cancelled job {job.id}")
            except SandpoolError as error:
                invocation.say(f"job {job.id} may go on: {error}")
            raise
