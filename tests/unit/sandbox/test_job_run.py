"""A sandbox that somebody else ended is a lost attempt, which is tried again, at whatever moment it happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sandpool.outcome import Ending
from workers.gpu.shares import Share
from workers.sandbox.cgroup import CgroupUsage
from workers.sandbox.errors import RunnerAbsent, RunnerLost, SessionError
from workers.sandbox.jobs.run import Course, run_task
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Ended
from workers.sandbox.task import SandboxTask
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

NO_USAGE: Any = CgroupUsage()
TASK = SandboxTask(
    tenant="acme", job_id="j1", attempt_id="1-a", kind="code", image="base", limits=Limits(), timeout_s=5.0,
    volume="results", code="1", most_input_bytes=1, most_files=1, most_files_bytes=1,
)  # fmt: skip


class Breaking:
    """A host whose sandboxes break: while they are handed out, or with their lease in hand."""

    def __init__(self, error: SessionError, code: int | None = None, *, handed_out: bool = False) -> None:
        self.error, self.code, self.handed_out = error, code, handed_out
        self.image = "base@1"

    @asynccontextmanager
    async def lease(self, image: str, limits: Limits, *, tenant: str, gpus: Sequence[Share] = ()) -> AsyncIterator[Any]:
        if not self.handed_out:
            raise self.error
        yield self

    async def usage(self) -> CgroupUsage:
        raise self.error

    async def ended(self) -> Ended | None:
        return None if self.code is None else Ended(id="sb-1", code=self.code, usage=NO_USAGE)


@pytest.mark.parametrize(
    ("host", "ending", "code"),
    [
        (Breaking(RunnerLost("gone")), Ending.Lost, "sandbox.lost"),
        (Breaking(RunnerAbsent("late")), Ending.Failed, "session.runner_absent"),
        (Breaking(RunnerLost("gone"), handed_out=True), Ending.Lost, "sandbox.lost"),
        (Breaking(SessionError("broken"), -9, handed_out=True), Ending.Lost, "sandbox.lost"),
        (Breaking(SessionError("broken"), 1, handed_out=True), Ending.Failed, "session.failed"),
    ],
)
async def test_a_sandbox_that_was_ended_from_outside_is_lost_and_retried(
    host: Breaking, ending: Ending, code: str
) -> None:
    volumes = {"results": open_volume(VolumeSpec(name="results", url="memory:///job-run"))}
    attempt = await run_task(host, TASK, volumes, Course())
    assert attempt.error is not None
    assert (attempt.ending, attempt.error.code) == (ending, code)
    assert attempt.error.retryable is (code in ("sandbox.lost", "session.runner_absent"))
