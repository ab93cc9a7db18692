"""One task on this host, from lease to attempt: a sandbox that nobody used, inputs, code, what it left, its ending.

Called by `desk`. Read `_in_lease`: it is the life of an attempt. Never raises: whatever happens is how it ended. The
sandbox belongs to this attempt alone and is destroyed however the attempt ends. Nothing that comes out of it is
decoded, opened or followed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from sandpool.outcome import Display, Ending, ErrorInfo, File, Manifest, Part, Said, Usage
from workers.attempt import Attempt, not_started
from workers.errors import WorkerError
from workers.gpu.shares import Share
from workers.sandbox.cgroup import CgroupUsage
from workers.sandbox.databases import doors_to, variables
from workers.sandbox.errors import RunnerLost, SandboxError, SessionError
from workers.sandbox.jobs.collecting import Collected, Place, collect, keep_displays, keep_texts
from workers.sandbox.jobs.endings import LOST, Facts, ending_of, ending_unread
from workers.sandbox.jobs.errors import OutputsStuck
from workers.sandbox.jobs.execution import execute
from workers.sandbox.jobs.staging import stage
from workers.sandbox.jobs.table import Result, take_result
from workers.sandbox.lease import Lease
from workers.sandbox.limits import Limits
from workers.sandbox.replies import Execution
from workers.sandbox.tail import Tail
from workers.sandbox.task import SandboxTask
from workers.timing import timed, timings
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.jobs")

LEASE_S = 90.0
"""For a sandbox to be there: the very first one of an image makes its snapshot first."""
STAGE_S = 600.0
COLLECT_S = 600.0
STUCK = f"the outputs could not be read within {COLLECT_S:g} s"
OVERHEAD_S = LEASE_S + STAGE_S + COLLECT_S
"""Beyond the code's own time limit an attempt never takes longer than this."""


class Leases(Protocol):
    """What this needs of a host (`workers.sandbox.host`)."""

    def lease(
        self, image: str, limits: Limits, *, tenant: str, gpus: Sequence[Share] = ()
    ) -> AbstractAsyncContextManager[Lease]: ...


@dataclass(slots=True)
class Course:
    """How far an attempt has come; its owner stops it by `cancel`."""

    cancelled: bool = False
    began: bool = False
    """Its code may have run."""
    lost: bool = False
    """Its sandbox was ended from outside."""
    lease: Lease | None = None
    usage: Usage = field(default_factory=Usage)
    main: asyncio.Task[Attempt] | None = None
    tail: Tail = field(default_factory=Tail)
    """What its code has written so far."""

    async def cancel(self) -> None:
        """End it soon: what it printed until now is kept where its code runs already."""
        self.cancelled = True
        if self.lease is not None:
            await self.lease.kill()
        elif self.main is not None:
            self.main.cancel()


async def run_task(
    host: Leases, task: SandboxTask, volumes: Mapping[str, Volume], course: Course, doors: Path | None = None
) -> Attempt:
    """The attempt. `doors`: where the pools of this node listen. Raises nothing but the caller's own CancelledError."""
    with timings() as measured:
        attempt = await _run_task(host, task, volumes, course, doors)
    return msgspec.structs.replace(attempt, timings=measured.stages)


async def _run_task(
    host: Leases, task: SandboxTask, volumes: Mapping[str, Volume], course: Course, doors: Path | None
) -> Attempt:
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(task.timeout_s + OVERHEAD_S):
            attempt = await _in_lease(host, task, volumes, course, doors)
    except asyncio.CancelledError:
        if not course.cancelled or course.main is None:
            raise
        course.main.uncancel()
        attempt = _ended(task, Ending.Cancelled, ErrorInfo("job.cancelled", "cancelled before its code ran"))
    except TimeoutError:
        attempt = _ended(
            task, Ending.Lost, ErrorInfo("sandbox.stuck", "the host did not get on with it", retryable=True)
        )
    except SessionError as error:
        # Before or after its own code: what is left of the sandbox says why.
        attempt = await _broken(task, course, error)
    except WorkerError as error:
        if isinstance(error, SandboxError) and error.detail:
            log.warning("not run", job=task.job_id, code=error.code, detail=error.detail[:500])
        attempt = not_started(task, error)
    except Exception:
        log.exception("unexpected error while running a task", job=task.job_id, tenant=task.tenant)
        attempt = _ended(task, Ending.Failed, ErrorInfo("sandbox.failed", "the host failed on this job"))
    run_s = round(time.monotonic() - started_s, 6)
    usage = attempt.usage if attempt.usage != Usage() else course.usage
    return msgspec.structs.replace(attempt, usage=msgspec.structs.replace(usage, run_s=run_s))


async def _in_lease(
    host: Leases, task: SandboxTask, volumes: Mapping[str, Volume], course: Course, doors: Path | None
) -> Attempt:
    place = Place(task, volumes[task.volume])
    async with _handed_out(host, task, course) as lease:
        before = await lease.usage()
        with timed("inputs"):
            async with asyncio.timeout(STAGE_S):
                wanted = (*task.inputs, *(file.source for file in task.files))
                input_bytes = await stage(wanted, volumes, lease.inbox, task.most_input_bytes)
        async with AsyncExitStack() as opened:
            if task.databases:
                identity = {"tenant": task.tenant, "job_id": task.job_id, "attempt_id": task.attempt_id}
                ways = doors_to(task.databases, lease.sockets, doors, **identity, volume=task.volume)
                await opened.enter_async_context(ways)
            task = msgspec.structs.replace(task, env={**variables(task.databases, task.files), **task.env})
            course.began = True
            with timed("code"):
                execution = await execute(lease, task, volumes, course.tail.take)
        course.tail.end()
        facts = await _facts(lease, execution, course)
        ending, error = ending_of(execution, facts, lease.limits, task.timeout_s)
        said = await keep_texts(execution, place)
        result, collected = Result(), Collected()
        if lease.session.usable and not course.cancelled:
            try:
                with timed("upload"):
                    async with asyncio.timeout(COLLECT_S):
                        if ending is Ending.Succeeded:
                            result = await take_result(lease.session, task, place)
                        collected = await collect(lease.session, task, place)
            except (SessionError, TimeoutError) as broken:  # what it printed is here, and tells why
                unread = broken if isinstance(broken, SessionError) else OutputsStuck(STUCK)
                if ending is Ending.Succeeded:
                    ending, error = ending_unread(unread, await _facts(lease, execution, course), lease.limits)
        trouble = result.error or collected.error
        if ending is Ending.Succeeded and trouble is not None:
            ending, error = trouble.ending, trouble.info()
        displays = await keep_displays(execution, place)
        manifest = msgspec.structs.replace(
            result.manifest,
            files=tuple(collected.files),
            displays=displays,
            omitted=collected.omitted + execution.omitted,
            partial=result.manifest.partial or (collected.error is not None and bool(collected.files)),
        )
        if result.ending is not None and ending is Ending.Succeeded:
            ending, error = result.ending
        course.usage = _usage(course.usage, before, await lease.usage(), execution, manifest, input_bytes)
    return Attempt(
        job_id=task.job_id,
        attempt_id=task.attempt_id,
        ending=ending,
        error=error,
        usage=course.usage,
        manifest=manifest,
        inline=result.answer,
        said=said,
    )


@contextlib.asynccontextmanager
async def _handed_out(host: Leases, task: SandboxTask, course: Course) -> AsyncIterator[Lease]:
    """The sandbox, there within LEASE_S; whoever cancels from now on kills it."""
    started_s = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        with timed("restore"):
            async with asyncio.timeout(LEASE_S):
                wanted = host.lease(task.image, task.limits, tenant=task.tenant, gpus=task.gpus)
                lease = await stack.enter_async_context(wanted)
        course.usage = Usage(hand_out_s=round(time.monotonic() - started_s, 6), image=_short(lease.image))
        course.lease = lease
        try:
            yield lease
        except SessionError:
            ended = await lease.ended()
            course.lost = ended is not None and ended.lost
            raise
        finally:
            course.lease = None


async def _facts(lease: Lease, execution: Execution, course: Course) -> Facts:
    """What the kernel says, where the session alone cannot know."""
    if course.cancelled:
        return Facts(cancelled=True)
    if lease.session.usable and execution.ending in (Ending.Succeeded, Ending.OutputCapped):
        return Facts()
    if lease.session.usable:
        return Facts(out_of_memory=(await lease.usage()).oom_kills > 0)
    ended = await lease.ended()
    if ended is None:
        return Facts(out_of_memory=(await lease.usage()).oom_kills > 0)
    return Facts(ended=True, out_of_memory=ended.out_of_memory, lost=ended.lost)


async def _broken(task: SandboxTask, course: Course, error: SessionError) -> Attempt:
    """The sandbox went away while it was prepared, or while its outputs were read."""
    if course.cancelled:
        return _ended(task, Ending.Cancelled, ErrorInfo("job.cancelled", "cancelled while it ran"))
    if course.lost or (isinstance(error, RunnerLost) and not course.began):
        return _ended(task, Ending.Lost, ErrorInfo(LOST, "the sandbox was ended from outside", retryable=True))
    return not_started(task, error)


def _usage(
    handed_out: Usage,
    before: CgroupUsage,
    after: CgroupUsage,
    execution: Execution,
    manifest: Manifest,
    input_bytes: int,
) -> Usage:
    written: list[File | Display | Part] = [*manifest.files, *manifest.displays, *manifest.parts]
    return msgspec.structs.replace(
        handed_out,
        rows=manifest.rows,
        size_bytes=sum(each.size_bytes for each in written),
        cpu_s=round(max(0.0, after.cpu_s - before.cpu_s), 6),
        peak_memory_bytes=after.peak_memory_bytes,
        output_bytes=execution.usage.output_bytes,
        input_bytes=input_bytes,
    )


def _ended(task: SandboxTask, ending: Ending, error: ErrorInfo) -> Attempt:
    return Attempt(job_id=task.job_id, attempt_id=task.attempt_id, ending=ending, error=error, said=Said())


def _short(image: str) -> str:
    name, _, digest = image.partition("@")
    return f"{name}@{digest[:12]}" if digest else name
